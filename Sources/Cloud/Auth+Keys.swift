// /auth/keys: API keys. A key mints, rotates and revokes only keys within its own permissions and address blocks, and always itself.
// Revoking deletes the row, so it holds from the next request on every worker. Table: api_keys; the hash column can't be read here.
import API
import Crypto
import HTTP
import Identity
import Postgres

enum AuthKeys {
    static let routes: [Route] = [
        .get("/auth/keys", .permission(.keyRead), list),
        .create("/auth/keys", .permission(.keyCreate), create),
        .delete("/auth/keys/:id", .authenticated, revoke),
        .action("/auth/keys/:id/rotate", .permission(.keyRotate), rotate),
        .action("/auth/keys/:id/regenerate", .permission(.keyRotate), rotate),
    ]

    private struct Key {
        let id: ID
        let ownerID: ID
        let kind: String
        let name: String
        let prefix: String
        let limits: Principal.Limits
        let idleSeconds: Int?
        let createdAt: Timestamp
        let lastUsedAt: Timestamp
        /// Its date, or what idleness leaves it, whichever comes first.
        let endsAt: Timestamp?

        static let columns: SQL =
            """
            id, owner_id, kind, name, prefix, permissions, allowed_cidrs::text[], expires_at, idle_seconds, created_at, last_used_at, \
            least(expires_at, last_used_at + idle_seconds * interval '1 second')
            """

        init(_ row: Row) {
            var row = row
            id = row.next()
            ownerID = row.next()
            kind = row.next()
            name = row.next()
            prefix = row.next()
            limits = .init(permissions: row.next(), allowedCIDRs: row.next([String]?.self)?.compactMap(CIDR.init), expiresAt: row.next())
            idleSeconds = row.next()
            createdAt = row.next()
            lastUsedAt = row.next()
            endsAt = row.next()
        }

        /// `permissions` and `allowed_cidrs` are null where the key has no limit of its own.
        func write(to out: inout JSONWriter) {
            out.member("id", id)
            out.member("user_id", ownerID)
            out.member("name", name)
            out.member("prefix", prefix)
            out.member("permissions", limits.permissions.map(JSON.strings) ?? .null)
            out.member("allowed_cidrs", limits.allowedCIDRs.map { .strings($0.map(\.description)) } ?? .null)
            out.member("created_at", createdAt)
            out.member("last_used", lastUsedAt)
            out.member("expires_at", endsAt?.description)
        }

        /// The one answer that shows the key itself: bare members and the envelope.
        func response(revealing text: String, status: Int) -> Response {
            func members(_ out: inout JSONWriter) {
                write(to: &out)
                out.member("key", text)
            }
            let body = JSON.written { out in
                members(&out)
                out.member("data", .written(members))
            }
            return Response.json(body, status: status).withSecret
        }
    }

    private struct Draft {
        let name: String
        let permissions: [Permission]?
        let allowedCIDRs: [CIDR]?
        let expiresAt: Timestamp?

