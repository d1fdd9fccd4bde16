// /auth: registration, login, password reset, and who am I. Keys are in Auth+Keys.swift, other people in Auth+Users.swift.
// Login and reset answer the same, after the same time, whether an account exists or not. Tables: users, login_attempts, password_resets.
import API
import HTTP
import Identity
import Postgres

enum Auth {
    static let routes: [Route] = [
        .create("/auth/register", .anyone, pool: .auth, register),
        .action("/auth/login", .anyone, pool: .auth, login),
        .action("/auth/forgot-password", .anyone, pool: .auth, forgotPassword),
        .action("/auth/reset-password", .anyone, pool: .auth, resetPassword),
        .get("/auth/me", .authenticated, me),
        .get("/auth/me/role", .authenticated, myRole),
        .get("/auth/roles", .permission(.authRead), roles),
    ]

    /// A login key lives this long after its last use.
    static let loginIdleSeconds = 30 * 24 * 3600

    private struct Registration {
        let email: String
        let password: String
        let name: String

        init(_ body: Fields) throws(APIError) {
            var body = body
            let email = body.required("email", .email)
            let password = body.required("password", .password)
            let name = body.required("name", .displayName)
            guard let email, let password, let name else { throw body.refusal }
            self.email = email
            self.password = password
            self.name = name
        }
    }

    private struct Login {
        let email: String
        let password: String

        /// Lengths are not judged: a password that can't be right is simply wrong.
        init(_ body: Fields) throws(APIError) {
            var body = body
            let email = body.required("email", .text(1...254))
            let password = body.required("password", .text(1...1024))
            guard let email, let password else { throw body.refusal }
            self.email = email
            self.password = password
        }
    }

    private static func register(_ context: Context) throws -> Response {
        let wish = try Registration(context.fields())
        guard context.config.registration.admits(wish.email) else { throw APIError.registrationClosed }
        let account = try context.accounts.register(
            id: context.newID(), email: wish.email, password: wish.password, name: wish.name)
        return .created([
            "message": "user created successfully", "user_id": .string(account.id.description), "data": account.json,
        ])
    }

    private static func login(_ context: Context) throws -> Response {
        let wish = try Login(context.fields())
        let key = Accounts.NewKey(id: context.newID(), idleSeconds: loginIdleSeconds)
        let account = try context.accounts.login(email: wish.email, password: wish.password, key: key)
        let members: JSON = ["user": account.json, "api_key": .string(key.text)]
        return Response.json(members.adding(["data": members])).withSecret
    }

    private static func forgotPassword(_ context: Context) throws -> Response {
        var body = try context.fields()
        let email = body.required("email", .email)
        guard let email else { throw body.refusal }
        try context.accounts.requestReset(email: email)
        return .message("If the email exists, a reset token has been sent.")
    }

    private static func resetPassword(_ context: Context) throws -> Response {
        var body = try context.fields()
        let token = body.required("token", .text(1...200))
        let password = body.required("new_password", .password)
        guard let token, let password else { throw body.refusal }
        try context.accounts.reset(token: token, newPassword: password)
        return .message("password updated successfully")
    }

    private static func me(_ context: Context) throws -> Response {
        let rows = try context.commit("select \(Account.columns) from users where id = current_owner()")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(["data": Account(row).json])
    }

    private static func myRole(_ context: Context) throws -> Response {
        let principal = try context.principal
        return .json([
            "data": ["role": .string(principal.role.rawValue), "permissions": .strings(principal.permissions.map(\.rawValue))]
        ])
    }

    private static func roles(_ context: Context) throws -> Response {
        let roles = Role.people.map { role -> JSON in
            ["name": .string(role.rawValue), "permissions": .strings(role.permissions.map(\.rawValue))]
        }
        return .json(["data": .array(roles), "meta": ["next_cursor": nil]])
    }
}
