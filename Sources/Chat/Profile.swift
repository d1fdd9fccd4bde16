// /api/v1/users/profile and logout: what a client's user does with its scoped key about itself. Tables: members, api_keys.
// The e-mail address stays: it is what the client logs the user in by.
import API
import HTTP
import Identity
import Postgres

enum Profile {
    static let routes: [Route] = [
        .get("/api/v1/users/profile", .permission(.profileRead), get),
        .put("/api/v1/users/profile", .permission(.profileUpdate), update),
        .action("/api/v1/users/logout", .permission(.profileUpdate), input: .none, logout),
    ]

    private static func get(_ context: Context) throws -> Response {
        let rows = try context.commit("select \(Members.columns) from members where id = current_member()")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(.written { Members.write(row, to: &$0) })
    }

    private static func update(_ context: Context) throws -> Response {
        var body = try context.fields()
        let username = body.optional("username", .displayName)
        let fullName = body.optional("full_name", .displayName)
        if !body.has("username"), !body.has("full_name") { body.report("username", "or full_name is required") }
        if let problems = body.problems { throw problems }
        let rows = try context.query(
            """
            update members set username = coalesce(\(username), username), full_name = coalesce(\(fullName), full_name), updated_at = now()
            where id = current_member() returning \(Members.columns)
            """)
        guard let row = rows.first else { throw APIError.notFound }
        try context.record("member.updated", row.id)
        try context.emit("member.updated", row.id, from: Members.event(row.id))
        return .json(.written { Members.write(row, to: &$0) })
    }

    private static func logout(_ context: Context) throws -> Response {
        let id = try context.principal.credentialID
        try context.record("member.logged_out", try context.principal.memberID ?? id)
        _ = try context.commit("delete from api_keys where id = \(id) and kind = 'scoped'")
        return .message("Logged out")
    }
}
