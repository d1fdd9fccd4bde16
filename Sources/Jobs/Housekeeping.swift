// Throws away what has had its time: expired keys and tokens, stored answers, old counts, the audit past its retention.
// What can be much goes in batches, so that no statement holds locks for long.
import API
import Postgres

struct Housekeeping {
    let bench: Workbench

    private static let batch = 5000

    func run() throws {
        let audit = bench.config.retentionDays.audit
        // An expired key is kept a while, so that its user is told that it expired.
        try delete("from api_keys where expires_at < now() - interval '30 days'")
        try delete(
            """
            from api_keys where idle_seconds is not null and last_used_at < now() - interval '30 days'
            and last_used_at + idle_seconds * interval '1 second' < now() - interval '30 days'
            """)
        try delete("from password_resets where expires_at < now()")
        try delete("from login_attempts where last_at < now() - interval '1 day'")
        try clear("idempotency_keys", "created_at < now() - interval '24 hours'")
        try clear("audit_log", "created_at < now() - \(audit)::int * interval '1 day'")
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
