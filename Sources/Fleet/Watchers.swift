// A browser that watches a server, /api/v1/ws/metrics/:server_id: the access token comes in a header or in the first message, then every
// report of the server's agent goes to it. Tables: sockets, servers.
import API
import HTTP
import Identity
import Postgres

enum Watchers {
    static let routes: [Route] = [
        .opening("/_sockets/metrics/open", open),
        .message("/_sockets/metrics", message),
    ]

    private static let kind = "metrics"

    private static func open(_ context: Context) throws -> Response {
        // No such server: the same refusal as for one of somebody else's.
        guard let server = ID(context.request.query["subject"] ?? "") else { throw APIError.insufficientPermissions }
        try context.openSocket(kind, server: server)
        if let credential = try context.headerCredential() { try context.claimSocket(kind, as: credential, for: .serverRead) }
        return Response(status: 204)
    }

    private static func message(_ context: Context) throws -> JSON? {
        let body = try context.fields()
        guard body["type"]?.string == "auth" else { throw APIError.invalid("type", "must be auth") }
        do {
            try context.claimSocket(kind, as: try .bearer(body["token"]?.string ?? "", context.bench), for: .serverRead)
            let server: ID? = try context.query("select current_server()").scalar()
            return ["type": "auth_success", "server_id": .optional(server?.description), "message": "Connected successfully"]
        } catch let error {
            guard context.isRefusal(error) else { throw error }
            return try context.dismissSocket(saying: "Invalid or expired token")
        }
    }
}
