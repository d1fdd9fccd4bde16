// Accounts (table users), shared by all surfaces: registration, password login, reset. The SQL side is sql/0002_identity.sql:
// workers never read a hash column, they call functions. Hashing is slow on purpose and happens while no transaction is open.
package import Crypto
package import HTTP
package import Postgres

package struct Account: Sendable {
    package let id: ID
    package let email: String
    package let name: String
    package let role: String
    package let createdAt: Timestamp

    /// The select list that `init(_:)` reads.
    package static let columns: SQL = "id, email, name, role, created_at"

    package init(_ row: Row) {
        var row = row
        id = row.next()
        email = row.next()
        name = row.next()
        role = row.next()
        createdAt = row.next()
    }

    package func write(to out: inout JSONWriter) {
        out.member("id", id)
        out.member("email", email)
        out.member("name", name)
        out.member("role", role)
        out.member("created_at", createdAt)
    }

    package var json: JSON { .written(write) }
}

/// Where a request came from, for the audit.
package struct Origin: Sendable {
    package let address: String
    package let requestID: String

    package init(address: String, requestID: String) {
        self.address = address
        self.requestID = requestID
    }
}

/// Password work against one database connection.
package struct Accounts {
    let connection: Connection
    let cost: ScryptCost
    let origin: Origin

    package init(_ connection: Connection, cost: ScryptCost, origin: Origin) {
        self.connection = connection
        self.cost = cost
        self.origin = origin
    }

    /// - Throws: `alreadyExists` for an e-mail that is taken, in any case of letters.
    package func register(id: ID, email: String, password: String, name: String) throws -> Account {
        let hash = try Password.hash(password, cost: cost)
        let registration: SQL = """
            select \(Account.columns) from register_user(\(id), \(email), \(name), \(hash), \
            \(origin.address)::inet, \(origin.requestID))
            """
        let taken = APIError.alreadyExists("An account with this e-mail address exists already")
        return Account(try connection.begin().commit(registration, refusals: ["users_email_taken": taken])[0])
    }

    /// What a login leaves behind.
    package struct NewKey: Sendable {
        package let id: ID
        package let text: String
        package let idleSeconds: Int

        package init(id: ID, idleSeconds: Int) {
            self.id = id
            self.idleSeconds = idleSeconds
            text = KeyText.make(prefix: APIKey.prefix)
        }
    }

    /// What `begin_login` and `begin_confirmation` tell: the attempt is counted, the password not yet looked at.
    package struct Attempt {
        let userID: ID?
        let passwordHash: String?
        let isRefused: Bool

        package init(_ row: Row) {
            var row = row
            userID = row.next()
            passwordHash = row.next()
            isRefused = row.next()
        }
    }

    /// A right password; what settles the login.
    package struct Proof {
        let userID: ID
        let stored: String
        /// The password at the present cost, where the stored hash has another.
        let better: String?
    }

    /// Two transactions: count the attempt; hash with none open; settle.
    /// - Throws: `loginFailed`, the same and after the same time for an unknown address, a wrong password and a locked account.
    package func login(email: String, password: String, key: NewKey) throws -> Account {
        let proof = try prove(email, password)
        let rows = try connection.begin().commit(
            """
            select \(Account.columns) from finish_login(\(proof.userID), \(proof.stored), \(proof.better), \(key.id), \(KeyText.digest(key.text)), \
            \(KeyText.displayPrefix(key.text)), \(key.idleSeconds), \(origin.address)::inet, \(origin.requestID))
            """)
        guard let row = rows.first else { throw APIError.loginFailed }
        return Account(row)
    }

    /// The first half of a login.
    /// - Parameter name: an e-mail address or a user name, in any case of letters.
    func prove(_ name: String, _ password: String) throws -> Proof {
        try check(password, in: Attempt(try connection.begin().commit("select * from begin_login(\(name.lowercased()))")[0]))
    }

    /// Holds a password against a counted attempt; hashes, so no transaction may be open.
    /// - Throws: `loginFailed`.
    func check(_ password: String, in attempt: Attempt) throws -> Proof {
        let isRight = try Password.verify(password, against: attempt.passwordHash ?? Password.dummy(cost: cost))
        guard let userID = attempt.userID, let stored = attempt.passwordHash, isRight, !attempt.isRefused else {
            if let userID = attempt.userID {
                _ = try connection.begin().commit(
                    "select audit_failed_login(\(userID), \(origin.address)::inet, \(origin.requestID))")
            }
            throw APIError.loginFailed
        }
        let better = Password.needsRehash(stored, cost: cost) ? try Password.hash(password, cost: cost) : nil
        return Proof(userID: userID, stored: stored, better: better)
    }

    /// Wishes the reset mail; says nothing about whether there is such an account.
    package func requestReset(email: String) throws {
        let transaction = try connection.begin()
        transaction.notify("jobs")
        _ = try transaction.commit(
            "select request_password_reset(\(email.lowercased()), \(origin.address)::inet, \(origin.requestID))")
    }

    /// Spends a token from a reset mail: sets the password and ends every key of the account.
    /// - Throws: `invalid` naming `token` when it is unknown, spent or expired.
    package func reset(token: String, newPassword: String) throws {
        let digest = SHA256.digest(token)
        let unusable = APIError.invalid("token", "is not valid or has expired; ask for a new one")
        guard try holds("select is_reset_token(\(digest))") else { throw unusable }
        let hash = try Password.hash(newPassword, cost: cost)
        let spending: SQL = "select reset_password(\(digest), \(hash), \(origin.address)::inet, \(origin.requestID))"
        guard try holds(spending) else { throw unusable }
    }

    private func holds(_ question: SQL) throws -> Bool {
        try connection.begin().commit(question).scalar() ?? false
    }
}
