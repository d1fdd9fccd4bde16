// Webhooks, their deliveries and the events that they wait for.
import HTTP
import Postgres
import TestSupport
import Testing

extension PlanTests {
    static let webhooks = Crowd(
        rows: [
            """
            insert into webhooks (id, owner_id, url, secret_sealed)
            select new_id(), id, 'https://hooks.example/', '\\x00' from users where name = 'crowd'
            """,
            """
            insert into webhook_deliveries (id, owner_id, webhook_id, event_id, event_type, body)
            select new_id(), owner_id, id, new_id(), 'a.b', '{}' from webhooks
            """,
            "insert into events (id, owner_id, type, is_published) select new_id(), id, 'a.b', true from users where name = 'crowd'",
        ],
        tables: ["webhooks", "webhook_deliveries", "events"],
        lists: [
            "webhooks",
            "webhook_deliveries where webhook_id = '01890000-0000-7000-8000-000000000000'",
        ])

    /// What thecloud-cron asks for one delivery, and for an event that nobody's webhook waits for.
    @Test(arguments: [
        """
        select d.body from webhook_deliveries d join webhooks w on w.owner_id = d.owner_id and w.id = d.webhook_id
        where d.id = '01890000-0000-7000-8000-000000000000' and d.status = 'PENDING'
        """,
        """
        update webhook_deliveries d set status = 'FAILED', next_attempt_at = null, finished_at = now() from webhooks w
        where w.owner_id = '01890000-0000-7000-8000-000000000000' and w.id = '01890000-0000-7000-8000-000000000000' and not w.is_active
        and d.owner_id = w.owner_id and d.webhook_id = w.id and d.status = 'PENDING'
        """,
        """
        select w.id from events e join webhooks w on w.owner_id = e.owner_id
        where e.id = any ('{01890000-0000-7000-8000-000000000000,01890000-0000-7000-8000-000000000001}') and w.is_active
        """,
    ])
    func deliveriesGoByIndex(statement: String) throws {
        let (database, _) = try Self.crowd.get()
        let transaction = try Connection(url: database.cron).begin()
        let text: String? = try transaction.query("explain (format json) \(verbatim: statement)").scalar()
        transaction.rollback()
        #expect(text?.contains("Index") == true && text?.contains("Seq Scan") == false, "\(text ?? "")")
    }
}
