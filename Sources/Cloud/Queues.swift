// /queues: message queues. A message is with one receiver at a time, comes back when its visibility is over, and goes to the dead-letter
// queue after `max_receive_count` receives. Tables: queues, queue_messages. What is sent and received is in Queues+Messages.swift.
import API
import HTTP
import Identity
import Postgres

enum Queues {
    static let routes: [Route] = [
        .get("/queues", .permission(.queueRead), list),
        .create("/queues", .permission(.queueCreate), create),
        .get("/queues/:id", .permission(.queueRead), get),
        .put("/queues/:id", .permission(.queueUpdate), update),
        .delete("/queues/:id", .permission(.queueDelete), delete),
        .action("/queues/:id/purge", .permission(.queueDelete), input: .none, purge),
        .create("/queues/:id/messages", .permission(.queueSend), bodyLimit: 2 << 20, send),
        .get("/queues/:id/messages", .permission(.queueReceive), pool: .long, receive),
        .action("/queues/:id/messages/delete", .permission(.queueReceive), input: .json, deleteMessages),
        .put("/queues/:id/messages/:receipt_handle", .permission(.queueReceive), changeVisibility),
        .delete("/queues/:id/messages/:receipt_handle", .permission(.queueReceive), deleteMessage),
    ]

    private static let columns: SQL =
        "id, name, visibility_timeout, delay, retention, max_receive_count, dead_letter_queue_id, created_at, updated_at"

    private static func write(_ row: inout Row, to out: inout JSONWriter) {
        out.id("id", &row)
        out.text("name", &row)
        out.member("visibility_timeout", .int(row.next(Int.self)))
        out.member("delay", .int(row.next(Int.self)))
        out.member("retention", .int(row.next(Int.self)))
        out.member("max_receive_count", .optional(row.next(Int?.self)))
        out.id("dead_letter_queue_id", &row)
        out.time("created_at", &row)
        out.time("updated_at", &row)
    }

    private static func json(_ row: Row) -> JSON {
        var row = row
        return ["data": .written { write(&row, to: &$0) }]
    }

    /// All members of a queue; none is needed by a change, only the name by a new one.
    private struct Draft {
        let name: String?
        let visibilityTimeout: Int?
        let delay: Int?
        let retention: Int?
        let maxReceiveCount: Int?
        let deadLetterQueue: ID?
        /// Members that are to go.
        let without: Set<String>

        static let names = ["name", "visibility_timeout", "delay", "retention", "max_receive_count", "dead_letter_queue_id"]

        init(_ body: Fields, of id: ID?) throws(APIError) {
            var body = body
            name = id == nil ? body.required("name", .resourceName) : body.optional("name", .resourceName)
            visibilityTimeout = body.optional("visibility_timeout", .visibilityTimeout)
            delay = body.optional("delay", .delay)
            retention = body.optional("retention", .integer(60...1_209_600))
            maxReceiveCount = body.optional("max_receive_count", .integer(1...1000))
            deadLetterQueue = body.optional("dead_letter_queue_id", .id)
            without = Set(["max_receive_count", "dead_letter_queue_id"].filter(body.isNull))
            if let id, deadLetterQueue == id { body.report("dead_letter_queue_id", "must be the id of another queue") }
            if id != nil, without.isEmpty, !Self.names.contains(where: body.has) {
                body.report("name", "or another member is required")
            }
            if let problems = body.problems { throw problems }
        }
    }

