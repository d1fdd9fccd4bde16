// GET /ws: a person's events as they happen, and what the running instances use, every 5 s. The key comes in a header or as ?api_key=;
// nginx asks here before it upgrades, and is told which channels the socket hears. Tables: sockets, events.
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
        let kinds = principal.permissions.map(\.rawValue).filter { $0.hasSuffix(":read") }.map { String($0.dropLast(5)) }
        let channels =
            ["s/\(try context.socketID)"] + kinds.map { "u/\(principal.ownerID)/\($0)" }
            + (principal.may(.instanceRead) ? ["m/\(principal.ownerID)"] : [])
        var response = Response(status: 204)
        response.headers.append(("X-Channels", channels.joined(separator: ",")))
        if let last = query["last_event_id"], !last.isEmpty {
            response.headers.append(("X-Since", try position(behind: last, kinds, channels.count, context)))
        }
        return response
    }

    /// Where an event stands in the channels, in nchan's form: its second, then for each channel the number of the last message within
    /// that second which the client has seen, in brackets for the event's own. Of an event that is not known, the oldest there is.
    /// - Throws: `unavailable` while the event is being published: sockets may have it before its place is noted.
    private static func position(behind event: String, _ kinds: [String], _ channels: Int, _ context: Context) throws -> String {
        let oldest = "1:0"
        guard let id = ID(event) else { return oldest }
        guard try context.query("select id from events where id = \(id) and not is_published").isEmpty else {
            throw APIError.unavailable(cause: "the event is being published")
        }
        let rows = try context.query(
            """
            select split_part(e.message_id, ':', 1), split_part(e.type, '.', 1), split_part(n.type, '.', 1),
            max(split_part(n.message_id, ':', 2)::int)
            from events e join events n on n.owner_id = e.owner_id and n.published_no between e.published_no - 10000 and e.published_no
            and split_part(n.message_id, ':', 1) = split_part(e.message_id, ':', 1)
            where e.id = \(id) and e.published_no is not null group by 1, 2, 3
            """)
        var (second, own, seen) = ("", "", [String: Int]())
        for var row in rows {
            (second, own) = (row.next(), row.next())
            seen[row.next()] = row.next()
        }
        guard kinds.contains(own) else { return oldest }
        let tags = kinds.map { kind in seen[kind].map { kind == own ? "[\($0)]" : "\($0)" } ?? "-" }
        return second + ":" + (["-"] + tags + Array(repeating: "-", count: channels - tags.count - 1)).joined(separator: ",")
    }
}
