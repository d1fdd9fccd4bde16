// /api/v1/webhooks: where events of one's own are sent to; of people and, with the master key, of clients. The secret is shown when it is made.
// Table: webhooks. What was sent is in Webhooks+Deliveries.swift; Sources/Jobs/WebhookDelivery.swift sends it.
import API
import Crypto
import HTTP
import Identity
import Outbound
import Postgres

enum Webhooks {
    static let routes: [Route] = [
        .get("/api/v1/webhooks", .permission(.webhookRead), list),
        .create("/api/v1/webhooks", .permission(.webhookCreate), create),
        .get("/api/v1/webhooks/:id", .permission(.webhookRead), get),
        .put("/api/v1/webhooks/:id", .permission(.webhookUpdate), update),
        .delete("/api/v1/webhooks/:id", .permission(.webhookDelete), delete),
        .action("/api/v1/webhooks/:id/rotate", .permission(.webhookUpdate), input: .none, rotate),
        .action("/api/v1/webhooks/:id/test", .permission(.webhookUpdate), input: .none, test),
        .get("/api/v1/webhooks/:id/deliveries", .permission(.webhookRead), deliveries),
        .action("/api/v1/webhooks/:id/deliveries/:delivery_id/replay", .permission(.webhookUpdate), input: .none, replay),
    ]

    private static let columns: SQL = "id, name, url, events, is_active, disabled_reason, created_at, updated_at"

    private static func write(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.text("name", &row)
        out.text("url", &row)
        out.texts("events", &row)
        out.member("is_active", .bool(row.next(Bool.self)))
        out.text("disabled_reason", &row)
        out.time("created_at", &row)
        out.time("updated_at", &row)
    }

    private static func json(_ row: Row, revealing secret: WebhookSecret? = nil) -> JSON {
        .written { out in
            write(row, to: &out)
            if let secret { out.member("secret", secret.text) }
        }
    }

    private struct Draft {
        let name: String?
        let url: String
        let events: [String]

        init(_ body: Fields, _ egress: EgressRule) throws(APIError) {
            var body = body
            name = body.optional("name", .displayName)
            let url = body.required("url", .url)
            let target = url.flatMap { body.target("url", $0, egress) }
            events = body.optional("events", .eventTypes) ?? []
            guard let target, body.problems == nil else { throw body.refusal }
            self.url = target.url
        }
    }

    private struct Change {
        let name: String?
        let url: String?
        let events: [String]?
        let isActive: Bool?

        init(_ body: Fields, _ egress: EgressRule) throws(APIError) {
            var body = body
            name = body.optional("name", .displayName)
            url = body.optional("url", .url).flatMap { body.target("url", $0, egress)?.url }
            events = body.optional("events", .eventTypes)
            isActive = body.optional("is_active", .flag)
            if !["name", "url", "events", "is_active"].contains(where: body.has) {
                body.report("url", "or name, events or is_active is required")
            }
            if let problems = body.problems { throw problems }
        }
    }

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let rows = try context.commit("select \(columns) from webhooks where \(page.window)")
        return .json(page.envelope(rows, write))
    }

    private static func create(_ context: Context) throws -> Response {
        let draft = try Draft(context.fields(), context.config.egress)
        let id = context.newID()
        let secret = WebhookSecret.make()
        let sealed = context.config.keyring.seal(secret.bytes, .webhookSecret, of: id)
        try context.send("select check_webhook_quota(\(context.config.quota.webhooks))")
        try context.record("webhook.created", id, ["name": .optional(draft.name), "events": .strings(draft.events)])
        let rows = try context.commit(
            """
            insert into webhooks (id, name, url, events, secret_sealed)
            values (\(id), \(draft.name), \(draft.url), \(draft.events)::text[], \(sealed)) returning \(columns)
            """)
        return Response.created(json(rows[0], revealing: secret)).withSecret
    }

    private static func get(_ context: Context) throws -> Response {
        let rows = try context.commit("select \(columns) from webhooks where id = \(try context.id())")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(json(row))
    }

    /// To be told to go on, or to stop, is an answer to why we stopped.
    private static func update(_ context: Context) throws -> Response {
        let change = try Change(context.fields(), context.config.egress)
        let id = try context.id()
        let rows = try context.query(
            """
            update webhooks set name = coalesce(\(change.name), name), url = coalesce(\(change.url), url),
            events = coalesce(\(change.events)::text[], events), is_active = coalesce(\(change.isActive)::boolean, is_active),
            disabled_reason = case when \(change.isActive)::boolean is null then disabled_reason end, updated_at = now()
            where id = \(id) returning \(columns)
            """)
        guard let row = rows.first else { throw APIError.notFound }
        try context.record(
            "webhook.updated", id,
            ["name": .optional(change.name), "is_active": change.isActive.map(JSON.bool) ?? .null, "url_changed": .bool(change.url != nil)])
        return .json(json(row))
    }

    private static func delete(_ context: Context) throws -> Response {
        let id = try context.id()
        guard try context.query("delete from webhooks where id = \(id)").affected == 1 else { throw APIError.notFound }
        try context.record("webhook.deleted", id)
        return .message("Webhook deleted")
    }

    /// The next attempt of whatever is pending is signed with the new secret.
    private static func rotate(_ context: Context) throws -> Response {
        let id = try context.id()
        let secret = WebhookSecret.make()
        let sealed = context.config.keyring.seal(secret.bytes, .webhookSecret, of: id)
        let rows = try context.query(
            "update webhooks set secret_sealed = \(sealed), updated_at = now() where id = \(id) returning \(columns)")
        guard let row = rows.first else { throw APIError.notFound }
        try context.record("webhook.rotated", id)
        return Response.json(json(row, revealing: secret)).withSecret
    }
}

extension Rule where Value == String {
    /// What a URL is made of is told by `Fields.target`.
    fileprivate static let url = Rule("must be an http or https URL") { $0.string }
}

extension Rule where Value == [String] {
    fileprivate static let eventTypes = Rule(
        "must be a list of at most 50 event types such as run.completed, or kinds such as run.*; an empty one means all"
    ) { json in
        guard let items = json.array, items.count <= 50 else { return nil }
        let types = items.compactMap(\.string).filter { type in
            type.utf8.count <= 100 && type.wholeMatch(of: /[a-z][a-z0-9_]*(\.[a-z0-9_]+)*\.([a-z0-9_]+|\*)/) != nil
        }
        return types.count == items.count ? types : nil
    }
}

extension Rule where Value == Bool {
    fileprivate static let flag = Rule("must be true or false") { json in if case .bool(let flag) = json { flag } else { nil } }
}
