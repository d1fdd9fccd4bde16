// /topics: what is published goes to every subscriber: stored first, with one delivery for each, in one transaction (sql/0012_topics.sql).
// Tables: topics, topic_messages. Who gets it is in Subscriptions.swift; Sources/Jobs/SubscriptionDelivery.swift sends it to webhooks.
import API
import HTTP
import Identity
import Postgres

enum Topics {
    static let routes: [Route] = [
        .get("/topics", .permission(.topicRead), list),
        .create("/topics", .permission(.topicCreate), create),
        .get("/topics/:id", .permission(.topicRead), get),
        .put("/topics/:id", .permission(.topicUpdate), update),
        .delete("/topics/:id", .permission(.topicDelete), delete),
        .create("/topics/:id/publish", .permission(.topicPublish), publish),
    ]

    /// Of a message, as JSON.
    private static let messageLimit = 256 << 10

    private static let columns: SQL = "id, name, created_at, updated_at"

    private static func write(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.text("name", &row)
        out.time("created_at", &row)
        out.time("updated_at", &row)
    }

    private static func json(_ row: Row) -> JSON { ["data": .written { write(row, to: &$0) }] }

    private static func name(_ context: Context) throws -> String {
        var body = try context.fields()
        guard let name = body.required("name", .resourceName) else { throw body.refusal }
        return name
    }

    private static let refusals: [String: APIError] = ["topics_name_taken": .alreadyExists("You have a topic of this name already")]

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let rows = try context.commit("select \(columns) from topics where \(page.window)")
        return .json(page.envelope(rows, write))
    }

    private static func create(_ context: Context) throws -> Response {
        let name = try name(context)
        let id = context.newID()
        try context.send("select check_topic_quota(\(context.config.quota.topics), null)")
        try context.record("topic.created", id, ["name": .string(name)])
        try context.emit("topic.created", id, ["id": .string(id.description), "name": .string(name)])
        let rows = try context.commit("insert into topics (id, name) values (\(id), \(name)) returning \(columns)", refusals: refusals)
        return .created(json(rows[0]))
    }

    private static func get(_ context: Context) throws -> Response {
        let rows = try context.commit("select \(columns) from topics where id = \(try context.id())")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(json(row))
    }

    private static func update(_ context: Context) throws -> Response {
        let name = try name(context)
        let id = try context.id()
        let rows = try context.query(
            "update topics set name = \(name), updated_at = now() where id = \(id) returning \(columns)", refusals: refusals)
        guard let row = rows.first else { throw APIError.notFound }
        try context.record("topic.updated", id, ["name": .string(name)])
        try context.emit("topic.updated", id, ["id": .string(id.description), "name": .string(name)])
        return .json(json(row))
    }

    /// Its subscriptions, messages and their log go along.
    private static func delete(_ context: Context) throws -> Response {
        let id = try context.id()
        guard let name: String = try context.query("delete from topics where id = \(id) returning name").scalar() else {
            throw APIError.notFound
        }
        try context.record("topic.deleted", id)
        try context.emit("topic.deleted", id, ["id": .string(id.description), "name": .string(name)])
        return .message("Topic deleted")
    }

    private static func publish(_ context: Context) throws -> Response {
        var body = try context.fields()
        let message = body.required("message", Rule("must be a text or any other JSON") { $0 })
        if let message, message.bytes.count > messageLimit { throw APIError.bodyTooLarge(limit: messageLimit) }
        let attributes = body.optional("attributes", .attributes)
        guard let message, body.problems == nil else { throw body.refusal }
        let (topic, id) = (try context.id(), context.newID())
        try context.wakeJobs()
        let rows = try context.commit(
            """
            select published_at, subscribers, awaited
            from publish_message(\(topic), \(id), \(message.text), \((attributes ?? [:]).text), \(context.request.requestID))
            """)
        guard var row = rows.first else { throw APIError.notFound }
        let (time, subscribers): (Timestamp, Int) = (row.next(), row.next())
        context.wakeWaiting(forAll: row.next([String].self).compactMap(ID.init))
        return .created([
            "data": [
                "message_id": .string(id.description), "topic_id": .string(topic.description), "published_at": .string(time.description),
                "subscribers": .int(subscribers),
            ]
        ])
    }
}
