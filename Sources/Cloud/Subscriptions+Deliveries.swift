// What each subscription was sent, and sending it again. Table: subscription_deliveries. A replay to a webhook keeps the message's id, as
// Standard Webhooks wants it; one into a queue is a message of its own there, because the first may still be in it.
import API
import HTTP
import Postgres

extension Subscriptions {
    private static let deliveryColumns: SQL =
        """
        id, subscription_id, message_id, status, attempts, next_attempt_at, response_status, response_excerpt, error, duration_ms, \
        (select m.body from topic_messages m where m.id = message_id), created_at, finished_at
        """

    private static func writeDelivery(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.id("subscription_id", &row)
        out.id("message_id", &row)
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
        let rows = try context.query(
            "select \(deliveryColumns) from subscription_deliveries where subscription_id = \(id) and \(page.window)")
        if rows.isEmpty, try context.query("select from subscriptions where id = \(id)").isEmpty { throw APIError.notFound }
        return .json(page.envelope(rows, writeDelivery))
    }

    /// One that is still being tried is tried now, within its schedule; one that has ended begins its schedule anew.
    static func replay(_ context: Context) throws -> Response {
        let (subscription, id) = (try context.id(), try context.id("delivery_id"))
        guard var present = try context.query("select is_active, protocol from subscriptions where id = \(subscription)").first else {
            throw APIError.notFound
        }
        guard present.next(Bool.self) else {
            throw APIError.conflict("The subscription is not active; PUT {\"is_active\": true} first")
        }
        let isQueue = present.next(String.self) == "queue"
        let change: SQL =
            isQueue
            ? "attempts = attempts + 1, finished_at = now()"
            : """
            status = 'PENDING', attempts = case when status = 'PENDING' then attempts else 0 end, next_attempt_at = now(), finished_at = null
            """
        let rows = try context.query(
            """
            update subscription_deliveries set \(change) where subscription_id = \(subscription) and id = \(id) returning \(deliveryColumns)
            """)
        guard let row = rows.first else { throw APIError.notFound }
        try context.record("subscription.replayed", subscription, ["delivery_id": .string(id.description)])
        if isQueue {
            let awaited = try context.query("select put_into_queues(\([id.description])::uuid[], true)::text[]").scalar([String].self)
            for queue in (awaited ?? []).compactMap(ID.init) { try context.wakeWaiting(for: queue) }
        } else {
            try context.enqueue("subscription_delivery", id)
        }
        return .json(["message": "The message goes out again", "data": .written { writeDelivery(row, to: &$0) }])
    }
}
