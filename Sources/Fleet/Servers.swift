// /api/v1/servers: machines with an agent. `online` is who has said something within the last 15 s. Table: servers.
import API
import HTTP
import Identity
import Postgres

enum Servers {
    static let routes: [Route] = [
        .create("/api/v1/servers", .permission(.serverCreate), create),
        .get("/api/v1/servers", .permission(.serverRead), list),
        .get("/api/v1/servers/:id", .permission(.serverRead), get),
        .put("/api/v1/servers/:id", .permission(.serverUpdate), update),
        .delete("/api/v1/servers/:id", .permission(.serverDelete), delete),
    ]

    /// True while its agent talks.
    static let isOnline: SQL = "coalesce(last_seen_at > now() - interval '15 seconds', false)"

    private static let columns: SQL =
        """
        id, name, host, port, case when \(isOnline) then 'online' else 'offline' end, last_seen_at, created_at, updated_at
        """

    private static func write(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.text("name", &row)
        out.text("host", &row)
        out.member("port", .optional(row.next(Int?.self)))
        out.text("status", &row)
        out.time("last_seen_at", &row)
        out.time("created_at", &row)
        out.time("updated_at", &row)
    }

    private static func json(_ row: Row) -> JSON { .written { write(row, to: &$0) } }

    private struct Draft {
        let name: String
        let host: String
        let port: Int?

        init(_ body: Fields) throws(APIError) {
            var body = body
            let name = body.required("name", .displayName)
            let host = body.required("host", .host)
            port = body.optional("port", .integer(1...65535))
            guard let name, let host, body.problems == nil else { throw body.refusal }
            self.name = name
            self.host = host
        }
    }

    private struct Change {
        let name: String?
        let host: String?
        let port: Int?

        init(_ body: Fields) throws(APIError) {
            var body = body
            name = body.optional("name", .displayName)
            host = body.optional("host", .host)
            port = body.optional("port", .integer(1...65535))
            if !["name", "host", "port"].contains(where: body.has) { body.report("name", "or host or port is required") }
            if let problems = body.problems { throw problems }
        }
    }

    private static func create(_ context: Context) throws -> Response {
        let draft = try Draft(context.fields())
        let id = context.newID()
        try context.record("server.created", id, ["name": .string(draft.name)])
        try context.emit("server.created", id, ["name": .string(draft.name), "host": .string(draft.host)])
        let rows = try context.commit(
            """
            insert into servers (id, name, host, port) values (\(id), \(draft.name), \(draft.host), \(draft.port)::int) returning \(columns)
            """)
        return .created(json(rows[0]))
    }

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let rows = try context.commit("select \(columns) from servers where \(page.window)")
        return .json(page.envelope(rows, write))
    }

    private static func get(_ context: Context) throws -> Response {
        let rows = try context.commit("select \(columns) from servers where id = \(try context.id())")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(json(row))
    }

    private static func update(_ context: Context) throws -> Response {
        let change = try Change(context.fields())
        let id = try context.id()
        let rows = try context.query(
            """
            update servers set name = coalesce(\(change.name), name), host = coalesce(\(change.host), host),
            port = coalesce(\(change.port)::int, port), updated_at = now() where id = \(id) returning \(columns)
            """)
        guard let row = rows.first else { throw APIError.notFound }
        try context.record("server.updated", id)
        try context.emit("server.updated", id, ["name": .optional(change.name), "host": .optional(change.host)])
        return .json(json(row))
    }

    /// Its agent keys end with it, and so do their sockets.
    private static func delete(_ context: Context) throws -> Response {
        let id = try context.id()
        guard try context.query("delete from servers where id = \(id)").affected == 1 else { throw APIError.notFound }
        try context.record("server.deleted", id)
        try context.emit("server.deleted", id, [:])
        try context.wakeSockets()
        return .message("Server deleted")
    }
}

extension Rule where Value == String {
    /// A host name or an address, as a person would write it down: it is shown, never connected to.
    fileprivate static let host = Rule("must be a host name or an address of 1–253 characters") { json in
        guard let text = json.string, (1...253).contains(text.utf8.count) else { return nil }
        return text.utf8.allSatisfy { (0x21...0x7E).contains($0) && !"\"'<>\\^`{|}/?#@,;".utf8.contains($0) } ? text : nil
    }
}
