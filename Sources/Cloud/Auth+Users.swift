// /auth/users and /auth/audit: other people's roles, and what happened. Whoever may read the directory sees all, others themselves.
// Tables: users (changed only through change_role), audit_log.
import API
import HTTP
import Identity
import Postgres

enum AuthUsers {
    static let routes: [Route] = [
        .get("/auth/users", .permission(.authRead), list),
        .put("/auth/users/:id/role", .permission(.authUpdate), changeRole),
        .get("/auth/audit", .permission(.auditRead), audit),
    ]

    private static let entryColumns: SQL =
        """
        id, action, owner_id, actor_id, credential_id, resource_type, resource_id, host(address), request_id, detail::text, created_at
        """

    /// `entryColumns` as an answer shows them.
    private static func write(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.text("action", &row)
        out.id("user_id", &row)
        out.id("actor_id", &row)
        out.id("credential_id", &row)
        out.text("resource_type", &row)
        out.id("resource_id", &row)
        out.text("address", &row)
        out.text("request_id", &row)
        out.json("detail", &row)
        out.time("created_at", &row)
    }

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let rows = try context.commit(
            """
            select \(Account.columns) from users where role <> 'client' and \(page.window)
            """)
        return .json(page.envelope(rows) { row, out in Account(row).write(to: &out) })
    }

    private static func changeRole(_ context: Context) throws -> Response {
        var body = try context.fields()
        let role = body.required("role", .oneOf(Role.people.map(\.rawValue)))
        guard let role else { throw body.refusal }
        let rows = try context.commit(
            """
            select \(Account.columns)
            from change_role(\(try context.id()), \(role), \(context.request.remoteAddress)::inet, \(context.request.requestID))
            """)
        return .json(["data": Account(rows[0]).json])
    }

    private static func audit(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        // Said aloud, so that the index of (owner_id, id) serves: an "or" inside the policy would not let it.
        let own: SQL = try context.principal.seesDirectory ? "true" : "owner_id = current_owner()"
        let rows = try context.commit(
            """
            select \(entryColumns) from audit_log
            where \(own) and \(page.window)
            """)
        return .json(page.envelope(rows, write))
    }
}
