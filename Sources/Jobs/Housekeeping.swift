// Throws away what has had its time: expired keys and tokens, stored answers, old counts, the audit past its retention.
// What can be much goes in batches, so that no statement holds locks for long.
import API
import Crypto
import HTTP
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
        try delete("from sessions where expires_at < now()")
        try delete("from password_resets where expires_at < now()")
        try delete("from login_attempts where last_at < now() - interval '1 day'")
        try clear("idempotency_keys", "created_at < now() - interval '24 hours'")
        try resealEnvironments()
        try resealClientSecrets()
        let notifications = bench.config.retentionDays.notifications
        try clear("notifications", "created_at < now() - \(notifications)::int * interval '1 day'")
        try clear("audit_log", "created_at < now() - \(audit)::int * interval '1 day'")
    }

    /// After a change of the installation's key: what is sealed under the previous one is sealed anew, so that it can be thrown away.
    private func resealEnvironments() throws {
        let keyring = bench.config.keyring
        var last = ID(high: 0, low: 0)
        while true {
            let rows = try bench.connection.begin().commit(
                "select id, env_sealed from instances where env_sealed is not null and id > \(last) order by id limit 500")
            for var row in rows {
                let (id, sealed): (ID, [UInt8]) = (row.next(), row.next())
                last = id
                guard keyring.needsReseal(sealed), let environment = try? keyring.openEnvironment(sealed, of: id) else { continue }
                _ = try bench.connection.begin().commit(
                    "update instances set env_sealed = \(keyring.sealEnvironment(environment, of: id)) where id = \(id)")
            }
            if rows.count < 500 { return }
        }
    }

    private func resealClientSecrets() throws {
        let keyring = bench.config.keyring
        var last = ID(high: 0, low: 0)
        while true {
            let rows = try bench.connection.begin().commit(
                "select owner_id, webhook_secret_sealed from clients where owner_id > \(last) order by owner_id limit 500")
            for var row in rows {
                let (owner, sealed): (ID, [UInt8]) = (row.next(), row.next())
                last = owner
                guard keyring.needsReseal(sealed), let secret = try? keyring.openClientSecret(sealed, of: owner) else { continue }
                // Where the client has renewed it meanwhile, there is nothing to do.
                _ = try bench.connection.begin().commit(
                    """
                    update clients set webhook_secret_sealed = \(keyring.sealClientSecret(secret, of: owner))
                    where owner_id = \(owner) and webhook_secret_sealed = \(sealed)
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
