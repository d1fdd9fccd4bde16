// What a request presents to be let in. One resolver for each kind of credential: nil is "not mine", a throw "mine, but bad".
import Crypto
package import HTTP
package import Postgres

/// A credential that looks right; whether it lives, the database says.
package struct Credential: Sendable {
    /// SHA-256 of the text.
    package let hash: [UInt8]

    package init(hash: [UInt8]) { self.hash = hash }

    package typealias Resolver = @Sendable (Headers) throws(APIError) -> Credential?

    /// The first resolver that claims the request decides.
    /// - Throws: `invalidCredentials` when none does, or when a key's checksum is wrong: then no database is asked.
    package static func resolve(_ headers: Headers, by resolvers: [Resolver]) throws(APIError) -> Credential {
        for resolver in resolvers {
            if let credential = try resolver(headers) { return credential }
        }
        throw .invalidCredentials
    }

    /// The statement that finds it, checks it and sets what row-level security reads; see sql/0002_identity.sql.
    package func authentication(for permission: Permission?, address: String) -> SQL {
        """
        select authenticate(\(hash), \(permission?.rawValue), \(permission?.roles)::text[], \
        \(Permission.authRead.roles)::text[], \(address)::inet)
        """
    }

    /// Writes to the audit that it was refused for want of a permission.
    package func denial(of route: String, address: String, requestID: String) -> SQL {
        "select audit_denial(\(hash), \(route), \(address)::inet, \(requestID))"
    }
}

/// `thecloud_…`, in `X-API-Key` or as a bearer token.
package enum APIKey {
    package static let prefix = "thecloud_"

    package static let resolver: Credential.Resolver = resolve

    @Sendable private static func resolve(_ headers: Headers) throws(APIError) -> Credential? {
        guard let text = headers["x-api-key"] ?? bearerToken(headers, prefix: prefix) else { return nil }
        guard KeyText.isWellFormed(text, prefix: prefix) else { throw .invalidCredentials }
        return Credential(hash: KeyText.digest(text))
    }
}

/// The bearer token (RFC 6750 §2.1) if it starts with the prefix of one kind of credential.
package func bearerToken(_ headers: Headers, prefix: String) -> String? {
    guard let value = headers["authorization"], value.prefix(7).lowercased() == "bearer " else { return nil }
    let token = value.dropFirst(7)
    return token.hasPrefix(prefix) ? String(token) : nil
}
