// /api/v1/notifications: mails, WebSocket events and webhooks that a client wishes; thecloud-cron delivers them (Jobs/NotificationJob.swift).
// Table: notifications. The answer of a create is the wish: `status` tells what became of it.
import API
import HTTP
import Identity
import Outbound
import Postgres

enum Notifications {
    static let routes: [Route] = [
        .create("/api/v1/notifications", .permission(.notificationSend), create),
        .get("/api/v1/notifications", .permission(.notificationRead), list),
        .get("/api/v1/notifications/:id", .permission(.notificationRead), get),
    ]

    private static let columns: SQL =
        "id, type, status, member_id, to_email, url, subject, content, attempts, error, created_at, sent_at"

    private static func write(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.text("type", &row)
        out.text("status", &row)
        out.id("user_id", &row)
        out.text("to_email", &row)
        out.text("url", &row)
        out.text("subject", &row)
        out.text("content", &row)
        out.member("attempts", .int(row.next(Int.self)))
        out.text("error", &row)
        out.time("created_at", &row)
        out.time("sent_at", &row)
    }

    private struct Draft {
        let type: String
        let toEmail: String?
        let member: ID?
        let url: String?
        let subject: String?
        let content: String

        init(_ body: Fields, egress: EgressRule) throws(APIError) {
            var body = body
            let type = body.required("type", .oneOf(["email", "websocket", "webhook"]))
            toEmail = body.optional("to_email", .email)
            member = body.optional("user_id", .id)
            let url = body.optional("url", .text(1...2000))
            if let url { _ = body.target("url", url, egress) }
            self.url = url
            subject = body.optional("subject", .subject)
            let content = body.required("content", .content)
            switch type {
            case "email" where !body.has("to_email") && !body.has("user_id"): body.report("to_email", "or user_id is required")
            case "websocket" where !body.has("user_id"): body.report("user_id", "is required")
            default: break
            }
            guard let type, let content, body.problems == nil else { throw body.refusal }
            self.type = type
            self.content = content
        }
    }

    private static func create(_ context: Context) throws -> Response {
        let draft = try Draft(context.fields(), egress: context.config.egress)
        let id = context.newID()
        try context.send("select check_chat_quota(null, null, \(context.config.quota.notifications))")
        try context.record("notification.created", id, ["type": .string(draft.type)])
        try context.enqueue("notification", id)
        let rows = try context.commit(
            """
            insert into notifications (id, type, member_id, to_email, url, subject, content)
            values (\(id), \(draft.type), \(draft.member)::uuid, \(draft.toEmail), \(draft.url), \(draft.subject), \(draft.content))
            returning \(columns)
            """, refusals: ["notifications_member": .invalid("user_id", Rule<ID>.id.requirement)])
        return .created(.written { write(rows[0], to: &$0) })
    }

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        return .json(page.envelope(try context.commit("select \(columns) from notifications where \(page.window)"), write))
    }

    private static func get(_ context: Context) throws -> Response {
        let rows = try context.commit("select \(columns) from notifications where id = \(try context.id())")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(.written { write(row, to: &$0) })
    }
}

extension Rule where Value == String {
    fileprivate static let subject = Rule("must be 1–200 printable characters") { json in
        guard let text = json.string, (1...200).contains(text.count) else { return nil }
        return text.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control } ? text : nil
    }
}
