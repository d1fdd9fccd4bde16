// The WebSocket of Chat, /api/v1/ws: a scoped or master key in a header or in the first message, then what happens as it happens.
// A member hears of the rooms it has joined, a master key of everything of its client. Tables: sockets, members.
import API
import HTTP
import Identity
import Postgres

enum ChatSocket {
    static let routes: [Route] = [
        .opening("/_sockets/chat/open", open),
        .message("/_sockets/chat", message),
    ]

    private static let kind = "chat"

    private static func open(_ context: Context) throws -> Response {
        try context.openSocket(kind)
        if let credential = try context.headerCredential() { try context.claimSocket(kind, as: credential, for: .messageRead) }
        return Response(status: 204)
    }

    /// After the first message there is nothing to say: messages are sent by POST /api/v1/messages.
    private static func message(_ context: Context) throws -> JSON? {
        let body = try context.fields()
        switch body["type"]?.string {
        case "auth": return try authenticate(body["token"]?.string ?? body["api_key"]?.string ?? "", context)
        case "ping":
            try context.actForSocket(kind)
            return ["type": "pong"]
        default: throw APIError.invalid("type", "must be auth or ping")
        }
    }

    private static func authenticate(_ token: String, _ context: Context) throws -> JSON {
        do {
            try context.claimSocket(kind, as: try .bearer(token, context.bench), for: .messageRead)
            let member: ID? = try context.query("select current_member()").scalar()
            return ["type": "auth_success", "user_id": .optional(member?.description), "message": "Connected successfully"]
        } catch let error {
            guard context.isRefusal(error) else { throw error }
            return try context.dismissSocket(saying: "Invalid authentication credentials")
        }
    }
}
