// What a request presents to be let in. One resolver for each kind of credential: nil is "not mine", a throw "mine, but bad".
package import Crypto
package import HTTP
package import Postgres

/// A credential that looks right; whether it lives, the database says.
package enum Credential: Equatable, Sendable {
    /// SHA-256 of the key's text.
    case key(hash: [UInt8])
    /// What an access token names.
    case session(ID, account: ID)

    /// What resolvers judge by beside the headers.
    package struct Bench {
        package let keyring: Keyring
        package let now: () -> Timestamp

        package init(keyring: Keyring, now: @escaping () -> Timestamp) {
            self.keyring = keyring
            self.now = now
        }
    }

    package typealias Resolver = @Sendable (Headers, Bench) throws(APIError) -> Credential?

    /// Those of every surface: any credential is accepted wherever its rights suffice.
    package static let resolvers: [Resolver] = [APIKey.resolver, SessionToken.resolver, MasterKey.resolver, ScopedKey.resolver]

    /// The first resolver that claims the request decides.
    /// - Throws: `invalidCredentials` when none does, or when a checksum or signature is wrong: then no database is asked.
    package static func resolve(_ headers: Headers, by resolvers: [Resolver], _ bench: Bench) throws(APIError) -> Credential {
        for resolver in resolvers {
            if let credential = try resolver(headers, bench) { return credential }
        }
        throw .invalidCredentials
    }

    /// The credential of a text that would stand in `Authorization: Bearer`.
    /// - Throws: `invalidCredentials`.
    package static func bearer(_ text: String, _ bench: Bench) throws(APIError) -> Credential {
        try resolve(Headers(["authorization": "Bearer " + text]), by: resolvers, bench)
    }

    /// Whether a value of `Authorization` carries a key or token of this installation, living or not: nobody else may see it.
    package static func isOurs(_ authorization: String, _ keyring: Keyring) -> Bool {
        let prefixes = [APIKey.prefix, MasterKey.prefix, ScopedKey.prefix, AgentKey.prefix, RefreshToken.prefix]
        return authorization.split(whereSeparator: { $0.isWhitespace || ",:=\"".contains($0) }).contains { word in
            prefixes.contains(where: word.hasPrefix) || JWT.isSigned(String(word), by: keyring.jwt)
        }
    }

    /// The statement that finds it, checks it and sets what row-level security reads; see sql/0002_identity.sql and 0004_sessions.sql.
    package func authentication(for permission: Permission?, address: String) -> SQL {
        switch self {
        case .key(let hash):
            """
            select authenticate(\(hash), \(permission?.rawValue), \(permission?.roles ?? Role.anyPerson)::text[], \
            \(Permission.authRead.roles)::text[], \(address)::inet)
            """
        case .session(let id, let account):
            """
            select authenticate_session(\(id), \(account), \(permission?.rawValue), \(permission?.roles ?? Role.anyPerson)::text[], \
            \(Permission.authRead.roles)::text[], \(address)::inet)
            """
        }
    }

    /// Writes to the audit that it was refused for want of a permission.
    package func denial(of route: String, address: String, requestID: String) -> SQL {
        switch self {
        case .key(let hash): "select audit_denial(\(hash), \(route), \(address)::inet, \(requestID))"
        case .session(let id, let account):
            "select audit_session_denial(\(id), \(account), \(route), \(address)::inet, \(requestID))"
        }
    }

    /// The principal of a transaction in which it was found good; one row. A session has no limits of its own.
    package var principal: SQL {
        switch self {
        case .key:
            """
            select owner_id, id, role, permissions, allowed_cidrs::text[], expires_at, sees_directory(), member_id
            from api_keys where id = current_credential()
            """
        case .session:
            """
            select owner_id, id, role, null::text[], null::text[], null::timestamptz, sees_directory(), null::uuid
            from sessions where id = current_credential()
            """
        }
    }
}

/// The bearer token (RFC 6750 §2.1) if it starts with the prefix of one kind of credential.
package func bearerToken(_ headers: Headers, prefix: String) -> String? {
    guard let value = headers["authorization"], value.prefix(7).lowercased() == "bearer " else { return nil }
    let token = value.dropFirst(7)
    return token.hasPrefix(prefix) ? String(token) : nil
}

/// A resolver of keys that come as bearer tokens and begin with a prefix of their own.
func bearerKey(prefix: String) -> Credential.Resolver {
    { headers, _ throws(APIError) in
        guard let text = bearerToken(headers, prefix: prefix) else { return nil }
        return .key(hash: try KeyText.hash(of: text, prefix: prefix))
    }
}

extension KeyText {
    /// What a key is looked up by.
    /// - Throws: `invalidCredentials` for a text that can't be a key.
    package static func hash(of text: String, prefix: String) throws(APIError) -> [UInt8] {
        guard isWellFormed(text, prefix: prefix) else { throw .invalidCredentials }
        return digest(text)
    }
}
