// Throws away what has had its time: expired keys and tokens, stored answers, old counts, audit, events and deliveries past their
// retention. What can be much goes in batches, so that no statement holds locks for long.
import API
import Crypto
import HTTP
import Postgres

struct Housekeeping {
    let bench: Workbench

    private static let batch = 5000

    func run() throws {
        let days = bench.config.retentionDays
        // An expired key is kept a while, so that its user is told that it expired.
        try delete("from api_keys where expires_at < now() - interval '30 days'")
        try delete(
            """
            from api_keys where idle_seconds is not null and last_used_at < now() - interval '30 days'
            and last_used_at + idle_seconds * interval '1 second' < now() - interval '30 days'
            """)
        try delete("from sessions where expires_at < now()")
        try delete("from password_resets where expires_at < now()")
        try delete("from login_attempts where last_at < now() - interval '1 day'")
        try clear("idempotency_keys", "created_at < now() - interval '24 hours'")
        try clear("audit_log", "created_at < now() - \(days.audit)::int * interval '1 day'")
        try clear("events", "is_published and is_fanned_out and created_at < now() - \(days.events)::int * interval '1 day'")
        try clear("webhook_deliveries", "created_at < now() - \(days.deliveries)::int * interval '1 day'")
        try clear("topic_messages", "created_at < now() - \(days.deliveries)::int * interval '1 day'")
        try QueueKeeping(connection: bench.connection).clear()
        try clear("notifications", "created_at < now() - \(days.notifications)::int * interval '1 day'")
        try clear("server_metrics", "received_at < now() - \(days.metrics)::int * interval '1 day'")
        try clear("commands", "created_at < now() - \(days.metrics)::int * interval '1 day'")
        try clear("cron_runs", "finished_at is not null and created_at < now() - \(days.runs)::int * interval '1 day'")
        try clear("invocations", "finished_at is not null and created_at < now() - \(days.invocations)::int * interval '1 day'")
        for column in SealedColumn.allCases { try reseal(column) }
    }

    /// After a change of the installation's key: what is sealed under the previous one is sealed anew, so that it can be thrown away.
    /// A value that was changed meanwhile is left alone: it is sealed under the present key.
    private func reseal(_ column: SealedColumn) throws {
        let keyring = bench.config.keyring
        var last = ID(high: 0, low: 0)
        while true {
            let rows = try bench.connection.begin().commit(
                """
                select \(verbatim: column.id), \(verbatim: column.column) from \(verbatim: column.table)
                where \(verbatim: column.column) is not null and \(verbatim: column.id) > \(last) order by \(verbatim: column.id) limit 500
                """)
            for var row in rows {
                let (id, sealed): (ID, [UInt8]) = (row.next(), row.next())
                last = id
                guard keyring.needsReseal(sealed), let plain = try? keyring.open(sealed, column, of: id) else { continue }
                _ = try bench.connection.begin().commit(
                    """
                    update \(verbatim: column.table) set \(verbatim: column.column) = \(keyring.seal(plain, column, of: id))
                    where \(verbatim: column.id) = \(id) and \(verbatim: column.column) = \(sealed)
                    """)
            }
            if rows.count < 500 { return }
        }
    }

    private func delete(_ what: SQL) throws { _ = try bench.connection.begin().commit("delete \(what)") }

    private func clear(_ table: String, _ condition: SQL) throws {
        var removed = Self.batch
        while removed == Self.batch {
            removed = try bench.connection.begin().commit(
                """
                delete from \(verbatim: table) where ctid = any (
                    array(select ctid from \(verbatim: table) where \(condition) limit \(Self.batch)))
                """
            ).affected
        }
    }
}
