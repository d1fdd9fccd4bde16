// The one table of permissions and roles. A new resource adds its lines here; the README and `GET /auth/roles` follow.

/// `resource:action`.
package enum Permission: String, CaseIterable, Sendable {
    case instanceRead = "instance:read"
    case instanceCreate = "instance:create"
    case instanceUpdate = "instance:update"
    case instanceDelete = "instance:delete"
    case vpcRead = "vpc:read"
    case vpcCreate = "vpc:create"
    case vpcUpdate = "vpc:update"
    case vpcDelete = "vpc:delete"
    case volumeRead = "volume:read"
    case volumeCreate = "volume:create"
    case volumeUpdate = "volume:update"
    case volumeDelete = "volume:delete"
    case loadBalancerRead = "loadbalancer:read"
    case loadBalancerCreate = "loadbalancer:create"
    case loadBalancerUpdate = "loadbalancer:update"
    case loadBalancerDelete = "loadbalancer:delete"
    case autoscalingRead = "autoscaling:read"
    case autoscalingCreate = "autoscaling:create"
    case autoscalingUpdate = "autoscaling:update"
    case autoscalingDelete = "autoscaling:delete"
    case cacheRead = "cache:read"
    case cacheCreate = "cache:create"
    case cacheUpdate = "cache:update"
    case cacheDelete = "cache:delete"
    case functionRead = "function:read"
    case functionCreate = "function:create"
    case functionUpdate = "function:update"
    case functionDelete = "function:delete"
    case functionInvoke = "function:invoke"
    case queueRead = "queue:read"
    case queueCreate = "queue:create"
    case queueUpdate = "queue:update"
    case queueDelete = "queue:delete"
    case queueSend = "queue:send"
    case queueReceive = "queue:receive"
    case topicRead = "topic:read"
    case topicCreate = "topic:create"
    case topicUpdate = "topic:update"
    case topicDelete = "topic:delete"
    case topicPublish = "topic:publish"
    case cronRead = "cron:read"
    case cronCreate = "cron:create"
    case cronUpdate = "cron:update"
    case cronDelete = "cron:delete"
    case cronRun = "cron:run"
    case routeRead = "route:read"
    case routeCreate = "route:create"
    case routeUpdate = "route:update"
    case routeDelete = "route:delete"
    case runRead = "run:read"
    case runCreate = "run:create"
    case runUpdate = "run:update"
    case runDelete = "run:delete"
    case serverRead = "server:read"
    case serverCreate = "server:create"
    case serverUpdate = "server:update"
    case serverDelete = "server:delete"
    case commandSend = "command:send"
    case webhookRead = "webhook:read"
    case webhookCreate = "webhook:create"
    case webhookUpdate = "webhook:update"
    case webhookDelete = "webhook:delete"
    case keyRead = "key:read"
    case keyCreate = "key:create"
    case keyRotate = "key:rotate"
    case keyDelete = "key:delete"
    case auditRead = "audit:read"
    case authRead = "auth:read"
    case authUpdate = "auth:update"
    case clientRead = "client:read"
    case clientUpdate = "client:update"
    case clientDelete = "client:delete"
    case clientRotate = "client:rotate"
    case memberRead = "member:read"
    case memberCreate = "member:create"
    case memberUpdate = "member:update"
    case memberDelete = "member:delete"
    case memberLogin = "member:login"
    case profileRead = "profile:read"
    case profileUpdate = "profile:update"
    case roomRead = "room:read"
    case roomReadAll = "room:read_all"
    case roomCreate = "room:create"
    case roomUpdate = "room:update"
    case roomDelete = "room:delete"
    case roomJoin = "room:join"
    case messageRead = "message:read"
    case messageSend = "message:send"
    case messageUpdate = "message:update"
    case messageDelete = "message:delete"
    case notificationRead = "notification:read"
    case notificationSend = "notification:send"
    case analyticsRead = "analytics:read"
    case agentConnect = "agent:connect"

    /// Names of the roles that grant it, as an array literal for SQL: every request binds one.
    package var roles: String { Self.rolesByPermission[self] ?? "{}" }

    private static let rolesByPermission = Dictionary(
        uniqueKeysWithValues: allCases.map { permission in
            (permission, Role.literal(Role.allCases.filter { $0.permissions.contains(permission) }))
        })

    /// What `instance:read`, `instance:*` or `*` stand for; `nil` for a text that names nothing. Keys of people are made of it.
    package static func named(_ text: String) -> [Permission]? {
        if text == "*" { return ofPeople }
        if text.hasSuffix(":*") {
            let all = ofPeople.filter { $0.rawValue.hasPrefix(text.dropLast()) }
            return all.isEmpty ? nil : all
        }
        return ofPeople.first { $0.rawValue == text }.map { [$0] }
    }

    /// All that an account of a person can have.
    package static let ofPeople = allCases.filter { resources(of: .people).contains($0.resource) }

    /// What stands before the colon.
    private var resource: Substring { rawValue.prefix { $0 != ":" } }

    /// The audiences of resources.
    fileprivate enum Audience { case people, clients, members }

    private static func resources(of audience: Audience) -> Set<Substring> {
        switch audience {
        case .people:
            [
                "instance", "vpc", "volume", "loadbalancer", "autoscaling", "cache", "function", "queue", "topic", "cron", "route", "run",
                "server", "command", "webhook", "key", "audit", "auth",
            ]
        case .clients: ["client", "member", "room", "message", "notification", "webhook", "analytics"]
        case .members: ["profile", "room", "message"]
        }
    }

    fileprivate static func all(of audience: Audience) -> [Permission] {
        allCases.filter { resources(of: audience).contains($0.resource) }
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
    /// A tenant of Chat, with its master key.
    case client
    /// Somebody of a client, with a scoped key.
    case member
    /// A server's agent.
    case agent

    /// Those that an account of a person can have.
    package static let people: [Role] = [.owner, .admin, .developer, .viewer, .user]

    /// `people` as an array literal for SQL.
    package static let anyPerson = literal(people)

    package static func literal(_ roles: [Role]) -> String { "{" + roles.map(\.rawValue).joined(separator: ",") + "}" }

    package var permissions: [Permission] {
        switch self {
        case .owner, .admin: Permission.ofPeople
        case .developer, .user: Permission.ofPeople.filter { !$0.rawValue.hasPrefix("auth:") }
        case .viewer: Permission.ofPeople.filter { $0.rawValue.hasSuffix(":read") && $0 != .authRead }
        case .client: Permission.all(of: .clients)
        case .member:
            Permission.all(of: .members).filter { ![.roomReadAll, .roomCreate, .roomUpdate, .roomDelete].contains($0) }
        case .agent: [.agentConnect]
        }
    }
}
