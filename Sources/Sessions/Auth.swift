// /api/v1/auth: registration and login with a user name, refreshing, and who am I. The accounts are those of /auth.
// Changing password and profile is in Auth+Account.swift. Tables: users, sessions, refresh_tokens, all written by functions of sql/0004_sessions.sql.
import API
import Crypto
import HTTP
import Identity
import Postgres

enum Auth {
    static let routes: [Route] = [
        .create("/api/v1/auth/register", .anyone, pool: .auth, register),
        .action("/api/v1/auth/login", .anyone, pool: .auth, input: .jsonOrForm, login),
        .action("/api/v1/auth/refresh", .anyone, input: .json, refresh),
        .get("/api/v1/auth/me", .authenticated, me),
        .get("/api/v1/profile", .authenticated, me),
    ]

    private struct Registration {
        let username: String
        let email: String
        let password: String
        let fullName: String?

        init(_ body: Fields) throws(APIError) {
            var body = body
            let username = body.required("username", .resourceName)
            let email = body.required("email", .email)
            let password = body.required("password", .password)
            let repeated = body.optional("password_confirm", .password)
            fullName = body.optional("full_name", .displayName)
            if let repeated, let password, repeated != password { body.report("password_confirm", "must be the same as password") }
            guard let username, let email, let password, body.problems == nil else { throw body.refusal }
            self.username = username
            self.email = email
            self.password = password
        }
    }

    private struct Login {
        let name: String
        let password: String

        /// Lengths are not judged: a password that can't be right is simply wrong.
        init(_ body: Fields) throws(APIError) {
            var body = body
            let name = body.has("username") ? body.required("username", .text(1...254)) : body.optional("email", .text(1...254))
            let password = body.required("password", .text(1...1024))
            if name == nil, !body.has("username"), !body.has("email") { body.report("username", "is required") }
            guard let name, let password, body.problems == nil else { throw body.refusal }
            self.name = name
            self.password = password
        }
    }

    private static func register(_ context: Context) throws -> Response {
        let wish = try Registration(context.fields())
        guard context.config.registration.admits(wish.email) else { throw APIError.registrationClosed }
        let session = newSession(context)
        let member = try context.accounts.register(
            id: context.newID(), username: wish.username, email: wish.email, password: wish.password, fullName: wish.fullName,
            session: session)
        return answer(member, session, context, status: 201)
    }

    private static func login(_ context: Context) throws -> Response {
        let wish = try Login(context.fields())
        let session = newSession(context)
        let member = try context.accounts.login(name: wish.name, password: wish.password, session: session)
        return answer(member, session, context, status: 200)
    }

    private static func refresh(_ context: Context) throws -> Response {
        var body = try context.fields()
        let token = body.required("refresh_token", .text(1...4096))
        let rotates = body.optional("rotate", .flag) ?? false
        guard let token, body.problems == nil else { throw body.refusal }
        let successor = rotates ? RefreshToken.make() : nil
        let (session, account) = try context.accounts.refresh(token, successor: successor)
        let members = tokens(session, account, context)
        return Response.json(successor.map { members.adding(["refresh_token": .string($0)]) } ?? members).withSecret
    }

    private static func me(_ context: Context) throws -> Response {
        let rows = try context.commit("select \(Member.columns) from users where id = current_owner()")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(Member(row).json)
    }

    private static func newSession(_ context: Context) -> NewSession {
        NewSession(id: context.newID(), userAgent: context.request.headers["user-agent"])
    }

    /// An access token under both of its documented names.
    private static func tokens(_ session: ID, _ account: ID, _ context: Context) -> JSON {
        let token = JSON.string(SessionToken.make(session: session, account: account, context.bench))
        return ["token": token, "access_token": token, "token_type": "bearer", "expires_in": .int(JWT.lifetime)]
    }

    private static func answer(_ member: Member, _ session: NewSession, _ context: Context, status: Int) -> Response {
        let members: KeyValuePairs<String, JSON> = ["user": member.json, "refresh_token": .string(session.refreshToken)]
        return Response.json(tokens(session.id, member.id, context).adding(members), status: status).withSecret
    }
}

extension Rule where Value == Bool {
    fileprivate static let flag = Rule("must be true or false") { json in if case .bool(let flag) = json { flag } else { nil } }
}
