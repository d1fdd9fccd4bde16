// GET /ws: a person's events as they happen, and what the running instances use, every 5 s. The key comes in a header or as ?api_key=;
// nginx asks here before it upgrades, and is told which channels the socket hears: its own, its view's, metrics. Tables: sockets, live_views,
// events.
import API
import HTTP
import Identity
import Postgres

enum Live {
    static let routes: [Route] = [.opening("/_sockets/live/open", open)]

    private static func open(_ context: Context) throws -> Response {
        try context.openSocket("live")
        let query = context.request.query
        let credential: Credential
        if let present = try context.headerCredential() {
            credential = present
        } else {
            credential = try .bearer(query["api_key"] ?? "", context.bench)
        }
        try context.claimSocket("live", as: credential)
        let principal = try context.principal(of: credential)
        let kinds = principal.permissions.map(\.rawValue).filter { $0.hasSuffix(":read") }.map { $0.dropLast(5) }
        let view = kinds.sorted().joined(separator: "+")
        let channels =
            ["s/\(try context.socketID)", "u/\(principal.ownerID)/\(view)"]
            + (principal.may(.instanceRead) ? ["m/\(principal.ownerID)"] : [])
        var response = Response(status: 204)
        response.headers.append(("X-Channels", channels.joined(separator: ",")))
        if let last = query["last_event_id"], !last.isEmpty {
            response.headers.append(("X-Since", position(try place(of: last, in: view, context), of: channels.count)))
        }
        guard try context.commit("select open_view(\(try context.socketID), \(view))").scalar() == true else {
            throw APIError.quotaExceeded("Keys with too many different sets of permissions listen at once")
        }
        return response
    }

    /// In nchan's form: the second, and for each channel the number of the last message within it, in brackets where one goes on.
    /// - Parameter place: in the second channel; without one, the oldest there is.
    private static func position(_ place: String?, of channels: Int) -> String {
        guard let parts = place?.split(separator: ":"), parts.count == 2 else { return "1:0" }
        return "\(parts[0]):-,[\(parts[1])]" + String(repeating: ",-", count: channels - 2)
    }

    /// Where an event, or the last one before it that is in the view, stands in the view's channel: second and number, `1700000000:0`.
    /// - Returns: `nil` where nobody knows.
    /// - Throws: `unavailable` while the event is being published: sockets may have it before its place is noted.
    private static func place(of event: String, in view: String, _ context: Context) throws -> String? {
        guard let id = ID(event) else { return nil }
        guard try context.query("select id from events where id = \(id) and not is_published").isEmpty else {
            throw APIError.unavailable(cause: "the event is being published")
        }
        return try context.query(
            """
            select n.places ->> \(view) from events e
            join events n on n.owner_id = e.owner_id and n.published_no between e.published_no - 10000 and e.published_no
            where e.id = \(id) and n.places ->> \(view) is not null order by n.published_no desc limit 1
            """
        ).scalar()
    }
}
