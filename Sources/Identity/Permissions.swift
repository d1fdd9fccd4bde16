// The one table of permissions and roles. A new resource adds its lines here; the README and `GET /auth/roles` follow.

/// `resource:action`.
package enum Permission: String, CaseIterable, Sendable {
    case instanceRead = "instance:read"
    case instanceCreate = "instance:create"
    case instanceUpdate = "instance:update"
    case instanceDelete = "instance:delete"
    case keyRead = "key:read"
    case keyCreate = "key:create"
    case keyRotate = "key:rotate"
    case keyDelete = "key:delete"
    case auditRead = "audit:read"
    case authRead = "auth:read"
    case authUpdate = "auth:update"

    /// Names of the roles that grant it, as an array literal for SQL: every request binds one.
    package var roles: String { Self.rolesByPermission[self] ?? "{}" }

    private static let rolesByPermission = Dictionary(
        uniqueKeysWithValues: allCases.map { permission in
            (permission, "{" + Role.allCases.filter { $0.permissions.contains(permission) }.map(\.rawValue).joined(separator: ",") + "}")
        })

    /// What `instance:read`, `instance:*` or `*` stand for; `nil` for a text that names nothing.
    package static func named(_ text: String) -> [Permission]? {
        if text == "*" { return allCases }
        if text.hasSuffix(":*") {
            let all = allCases.filter { $0.rawValue.hasPrefix(text.dropLast()) }
            return all.isEmpty ? nil : all
        }
        return Permission(rawValue: text).map { [$0] }
    }
}

package enum Role: String, CaseIterable, Sendable {
    /// Everything.
    case owner
    /// Everything, but makes and unmakes no owners.
    case admin
    /// All of one's own resources and keys.
    case developer
    /// Reads one's own resources.
    case viewer
    /// What registration gives; like developer.
    case user

    package var permissions: [Permission] {
        switch self {
        case .owner, .admin: Permission.allCases
        case .developer, .user: Permission.allCases.filter { !$0.rawValue.hasPrefix("auth:") }
        case .viewer: Permission.allCases.filter { $0.rawValue.hasSuffix(":read") && $0 != .authRead }
        }
    }
}
