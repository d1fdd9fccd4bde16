// The log of a webhook, sending one of its messages again, and a message to try it with. Table: webhook_deliveries.
// A replay keeps the message's id, as Standard Webhooks wants it: receivers use it to do nothing twice.
import API
import HTTP
import Postgres

extension Webhooks {
    private static let deliveryColumns: SQL =
        """
        id, webhook_id, event_id, event_type, status, attempts, next_attempt_at, response_status, response_excerpt, error, duration_ms, body, \
        created_at, finished_at
        """

    private static func writeDelivery(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.id("webhook_id", &row)
        out.id("event_id", &row)
        out.text("event_type", &row)
        out.text("status", &row)
        out.member("attempts", .int(row.next(Int.self)))
        out.time("next_attempt_at", &row)
        out.member("response_status", .optional(row.next(Int?.self)))
        out.text("response_excerpt", &row)
        out.text("error", &row)
        out.member("duration_ms", .optional(row.next(Int?.self)))
        out.json("payload", &row)
        out.time("created_at", &row)
        out.time("finished_at", &row)
    }

    static func deliveries(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let id = try context.id()
        let rows = try context.query("select \(deliveryColumns) from webhook_deliveries where webhook_id = \(id) and \(page.window)")
        if rows.isEmpty, try context.query("select from webhooks where id = \(id)").isEmpty { throw APIError.notFound }
        return .json(page.envelope(rows, writeDelivery))
    }

    /// One that is still being tried is tried now, within its schedule; one that has ended begins its schedule anew.
    static func replay(_ context: Context) throws -> Response {
        let (webhook, id) = (try context.id(), try context.id("delivery_id"))
        try check(try context.query("select is_active from webhooks where id = \(webhook)"))
        let rows = try context.query(
            """
            update webhook_deliveries set status = 'PENDING', attempts = case when status = 'PENDING' then attempts else 0 end,
            next_attempt_at = now(), finished_at = null where webhook_id = \(webhook) and id = \(id) returning \(deliveryColumns)
            """)
        guard let row = rows.first else { throw APIError.notFound }
        try context.record("webhook.replayed", webhook, ["delivery_id": .string(id.description)])
        try context.enqueue("webhook_delivery", id)
        return answer("The message goes out again", row)
    }

    /// Whatever events the webhook wants, it gets this one.
    static func test(_ context: Context) throws -> Response {
        let webhook = try context.id()
        try check(try context.query("select is_active from webhooks where id = \(webhook)"))
        let (id, event) = (context.newID(), context.newID())
        let body: JSON = [
            "id": .string(event.description), "type": "webhook.test", "timestamp": .string(context.now.description),
            "data": ["webhook_id": .string(webhook.description)],
        ]
        try context.record("webhook.tested", webhook)
        try context.enqueue("webhook_delivery", id)
        let rows = try context.commit(
            """
            insert into webhook_deliveries (id, webhook_id, event_id, event_type, body)
            values (\(id), \(webhook), \(event), 'webhook.test', \(body.text)) returning \(deliveryColumns)
            """, refusals: ["webhook_deliveries_webhook": .notFound])
        return answer("A test message goes out", rows[0])
    }

    /// - Throws: `notFound` without a row, `conflict` where nothing is sent.
    private static func check(_ rows: Rows) throws(APIError) {
        guard let isActive = rows.scalar(Bool.self) else { throw .notFound }
        guard isActive else { throw .conflict("The webhook is not active; PUT {\"is_active\": true} first") }
    }

    private static func answer(_ message: String, _ row: Row) -> Response {
        .json(["message": .string(message), "delivery": .written { writeDelivery(row, to: &$0) }])
    }
}
