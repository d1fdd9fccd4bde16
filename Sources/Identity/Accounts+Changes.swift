// What people change about their own accounts: the password, names, the e-mail address (table users; sql/0007_runs.sql).
// The principal's password is asked for once more where somebody at an unlocked screen could take the account over.
import Crypto
package import HTTP
package import Postgres

extension Accounts {
    /// The first half of asking the principal for the password: a statement for its transaction, which must be committed before the second.
    package static let beginConfirmation: SQL = "select * from begin_confirmation()"

    /// The second half; hashes, so no transaction may be open.
    /// - Throws: `invalid` naming `current_password`, the same for a wrong one and where the account is locked.
    package func confirm(_ password: String, _ attempt: Attempt) throws -> Proof {
        do {
            return try check(password, in: attempt)
        } catch APIError.loginFailed {
            throw Self.wrongPassword
        }
    }

    /// Ends all other sessions and login keys of the account.
    /// - Parameter survivor: the credential that asks for it.
    /// - Throws: as `confirm(_:_:)`, when the password has been changed since.
    package func changePassword(to password: String, _ proof: Proof, survivor: ID) throws {
        let hash = try Password.hash(password, cost: cost)
        let change: SQL = """
            select change_password(\(proof.userID), \(proof.stored), \(hash), \(survivor), \(origin.address)::inet, \(origin.requestID))
            """
        guard try connection.begin().commit(change).scalar() ?? false else { throw Self.wrongPassword }
    }

    /// Members to change; `nil` leaves one as it is.
    package struct Profile {
        package let username: String?
        package let email: String?
        package let fullName: String?

        package init(username: String?, email: String?, fullName: String?) {
            self.username = username
            self.email = email
            self.fullName = fullName
        }
    }

    /// - Parameters:
    ///   - id: the account of the principal, whose transaction is over.
    ///   - proof: where the e-mail address changes in more than case.
    /// - Throws: `alreadyExists` for names that are taken; as `confirm(_:_:)`, when a proof is missing or the password has been changed since.
    package func change(_ profile: Profile, of id: ID, _ proof: Proof?, credential: ID) throws -> Member {
        if let proof { _ = try connection.begin().commit("select forgive_attempts(\(proof.userID), \(proof.stored))") }
        let rows = try connection.begin().commit(
            """
            select \(Member.columns) from change_profile(\(id), \(profile.username), \(profile.email), \(profile.fullName), \(proof?.stored), \
            \(credential), \(origin.address)::inet, \(origin.requestID))
            """, refusals: Self.takenNames)
        guard let row = rows.first else { throw Self.wrongPassword }
        return Member(row)
    }

    private static let wrongPassword = APIError.invalid("current_password", "is not the present password")
}
