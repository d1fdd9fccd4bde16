// /subscriptions: who gets what is published on a topic: a webhook, signed by Standard Webhooks, or a queue of one's own. The secret of a
// webhook is shown when it is made. Tables: subscriptions, subscription_deliveries. The log is in Subscriptions+Deliveries.swift.
import API
import Crypto
import HTTP
import Identity
import Outbound
import Postgres

enum Subscriptions {
    static let routes: [Route] = [
        .get("/subscriptions", .permission(.topicRead), list),
        .create("/subscriptions", .permission(.topicUpdate), create),
        .get("/subscriptions/:id", .permission(.topicRead), get),
        .put("/subscriptions/:id", .permission(.topicUpdate), update),
        .delete("/subscriptions/:id", .permission(.topicUpdate), delete),
        .action("/subscriptions/:id/rotate", .permission(.topicUpdate), input: .none, rotate),
        .get("/subscriptions/:id/deliveries", .permission(.topicRead), deliveries),
        .action("/subscriptions/:id/deliveries/:delivery_id/replay", .permission(.topicUpdate), input: .none, replay),
    ]

    private static let columns: SQL = "id, topic_id, protocol, endpoint, is_active, disabled_reason, created_at, updated_at"

    private static func write(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.id("topic_id", &row)
        out.text("protocol", &row)
        out.text("endpoint", &row)
        out.member("is_active", .bool(row.next(Bool.self)))
        out.text("disabled_reason", &row)
        out.time("created_at", &row)
        out.time("updated_at", &row)
    }

    private static func json(_ row: Row, revealing secret: WebhookSecret? = nil) -> JSON {
        [
            "data": .written { out in
                write(row, to: &out)
                if let secret { out.member("secret", secret.text) }
            }
        ]
    }

    private struct Draft {
        let topic: ID
        let endpoint: Endpoint

        enum Endpoint {
            case webhook(url: String)
            case queue(ID)
        }

        init(_ body: Fields, _ egress: EgressRule) throws(APIError) {
            var body = body
            let topic = body.required("topic_id", .id)
            let name = body.required("protocol", .oneOf(["webhook", "queue"]))
            var endpoint: Endpoint?
            if name == "queue" {
                endpoint = body.required("endpoint", .id).map(Endpoint.queue)
            } else if let text = body.required("endpoint", Rule("must be an http or https URL, or the id of a queue") { $0.string }),
                name != nil || ID(text) == nil
            {
                endpoint = body.target("endpoint", text, egress).map { .webhook(url: $0.url) }
            }
            guard let topic, let endpoint, body.problems == nil else { throw body.refusal }
            self.topic = topic
            self.endpoint = endpoint
        }
    }

    private static let refusals: [String: APIError] = [
        "subscriptions_topic": .invalid("topic_id", Rule<ID>.id.requirement),
        "subscriptions_queue": .invalid("endpoint", Rule<ID>.id.requirement),
        "subscriptions_queue_taken": .alreadyExists("The queue is subscribed to this topic already"),
    ]

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        var condition: SQL = "true"
        if let text = context.request.query["topic_id"] {
            guard let topic = ID(text) else { throw APIError.invalid("topic_id", Rule<ID>.id.requirement) }
            condition = "topic_id = \(topic)"
        }
        let rows = try context.commit("select \(columns) from subscriptions where \(condition) and \(page.window)")
        return .json(page.envelope(rows, write))
    }

    private static func create(_ context: Context) throws -> Response {
        let draft = try Draft(context.fields(), context.config.egress)
        let id = context.newID()
        var (name, endpoint, queue, secret): (String, String, ID?, WebhookSecret?)
        switch draft.endpoint {
        case .webhook(let url): (name, endpoint, queue, secret) = ("webhook", url, nil, WebhookSecret.make())
        case .queue(let id): (name, endpoint, queue, secret) = ("queue", id.description, id, nil)
        }
        let sealed = secret.map { context.config.keyring.seal($0.bytes, .subscriptionSecret, of: id) }
        try context.send("select check_topic_quota(null, \(context.config.quota.subscriptions))")
        try context.record("subscription.created", id, ["topic_id": .string(draft.topic.description), "protocol": .string(name)])
        try context.emit(
            "topic.subscribed", draft.topic, ["id": .string(draft.topic.description), "subscription_id": .string(id.description)])
        let rows = try context.commit(
            """
            insert into subscriptions (id, topic_id, protocol, endpoint, queue_id, secret_sealed)
            values (\(id), \(draft.topic), \(name), \(endpoint), \(queue), \(sealed)) returning \(columns)
            """, refusals: refusals)
        let response = Response.created(json(rows[0], revealing: secret))
        return secret == nil ? response : response.withSecret
    }

    private static func get(_ context: Context) throws -> Response {
        let rows = try context.commit("select \(columns) from subscriptions where id = \(try context.id())")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(json(row))
    }

    /// To be told to go on, or to stop, is an answer to why we stopped.
    private static func update(_ context: Context) throws -> Response {
        var body = try context.fields()
        let isActive = body.required(
            "is_active", Rule("must be true or false") { json in if case .bool(let flag) = json { flag } else { nil } })
        guard let isActive, body.problems == nil else { throw body.refusal }
        let id = try context.id()
        let rows = try context.query(
            """
            update subscriptions set is_active = \(isActive), disabled_reason = null, updated_at = now() where id = \(id) returning \(columns)
            """)
        guard let row = rows.first else { throw APIError.notFound }
        try context.record("subscription.updated", id, ["is_active": .bool(isActive)])
        return .json(json(row))
    }

    private static func delete(_ context: Context) throws -> Response {
        let id = try context.id()
        guard let topic: ID = try context.query("delete from subscriptions where id = \(id) returning topic_id").first?.id else {
            throw APIError.notFound
        }
        try context.record("subscription.deleted", id)
        try context.emit("topic.unsubscribed", topic, ["id": .string(topic.description), "subscription_id": .string(id.description)])
        return .message("Subscription deleted")
    }

    /// The next attempt of whatever is pending is signed with the new secret.
    private static func rotate(_ context: Context) throws -> Response {
        let id = try context.id()
        let secret = WebhookSecret.make()
        let sealed = context.config.keyring.seal(secret.bytes, .subscriptionSecret, of: id)
        let rows = try context.query(
            """
            update subscriptions set secret_sealed = case protocol when 'webhook' then \(sealed)::bytea end, updated_at = now()
            where id = \(id) returning \(columns), protocol = 'webhook'
            """)
        guard let row = rows.first else { throw APIError.notFound }
        var rest = row
        rest.skip(8)
        guard rest.next(Bool.self) else { throw APIError.conflict("Only a webhook's messages are signed") }
        try context.record("subscription.rotated", id)
        return Response.json(json(row, revealing: secret)).withSecret
    }
}
