// Registration and login that open a session (tables sessions, refresh_tokens; sql/0004_sessions.sql), and its refreshing.
// Refresh tokens are stored as SHA-256 like keys, and like keys refused by their checksum before a database is asked.
import Crypto
package import HTTP
package import Postgres

/// An account as the sessions' surface shows it.
package struct Member: Sendable {
    package let id: ID
    package let username: String?
    package let email: String
    package let fullName: String?
    package let createdAt: Timestamp

    /// The select list that `init(_:)` reads.
    package static let columns: SQL = "id, username, email, full_name, created_at"

    package init(_ row: Row) {
        var row = row
        id = row.next()
        username = row.next()
        email = row.next()
        fullName = row.next()
        createdAt = row.next()
    }

    package var json: JSON {
        .written { out in
            out.member("id", id)
            out.member("username", username)
            out.member("email", email)
            out.member("full_name", fullName)
            out.member("created_at", createdAt)
        }
    }
}

/// What a login leaves behind on this surface.
package struct NewSession: Sendable {
    package let id: ID
    package let refreshToken: String
    /// Shown in the list of sessions.
    package let userAgent: String?

    package init(id: ID, userAgent: String?) {
        self.id = id
        self.userAgent = userAgent.map { String($0.prefix(200)) }
        refreshToken = RefreshToken.make()
    }
}

package enum RefreshToken {
    static let prefix = "refresh_"

    package static func make() -> String { KeyText.make(prefix: prefix) }

    package static func isWellFormed(_ text: String) -> Bool { KeyText.isWellFormed(text, prefix: prefix) }
}

extension Accounts {
    /// - Throws: `alreadyExists` for a user name or an e-mail address that is taken, in any case of letters.
    package func register(
        id: ID, username: String, email: String, password: String, fullName: String?, session: NewSession
    ) throws -> Member {
        let hash = try Password.hash(password, cost: cost)
        let transaction = try connection.begin()
        try transaction.send(
            """
            select register_member(\(id), \(username), \(email), \(fullName), \(hash), \(origin.address)::inet, \(origin.requestID))
            """)
        let rows = try transaction.commit(
            opening(session, of: Proof(userID: id, stored: hash, better: nil)), refusals: Self.takenNames)
        return Member(rows[0])
    }

    static let takenNames: [String: APIError] = [
        "users_email_taken": .alreadyExists("An account with this e-mail address exists already"),
        "users_username_taken": .alreadyExists("An account with this user name exists already"),
    ]

    /// - Parameter name: an e-mail address or a user name.
    /// - Throws: `loginFailed`, as `login(email:password:key:)` does.
    package func login(name: String, password: String, session: NewSession) throws -> Member {
        let proof = try prove(name, password)
        guard let row = try connection.begin().commit(opening(session, of: proof)).first else { throw APIError.loginFailed }
        return Member(row)
    }

    /// The session and account of a refresh token that lives.
    /// - Parameter successor: a further token to store; see refresh_session().
    /// - Throws: `invalidToken`.
    package func refresh(_ token: String, successor: String?) throws -> (session: ID, account: ID) {
        guard RefreshToken.isWellFormed(token) else { throw APIError.invalidToken }
        let rows = try connection.begin().commit(
            """
            select session_id, account_id from refresh_session(\(KeyText.digest(token)), \(successor.map(KeyText.digest)), \
            \(origin.address)::inet, \(origin.requestID))
            """)
        guard var row = rows.first else { throw APIError.invalidToken }
        return (row.next(), row.next())
    }

    private func opening(_ session: NewSession, of proof: Proof) -> SQL {
        """
        select \(Member.columns) from finish_session_login(\(proof.userID), \(proof.stored), \(proof.better), \(session.id), \
        \(KeyText.digest(session.refreshToken)), \(session.userAgent), \(origin.address)::inet, \(origin.requestID))
        """
    }
}
