// /api/v1/clients: tenants of Chat, each with master keys. A client is an account without address and password; its name stands in users.
// Tables: users, clients, api_keys; written through functions of sql/0008_chat.sql. There is no id in the paths: a client knows only itself.
import API
import Crypto
import HTTP
import Identity
import Postgres

enum Clients {
    static let routes: [Route] = [
        .create("/api/v1/clients", .anyone, register),
        .get("/api/v1/clients/me", .permission(.clientRead), me),
        .put("/api/v1/clients/me", .permission(.clientUpdate), update),
        .delete("/api/v1/clients/me", .permission(.clientDelete), delete),
        .action("/api/v1/clients/me/rotate", .permission(.clientRotate), rotate),
        .action("/api/v1/clients/me/webhook-secret", .permission(.clientRotate), input: .none, renewSecret),
    ]

    private static let selection: SQL =
        "select u.id, u.name, c.description, c.created_at, c.updated_at from clients c join users u on u.id = c.owner_id where u.id = current_owner()"

    /// A row of `selection`. Who could see it otherwise is active.
    private static func json(_ row: Row) -> JSON {
        .written { out in
            var row = row
            out.id("id", &row)
            out.text("name", &row)
            out.text("description", &row)
            out.member("is_active", true)
            out.time("created_at", &row)
            out.time("updated_at", &row)
        }
    }

    private struct Draft {
        let name: String
        let description: String?

        init(_ body: Fields) throws(APIError) {
            var body = body
            let name = body.required("name", .displayName)
            description = body.optional("description", .description)
            guard let name, body.problems == nil else { throw body.refusal }
            self.name = name
        }
    }

    /// A list of mail domains closes it too: a client has no address that could be in one.
    private static func register(_ context: Context) throws -> Response {
        let draft = try Draft(context.fields())
        guard context.config.registration == .open else { throw APIError.registrationClosed }
        let id = context.newID()
        let key = KeyText.make(prefix: MasterKey.prefix)
        let rows = try context.commit(
            """
            select register_client(\(id), \(draft.name), \(draft.description), \(sealedSecret(of: id, context).sealed), \(context.newID()), \
            \(KeyText.digest(key)), \(KeyText.displayPrefix(key)), \(context.request.remoteAddress)::inet, \(context.request.requestID))
            """)
        guard var row = rows.first else { throw APIError.internalFailure(cause: "register_client has no row") }
        let createdAt: Timestamp = row.next()
        let body = JSON.written { out in
            out.member("id", id)
            out.member("name", draft.name)
            out.member("description", draft.description)
            out.member("master_api_key", key)
            out.member("is_active", true)
            out.member("created_at", createdAt)
        }
        return Response.created(body).withSecret
    }

    private static func me(_ context: Context) throws -> Response {
        guard let row = try context.commit(selection).first else { throw APIError.notFound }
        return .json(json(row))
    }

    private static func update(_ context: Context) throws -> Response {
        var body = try context.fields()
        let name = body.optional("name", .displayName)
        let description = body.optional("description", .description)
        if !body.has("name"), !body.has("description") { body.report("name", "or description is required") }
        if let problems = body.problems { throw problems }
        guard try context.query("select change_client(\(name), \(description))").scalar() == true else { throw APIError.notFound }
        try context.record("client.updated", try context.principal.ownerID)
        return .json(json(try context.commit(selection)[0]))
    }

    private static func delete(_ context: Context) throws -> Response {
        try context.record("client.deleted", try context.principal.ownerID)
        try context.takeTime()
        guard try context.query("select delete_client()").scalar() == true else { throw APIError.notFound }
        return .message("Client deleted")
    }

    /// Whoever rotates last has the only key that goes on: the lock makes the one before visible to the next.
    private static func rotate(_ context: Context) throws -> Response {
        var body = try context.fields()
        let grace = body.optional("grace_seconds", .integer(0...86400)) ?? 0
        if let problems = body.problems { throw problems }
        let owner = try context.principal.ownerID
        let (id, key) = (context.newID(), KeyText.make(prefix: MasterKey.prefix))
        try context.send("select 1 from clients where owner_id = \(owner) for no key update")
        if grace == 0 {
            try context.send("delete from api_keys where kind = 'master'")
        } else {
            try context.send(
                """
                update api_keys set expires_at = least(expires_at, now() + \(grace)::int * interval '1 second') where kind = 'master'
                """)
        }
        try context.record("client.rotated", owner, ["key_id": .string(id.description), "grace_seconds": .int(grace)])
        try context.send(
            """
            insert into api_keys (id, kind, name, prefix, key_hash)
            values (\(id), 'master', 'master', \(KeyText.displayPrefix(key)), \(KeyText.digest(key)))
            """)
        guard var row = try context.commit(selection).first else { throw APIError.notFound }
        return Response.json(
            .written { out in
                out.id("id", &row)
                out.text("name", &row)
                out.text("description", &row)
                out.member("master_api_key", key)
                out.member("is_active", true)
                out.time("created_at", &row)
            }
        ).withSecret
    }

    private static func renewSecret(_ context: Context) throws -> Response {
        let owner = try context.principal.ownerID
        let secret = sealedSecret(of: owner, context)
        try context.record("client.webhook_secret_renewed", owner)
        _ = try context.commit("update clients set webhook_secret_sealed = \(secret.sealed), updated_at = now()")
        return Response.json(["secret": .string(secret.text)]).withSecret
    }

    /// A new secret of Standard Webhooks for what goes to URLs of notifications: as it is shown, and as it is kept.
    private static func sealedSecret(of owner: ID, _ context: Context) -> (text: String, sealed: [UInt8]) {
        let bytes = Random.bytes(24)
        return ("whsec_" + Base64.standard.encode(bytes), context.config.keyring.seal(bytes, .clientSecret, of: owner))
    }
}

extension Context {
    /// For the one statement that may remove a great many rows.
    func takeTime() throws { try send("select set_config('statement_timeout', '50s', true)") }
}

extension Rule where Value == String {
    /// Of clients and rooms.
    static let description = text(0...1000)

    /// What is said in messages and notifications.
    static let content = Rule("must be a text of 1–16384 bytes") { json in
        json.string.flatMap { (1...16384).contains($0.utf8.count) ? $0 : nil }
    }
}
