// Who a request acts for, whatever credential came in. Handlers see this and never a header.
package import HTTP
package import Postgres

package struct Principal: Sendable {
    package let ownerID: ID
    package let credentialID: ID
    package let role: Role
    /// The credential's own limits; `nil`: none.
    package let limits: Limits
    /// May see all accounts and the whole audit log.
    package let seesDirectory: Bool
    /// Which of a client's members it is; `nil` for everybody else.
    package let memberID: ID?

    /// What narrows a credential down from its account's rights.
    package struct Limits: Sendable {
        package let permissions: [String]?
        package let allowedCIDRs: [CIDR]?
        package let expiresAt: Timestamp?

        package init(permissions: [String]?, allowedCIDRs: [CIDR]?, expiresAt: Timestamp?) {
            self.permissions = permissions
            self.allowedCIDRs = allowedCIDRs
            self.expiresAt = expiresAt
        }

        /// Whether a credential with the other limits could do nothing that this one can't.
        package func cover(_ other: Limits) -> Bool {
            if let permissions {
                guard let others = other.permissions, Set(others).isSubset(of: permissions) else { return false }
            }
            if let allowedCIDRs {
                guard let others = other.allowedCIDRs else { return false }
                guard others.allSatisfy({ block in allowedCIDRs.contains { $0.contains(block) } }) else { return false }
            }
            return true
        }
    }

    /// Reads the row of `Credential.principal`.
    package init(_ row: Row) {
        var row = row
        ownerID = row.next()
        credentialID = row.next()
        guard let role = Role(rawValue: row.next()) else { preconditionFailure("the schema knows a role that the code does not") }
        self.role = role
        limits = Limits(permissions: row.next(), allowedCIDRs: row.next([String]?.self)?.compactMap(CIDR.init), expiresAt: row.next())
        seesDirectory = row.next()
        memberID = row.next()
    }

    /// Role ∩ credential, in the order of the table.
    package var permissions: [Permission] {
        role.permissions.filter { permission in limits.permissions.map { $0.contains(permission.rawValue) } ?? true }
    }

    package func may(_ permission: Permission) -> Bool { permissions.contains(permission) }
}