    private static let refusals: [String: APIError] = [
        "queues_name_taken": .alreadyExists("You have a queue of this name already"),
        "queues_delay_fits": .invalid("delay", "must be shorter than the retention"),
        "queues_dead_letter": .invalid("dead_letter_queue_id", Rule<ID>.id.requirement),
    ]

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let rows = try context.commit("select \(columns) from queues where \(page.window)")
        return .json(
            page.envelope(rows) { row, out in
                var row = row
                write(&row, to: &out)
            })
    }

    private static func create(_ context: Context) throws -> Response {
        let draft = try Draft(context.fields(), of: nil)
        let id = context.newID()
        try context.send("select check_queue_quota(\(context.config.quota.queues))")
        try context.record("queue.created", id, ["name": .optional(draft.name)])
        try context.emit("queue.created", id, ["id": .string(id.description), "name": .optional(draft.name)])
        let rows = try context.commit(
            """
            insert into queues (id, name, visibility_timeout, delay, retention, max_receive_count, dead_letter_queue_id)
            values (\(id), \(draft.name), \(draft.visibilityTimeout ?? 30), \(draft.delay ?? 0), \(draft.retention ?? 345_600),
            \(draft.maxReceiveCount), \(draft.deadLetterQueue)) returning \(columns)
            """, refusals: refusals)
        return .created(json(rows[0]))
    }

    /// The counts are of this moment: what is expired and not yet thrown away is left out.
    private static func get(_ context: Context) throws -> Response {
        let id = try context.id()
        let rows = try context.commit(
            """
            select \(columns), c.available, c.delayed, c.in_flight from queues q cross join lateral (
                select count(*) filter (where m.visible_at <= now()) as available,
                count(*) filter (where m.visible_at > now() and m.receipt is null) as delayed,
                count(*) filter (where m.visible_at > now() and m.receipt is not null) as in_flight
                from queue_messages m where m.queue_id = q.id
                and coalesce(m.arrived_at, m.sent_at) > now() - q.retention * interval '1 second') c
            where q.id = \(id)
            """)
        guard var row = rows.first else { throw APIError.notFound }
        return .json([
            "data": .written { out in
                write(&row, to: &out)
                let (available, delayed, inFlight): (Int, Int, Int) = (row.next(), row.next(), row.next())
                out.member("messages", ["available": .int(available), "delayed": .int(delayed), "in_flight": .int(inFlight)])
            }
        ])
    }

    /// What the settings say holds for the messages that are there, too; `visibility_timeout` and `delay` from the next receive and send on.
    private static func update(_ context: Context) throws -> Response {
        let body = try context.fields()
        let draft = try Draft(body, of: ID(context.parameters["id"] ?? "") ?? context.newID())
        let id = try context.id()
        let rows = try context.query(
            """
            update queues set name = coalesce(\(draft.name), name), delay = coalesce(\(draft.delay)::int, delay),
            visibility_timeout = coalesce(\(draft.visibilityTimeout)::int, visibility_timeout),
            retention = coalesce(\(draft.retention)::int, retention),
            max_receive_count = case when not \(draft.without.contains("max_receive_count"))
                then coalesce(\(draft.maxReceiveCount)::int, max_receive_count) end,
            dead_letter_queue_id = case when not \(draft.without.contains("dead_letter_queue_id"))
                then coalesce(\(draft.deadLetterQueue)::uuid, dead_letter_queue_id) end, updated_at = now()
            where id = \(id) returning \(columns)
            """, refusals: refusals)
        guard let row = rows.first else { throw APIError.notFound }
        try context.record("queue.updated", id, ["name": .optional(draft.name)])
        try context.emit("queue.updated", id, from: event(id))
        return .json(json(row))
    }

    private static func event(_ id: ID) -> SQL { "select jsonb_build_object('id', id, 'name', name) from queues where id = \(id)" }

    /// Its messages and the subscriptions that lead to it go along.
    private static func delete(_ context: Context) throws -> Response {
        let id = try context.id()
        try context.record("queue.deleted", id)
        try context.emit("queue.deleted", id, from: event(id))
        let inUse = APIError.conflict("Another queue names it as its dead-letter queue")
        guard try context.query("select from queues where id = \(id) for update").count == 1 else { throw APIError.notFound }
        guard try context.query("select from queues where dead_letter_queue_id = \(id) limit 1").isEmpty else { throw inUse }
        _ = try empty(id, context)
        _ = try context.query("delete from queues where id = \(id)", refusals: ["queues_dead_letter": inUse])
        return .message("Queue deleted")
    }

    private static func purge(_ context: Context) throws -> Response {
        let id = try context.id()
        guard try context.query("select from queues where id = \(id)").count == 1 else { throw APIError.notFound }
        let count = try empty(id, context)
        try context.record("queue.purged", id, ["messages": .int(count)])
        try context.emit("queue.purged", id, from: event(id))
        return .json(["message": "Queue purged", "deleted": .int(count)])
    }

    /// Deletes all messages, those at receivers too; in pieces, each within the time limit of a statement.
    private static func empty(_ id: ID, _ context: Context) throws -> Int {
        let batch = 50_000
        var count = 0
        while true {
            let deleted = try context.query(
                """
                delete from queue_messages where ctid = any (
                    array(select ctid from queue_messages where queue_id = \(id) order by visible_at limit \(batch)))
                """
            ).affected
            count += deleted
            if deleted < batch { return count }
        }
    }
}

extension Rule where Value == Int {
    static let visibilityTimeout = integer(0...43_200)
    static let delay = integer(0...900)
}