        init(_ body: Fields, now: Timestamp) throws(APIError) {
            var body = body
            let name = body.required("name", .displayName)
            let permissions = body.optional("permissions", .permissions)
            allowedCIDRs = body.optional("allowed_cidrs", .list(1...20, of: .cidr))
            expiresAt = body.optional("expires_at", .timestamp)
            if let expiresAt, expiresAt <= now { body.report("expires_at", "must lie ahead") }
            guard let name, body.problems == nil else { throw body.refusal }
            self.name = name
            self.permissions = permissions
        }
    }

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let rows = try context.commit(
            """
            select \(Key.columns) from api_keys where kind in ('key', 'login') and \(page.window)
            """)
        return .json(page.envelope(rows) { row, out in Key(row).write(to: &out) })
    }

    private static func create(_ context: Context) throws -> Response {
        let draft = try Draft(context.fields(), now: context.now)
        let principal = try context.principal
        let limits = Principal.Limits(
            permissions: draft.permissions?.map(\.rawValue) ?? principal.limits.permissions,
            allowedCIDRs: draft.allowedCIDRs ?? principal.limits.allowedCIDRs, expiresAt: draft.expiresAt)
        guard principal.limits.cover(limits), draft.permissions.map({ $0.allSatisfy(principal.may) }) ?? true else {
            throw APIError.insufficientPermissions
        }
        let text = KeyText.make(prefix: APIKey.prefix)
        let row = try insert(context, text, kind: "key", name: draft.name, limits: limits, idleSeconds: nil, cause: "key.created")
        return Key(row).response(revealing: text, status: 201)
    }

    private static func revoke(_ context: Context) throws -> Response {
        let id = try context.id()
        let principal = try context.principal
        let isItself = id == principal.credentialID
        guard isItself || principal.may(.keyDelete) else { throw APIError.insufficientPermissions }
        let key = try load(id, for: principal, context)
        try context.record("key.revoked", id, ["name": .string(key.name), "prefix": .string(key.prefix)])
        _ = try context.commit("delete from api_keys where id = \(id)")
        return .message("API key revoked")
    }

    private static func rotate(_ context: Context) throws -> Response {
        var body = try context.fields()
        let grace = body.optional("grace_seconds", .integer(0...86400)) ?? 0
        if let problems = body.problems { throw problems }
        let id = try context.id()
        let key = try load(id, for: try context.principal, context)
        if grace == 0 {
            try context.send("delete from api_keys where id = \(id)")
        } else {
            try context.send(
                "update api_keys set expires_at = least(expires_at, now() + \(grace)::int * interval '1 second') where id = \(id)")
        }
        let text = KeyText.make(prefix: APIKey.prefix)
        let row = try insert(
            context, text, kind: key.kind, name: key.name, limits: key.limits, idleSeconds: key.idleSeconds, cause: "key.rotated",
            detail: ["previous_id": .string(id.description), "grace_seconds": .int(grace)])
        return Key(row).response(revealing: text, status: 200)
    }

    /// Finds and locks a key that the principal may end.
    /// - Throws: `notFound`; `insufficientPermissions` for one that could do more than the principal's own.
    private static func load(_ id: ID, for principal: Principal, _ context: Context) throws -> Key {
        guard
            let row = try context.query("select \(Key.columns) from api_keys where id = \(id) and kind in ('key', 'login') for update")
                .first
        else {
            throw APIError.notFound
        }
        let key = Key(row)
        guard id == principal.credentialID || principal.limits.cover(key.limits) else { throw APIError.insufficientPermissions }
        return key
    }

    /// Stores a new key and commits. It ends no later than the key that made it, if that one ends on a date.
    private static func insert(
        _ context: Context, _ text: String, kind: String, name: String, limits: Principal.Limits, idleSeconds: Int?, cause: String,
        detail: JSON = [:]
    ) throws -> Row {
        let id = context.newID()
        try context.record(cause, id, detail.adding(["name": .string(name)]))
        return try context.commit(
            """
            insert into api_keys (id, kind, name, prefix, key_hash, permissions, allowed_cidrs, idle_seconds, expires_at)
            values (\(id), \(kind), \(name), \(KeyText.displayPrefix(text)), \(KeyText.digest(text)), \(limits.permissions)::text[],
            \(limits.allowedCIDRs?.map(\.description))::cidr[], \(idleSeconds)::int,
            least(\(limits.expiresAt)::timestamptz, \(try context.principal.limits.expiresAt)::timestamptz))
            returning \(Key.columns)
            """)[0]
    }
}

extension Rule where Value == [Permission] {
    /// A list of permissions; `instance:*` and `*` stand for what they cover today.
    fileprivate static let permissions = Rule("must be a list of permissions such as instance:read, or instance:*") { json in
        guard let items = json.array, (1...100).contains(items.count) else { return nil }
        let named = items.map { $0.string.flatMap(Permission.named) }
        guard named.allSatisfy({ $0 != nil }) else { return nil }
        let wanted = Set(named.compactMap { $0 }.joined())
        return Permission.ofPeople.filter(wanted.contains)
    }
}
