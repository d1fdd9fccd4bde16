// /api/v1/auth/logout and /api/v1/auth/sessions: where an account is logged in, and ending that. Tables: sessions, api_keys.
// An access token is good only as long as its session's row is there, so ending one holds from the next request on every worker.
import API
import HTTP
import Identity
import Postgres

enum AuthSessions {
    static let routes: [Route] = [
        .action("/api/v1/auth/logout", .authenticated, input: .none, logout),
        .get("/api/v1/auth/sessions", .authenticated, list),
        .delete("/api/v1/auth/sessions/:id", .authenticated, end),
    ]

    /// Ends what the request came with: a session, or the key of a login.
    private static func logout(_ context: Context) throws -> Response {
        let id = try context.principal.credentialID
        let ended = try context.query(
            """
            with s as (delete from sessions where id = \(id) returning 'session'),
            k as (delete from api_keys where id = \(id) and kind = 'login' returning 'key')
            select * from s union all select * from k
            """)
        guard let kind = ended.scalar(String.self) else {
            throw APIError.conflict("This key was made by hand; DELETE /auth/keys/:id revokes it")
        }
        try context.record("\(kind).ended", id)
        return .message("Logged out")
    }

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let principal = try context.unlimitedPrincipal
        let rows = try context.commit(
            """
            select id, user_agent, host(address), created_at, last_used_at, expires_at from sessions where \(page.window)
            """)
        return .json(
            page.envelope(rows) { row, out in
                let isCurrent = row.id == principal.credentialID
                var row = row
                out.id("id", &row)
                out.text("user_agent", &row)
                out.text("address", &row)
                out.time("created_at", &row)
                out.time("last_used_at", &row)
                out.time("expires_at", &row)
                out.member("current", .bool(isCurrent))
            })
    }

    private static func end(_ context: Context) throws -> Response {
        let id = try context.id()
        _ = try context.unlimitedPrincipal
        guard try context.query("delete from sessions where id = \(id) and expires_at > now()").affected == 1 else {
            throw APIError.notFound
        }
        try context.record("session.ended", id)
        return .message("Session ended")
    }
}

extension Context {
    /// Sessions, password and names are the account's as a whole: a key with limits of its own has no say in them.
    var unlimitedPrincipal: Principal {
        get throws {
            let principal = try principal
            guard principal.limits.permissions == nil, principal.limits.allowedCIDRs == nil else { throw APIError.insufficientPermissions }
            return principal
        }
    }
}
