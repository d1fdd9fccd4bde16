// /api/v1/users: the people of a client, called users there; their keys are scoped. All of it is for the master key; a user itself has Profile.
// Tables: members, api_keys. E-mail addresses are unique within the client, in any case of letters; user names are not.
import API
import Crypto
import HTTP
import Identity
import Postgres

enum Members {
    static let routes: [Route] = [
        .create("/api/v1/users", .permission(.memberCreate), create),
        .get("/api/v1/users", .permission(.memberRead), list),
        .action("/api/v1/users/login", .permission(.memberLogin), input: .json, login),
        .get("/api/v1/users/:id", .permission(.memberRead), get),
        .put("/api/v1/users/:id", .permission(.memberUpdate), update),
        .delete("/api/v1/users/:id", .permission(.memberDelete), delete),
    ]

    /// How long a scoped key lives, in microseconds.
    private static let keyLife = 7 * 86_400_000_000

    static let columns: SQL = "id, email, username, full_name, is_active, created_at, updated_at"

    /// `columns` as an answer shows them.
    static func write(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.text("email", &row)
        out.text("username", &row)
        out.text("full_name", &row)
        out.member("is_active", .bool(row.next(Bool.self)))
        out.time("created_at", &row)
        out.time("updated_at", &row)
    }

    /// The same, for listeners.
    static func event(_ id: ID) -> SQL {
        """
        select jsonb_build_object('id', id, 'email', email, 'username', username, 'full_name', full_name, 'is_active', is_active,
        'created_at', rfc3339(created_at), 'updated_at', rfc3339(updated_at)) from members where id = \(id)
        """
    }

    private struct Draft {
        let email: String
        let username: String
        let fullName: String?

        init(_ body: Fields) throws(APIError) {
            var body = body
            let email = body.required("email", .email)
            let username = body.required("username", .displayName)
            fullName = body.optional("full_name", .displayName)
            guard let email, let username, body.problems == nil else { throw body.refusal }
            self.email = email
            self.username = username
        }
    }

    /// A scoped key that was not stored yet.
    private struct Key {
        let text = KeyText.make(prefix: ScopedKey.prefix)
        let expiresAt: Timestamp

        init(_ context: Context) { expiresAt = Timestamp(microseconds: context.now.microseconds + keyLife) }

        func insertion(for member: ID, _ context: Context) -> SQL {
            """
            insert into api_keys (id, kind, name, prefix, key_hash, member_id, expires_at)
            values (\(context.newID()), 'scoped', 'scoped', \(KeyText.displayPrefix(text)), \(KeyText.digest(text)), \(member), \(expiresAt))
            """
        }
    }

    private static let refusals: [String: APIError] = [
        "members_email_taken": .alreadyExists("You have a user with this e-mail address already")
    ]

    private static func create(_ context: Context) throws -> Response {
        let draft = try Draft(context.fields())
        let (id, key) = (context.newID(), Key(context))
        try context.send("select check_chat_quota(\(context.config.quota.members), null, null)")
        try context.send(
            """
            insert into members (id, email, email_key, username, full_name)
            values (\(id), \(draft.email), \(draft.email.lowercased()), \(draft.username), \(draft.fullName))
            """)
        try context.send(key.insertion(for: id, context))
        try context.record("member.created", id)
        try context.emit("member.created", id, from: event(id))
        let rows = try context.commit("select created_at from members where id = \(id)", refusals: refusals)
        var row = rows[0]
        let createdAt: Timestamp = row.next()
        let body = JSON.written { out in
            out.member("id", id)
            out.member("email", draft.email)
            out.member("username", draft.username)
            out.member("full_name", draft.fullName)
            out.member("scoped_api_key", key.text)
            out.member("is_active", true)
            out.member("created_at", createdAt)
        }
        return Response.created(body).withSecret
    }

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let rows = try context.commit("select \(columns) from members where \(page.window)")
        return .json(page.envelope(rows, write))
    }

    private static func get(_ context: Context) throws -> Response {
        let rows = try context.commit("select \(columns) from members where id = \(try context.id())")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(.written { write(row, to: &$0) })
    }

    /// Deactivating ends the user's keys; activating gives none: that is the next login's.
    private static func update(_ context: Context) throws -> Response {
        var body = try context.fields()
        let email = body.optional("email", .email)
        let username = body.optional("username", .displayName)
        let fullName = body.optional("full_name", .displayName)
        let isActive = body.optional("is_active", .flag)
        if ["email", "username", "full_name", "is_active"].allSatisfy({ !body.has($0) }) {
            body.report("username", "or email, full_name, is_active is required")
        }
        if let problems = body.problems { throw problems }
        let id = try context.id()
        let rows = try context.query(
            """
            update members set email = coalesce(\(email), email), email_key = coalesce(\(email?.lowercased()), email_key),
            username = coalesce(\(username), username), full_name = coalesce(\(fullName), full_name),
            is_active = coalesce(\(isActive), is_active), updated_at = now() where id = \(id) returning \(columns)
            """, refusals: refusals)
        guard let row = rows.first else { throw APIError.notFound }
        if isActive == false { try context.send("delete from api_keys where member_id = \(id)") }
        try context.record("member.updated", id)
        try context.emit("member.updated", id, from: event(id))
        return .json(.written { write(row, to: &$0) })
    }

    private static func delete(_ context: Context) throws -> Response {
        let id = try context.id()
        try context.emit("member.deleted", id, from: event(id))
        try context.takeTime()
        guard try context.query("delete from members where id = \(id)").affected == 1 else { throw APIError.notFound }
        try context.record("member.deleted", id)
        return .message("User deleted")
    }

    /// The lock makes logins of one user wait for each other, so that each ends the key of the one before.
    private static func login(_ context: Context) throws -> Response {
        var body = try context.fields()
        let email = body.required("email", .email)
        guard let email else { throw body.refusal }
        let rows = try context.query(
            """
            select id, email, username, full_name, is_active from members where email_key = \(email.lowercased()) for no key update
            """)
        guard var row = rows.first else { throw APIError.notFound }
        let (id, address, username): (ID, String, String) = (row.next(), row.next(), row.next())
        let fullName: String? = row.next()
        guard row.next(Bool.self) else { throw APIError.conflict("The user is not active; PUT /api/v1/users/:id activates it") }
        let key = Key(context)
        try context.send("delete from api_keys where member_id = \(id)")
        try context.record("member.logged_in", id)
        _ = try context.commit(key.insertion(for: id, context))
        let user = JSON.written { out in
            out.member("id", id)
            out.member("email", address)
            out.member("username", username)
            out.member("full_name", fullName)
            out.member("is_active", true)
        }
        let answer = JSON.written { out in
            out.member("user", user)
            out.member("scoped_api_key", key.text)
            out.member("expires_at", key.expiresAt)
        }
        return Response.json(answer).withSecret
    }
}

extension Rule where Value == Bool {
    fileprivate static let flag = Rule("must be true or false") { json in if case .bool(let flag) = json { flag } else { nil } }
}
