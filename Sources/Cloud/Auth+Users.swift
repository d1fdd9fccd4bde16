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

    private struct Entry {
        let id: ID
        let json: JSON

        static let columns: SQL =
            "id, owner_id, actor_id, credential_id, action, resource_type, resource_id, host(address), request_id, detail::text, created_at"

        init(_ row: Row) throws {
            var row = row
            id = row.next()
            let (owner, actor, credential): (ID, ID?, ID?) = (row.next(), row.next(), row.next())
            let (action, type, resource): (String, String, ID?) = (row.next(), row.next(), row.next())
            let (address, requestID): (String?, String) = (row.next(), row.next())
            let detail = try JSON(parsing: Array(row.next(String.self).utf8))
            json = [
                "id": .string(id.description), "action": .string(action), "user_id": .string(owner.description),
                "actor_id": .optional(actor?.description), "credential_id": .optional(credential?.description),
                "resource_type": .string(type), "resource_id": .optional(resource?.description), "address": .optional(address),
                "request_id": .string(requestID), "detail": detail, "created_at": .string(row.next(Timestamp.self).description),
            ]
        }
    }

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let rows = try context.commit(
            """
            select \(Account.columns) from users where \(page.window)
            """)
        return .json(page.envelope(rows.map(Account.init), id: \.id, json: \.json))
    }

    private static func changeRole(_ context: Context) throws -> Response {
        var body = try context.fields()
        let role = body.required("role", .oneOf(Role.allCases.map(\.rawValue)))
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
            select \(Entry.columns) from audit_log
            where \(own) and \(page.window)
            """)
        return .json(page.envelope(try rows.map(Entry.init), id: \.id, json: \.json))
    }
}
