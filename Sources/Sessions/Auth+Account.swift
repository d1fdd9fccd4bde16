// /api/v1/auth/change-password and PUT /api/v1/auth/me (= /api/v1/profile): what people change about their own accounts.
// Table users, written by functions of sql/0007_runs.sql. Hashing happens between two transactions, so no stored answer can be part of it.
import API
import HTTP
import Identity
import Postgres

enum AuthAccount {
    static let routes: [Route] = [
        .action("/api/v1/auth/change-password", .authenticated, pool: .auth, input: .json, isIdempotent: false, changePassword),
        .put("/api/v1/auth/me", .authenticated, pool: .auth, update),
        .put("/api/v1/profile", .authenticated, pool: .auth, update),
    ]

    private struct NewPassword {
        let current: String
        let new: String

        /// The length of the present one is not judged, as at a login.
        init(_ body: Fields) throws(APIError) {
            var body = body
            let current = body.required("current_password", .text(1...1024))
            let new = body.required("new_password", .password)
            let repeated = body.optional("new_password_confirm", .password)
            if let repeated, let new, repeated != new { body.report("new_password_confirm", "must be the same as new_password") }
            guard let current, let new, body.problems == nil else { throw body.refusal }
            self.current = current
            self.new = new
        }
    }

    private struct Change {
        let profile: Accounts.Profile
        let password: String?

        init(_ body: Fields) throws(APIError) {
            var body = body
            profile = .init(
                username: body.optional("username", .resourceName), email: body.optional("email", .email),
                fullName: body.optional("full_name", .displayName))
            password = body.optional("current_password", .text(1...1024))
            if !["username", "email", "full_name"].contains(where: body.has) {
                body.report("username", "or email or full_name is required")
            }
            if let problems = body.problems { throw problems }
        }
    }

    private static func changePassword(_ context: Context) throws -> Response {
        let wish = try NewPassword(context.fields())
        let principal = try context.unlimitedPrincipal
        let proof = try confirm(wish.current, context)
        try context.accounts.changePassword(to: wish.new, proof, survivor: principal.credentialID)
        return .message("Password changed")
    }

    private static func update(_ context: Context) throws -> Response {
        let change = try Change(context.fields())
        let principal = try context.unlimitedPrincipal
        var proof: Accounts.Proof?
        if let email = change.profile.email, try isNew(email, context) {
            guard context.config.registration.admits(change: email) else { throw APIError.registrationClosed }
            guard let password = change.password else {
                throw APIError.invalid("current_password", "is required for another e-mail address")
            }
            proof = try confirm(password, context)
        } else {
            try context.release()
        }
        let member = try context.accounts.change(change.profile, of: principal.ownerID, proof, credential: principal.credentialID)
        return .json(member.json)
    }

    /// Whether the address differs from the present one in more than case.
    private static func isNew(_ email: String, _ context: Context) throws -> Bool {
        try context.query("select 1 from users where id = current_owner() and email_key = \(email.lowercased())").isEmpty
    }

    /// The request's transaction is over afterwards.
    private static func confirm(_ password: String, _ context: Context) throws -> Accounts.Proof {
        try context.accounts.confirm(password, .init(context.commit(Accounts.beginConfirmation)[0]))
    }
}

extension Config.Registration {
    /// An account that exists may take any address where registration is closed, but none of a domain that may not have accounts.
    fileprivate func admits(change email: String) -> Bool { self == .closed || admits(email) }
}
