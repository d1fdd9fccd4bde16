// /api/v1/api-keys: the keys of servers' agents, `chatops_…`, each shown once. Table: api_keys, kind `agent`; the hash column can't be read here.
import API
import Crypto
import HTTP
import Identity
import Postgres

enum AgentKeys {
    static let routes: [Route] = [
        .create("/api/v1/api-keys", .permission(.keyCreate), create),
        .get("/api/v1/api-keys/me", .permission(.keyRead), list),
        .delete("/api/v1/api-keys/:id", .permission(.keyDelete), revoke),
    ]

    private static let columns: SQL = "id, server_id, name, prefix, created_at, last_used_at, expires_at"

    private static func write(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.id("server_id", &row)
        out.text("name", &row)
        out.text("prefix", &row)
        out.time("created_at", &row)
        out.time("last_used", &row)
        out.time("expires_at", &row)
    }

    /// It ends no later than the key that made it, and may be used from no further addresses.
    private static func create(_ context: Context) throws -> Response {
        var body = try context.fields()
        let server = body.required("server_id", .id)
        let name = body.required("name", .displayName)
        guard let server, let name, body.problems == nil else { throw body.refusal }
        let id = context.newID()
        let text = KeyText.make(prefix: AgentKey.prefix)
        try context.record("key.created", id, ["name": .string(name), "server_id": .string(server.description)])
        let maker: SQL = "(select expires_at, allowed_cidrs from api_keys where id = current_credential())"
        var row = try context.commit(
            """
            insert into api_keys (id, kind, server_id, name, prefix, key_hash, expires_at, allowed_cidrs)
            select \(id), 'agent', \(server)::uuid, \(name), \(KeyText.displayPrefix(text)), \(KeyText.digest(text)), m.expires_at, m.allowed_cidrs
            from (values (1)) one left join \(maker) m on true
            returning id, server_id, name, created_at
            """,
            refusals: ["api_keys_owner_id_server_id_fkey": .invalid("server_id", Rule<ID>.id.requirement)])[0]
        return Response.json(
            .written { out in
                out.id("id", &row)
                out.id("server_id", &row)
                out.text("name", &row)
                out.member("key", text)
                out.time("created_at", &row)
            }, status: 201
        ).withSecret
    }

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let server = context.request.query["server_id"]
        if let server, ID(server) == nil { throw APIError.invalid("server_id", Rule<ID>.id.requirement) }
        let rows = try context.commit(
            """
            select \(columns) from api_keys
            where kind = 'agent' and (\(server)::uuid is null or server_id = \(server)::uuid) and \(page.window)
            """)
        return .json(page.envelope(rows, write))
    }

    private static func revoke(_ context: Context) throws -> Response {
        let id = try context.id()
        let rows = try context.query("delete from api_keys where id = \(id) and kind = 'agent' returning name")
        guard let name = rows.scalar(String.self) else { throw APIError.notFound }
        try context.record("key.revoked", id, ["name": .string(name)])
        try context.wakeSockets()
        return .message("API key revoked")
    }
}
