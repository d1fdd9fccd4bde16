// What the sweeps need to know of each route: a body that is right, and an object of each kind. Each resource says it in a file of its own
// below Samples/. A new route whose line is missing there fails the sweeps with a sentence that says so; everything else they read from the
// route table.
import API
import HTTP
import Identity
import TestSupport
import Testing

/// What the sweeps need to know of one resource's routes, each called like `POST /queues/:id/messages`.
struct Sample: Sendable {
    typealias Body = @Sendable (Owner) throws -> JSON?
    typealias Change = (field: String, change: KeyValuePairs<String, JSON>)

    /// A body that is right, for a caller and an object of the caller's (where the path has one).
    var bodies: [String: Body] = [:]
    /// What the right body answers, where that is not 200.
    var statuses: [String: Int] = [:]
    /// What a list can't do without: its query, with the `?`.
    var queries: [String: @Sendable (Owner, TestCloud) throws -> String] = [:]
    /// By what stands before a path's first parameter: makes an object of that kind for somebody; `nil` where they belong to nobody.
    /// Where a path has several parameters, one id for all, or one for each with blanks between.
    var objects: [String: @Sendable (Probe, Owner, TestCloud) throws -> String?] = [:]
    /// Changes to the right body that put a stranger's id into each reference it can hold; the field that is to be complained about.
    var references: [String: @Sendable (_ id: String) -> [Change]] = [:]

    /// The same body for everybody.
    static func always(_ body: JSON) -> Body { { _ in body } }
}

enum Samples {
    struct Missing: Error, CustomStringConvertible {
        let description: String
    }

    private static let resources = [
        Sample.auth,
        Sample.caches,
        Sample.clients,
        Sample.cronJobs,
        Sample.functions,
        Sample.instances,
        Sample.loadBalancers,
        Sample.messages,
        Sample.notifications,
        Sample.queues,
        Sample.rooms,
        Sample.routes,
        Sample.runs,
        Sample.scalingGroups,
        Sample.servers,
        Sample.sessions,
        Sample.topics,
        Sample.volumes,
        Sample.vpcs,
        Sample.webhooks,
    ]

    private static func entry<Value>(_ table: KeyPath<Sample, [String: Value]>, _ name: String) -> Value? {
        resources.lazy.compactMap { $0[keyPath: table][name] }.first
    }

    /// A body that is right.
    static func body(_ probe: Probe, _ owner: Owner) throws -> JSON? {
        guard probe.takesBody else { return nil }
        guard let body = entry(\.bodies, probe.name) else {
            throw Missing(description: "a file below Samples/ needs a line with a valid body for \(probe.name)")
        }
        return try body(owner)
    }

    /// What the right body answers.
    static func status(_ probe: Probe) -> Int {
        // The engine of these tests never answers.
        entry(\.statuses, probe.name) ?? (probe.route.pool == .long ? 503 : 200)
    }

    /// What a list can't do without.
    static func query(_ probe: Probe, _ owner: Owner, _ cloud: TestCloud) throws -> String {
        try entry(\.queries, probe.name)?(owner, cloud) ?? ""
    }

    /// An object of the kind that the path names, made for somebody; `nil` where objects of that kind belong to nobody.
    static func object(_ probe: Probe, of owner: Owner, _ cloud: TestCloud) throws -> String? {
        guard probe.route.path.contains("/:") else { return nil }
        let kind = String(probe.route.path.prefix { $0 != ":" }.dropLast())
        guard let make = entry(\.objects, kind) else {
            throw Missing(description: "a file below Samples/ needs a line that makes an object below \(kind) (for \(probe.name))")
        }
        return try make(probe, owner, cloud)
    }

    /// Changes that put a stranger's id into each reference.
    static func references(_ probe: Probe, stranger id: String) -> [Sample.Change] { entry(\.references, probe.name)?(id) ?? [] }

    /// Where the objects of a kind that can't be got one by one are listed.
    static func list(of kind: String) -> String { kind == "/api/v1/api-keys" ? "/api/v1/api-keys/me" : kind }

    /// Somebody who may call the route: a person where persons may, else a client's user where users may, else the client.
    /// - Parameter role: of a person.
    static func caller(_ probe: Probe, _ cloud: TestCloud, role: String? = "owner") throws -> Owner {
        guard let permission = probe.route.access.permission, !Permission.ofPeople.contains(permission) else {
            return try cloud.newOwner(role: role)
        }
        return Role.member.permissions.contains(permission) ? try cloud.newMember() : try cloud.newClient()
    }

    /// Living keys that must not get in: a person's without the permission, and those of every other kind whose role lacks it.
    static func weakKeys(_ probe: Probe, _ owner: Owner, _ cloud: TestCloud) throws -> [String] {
        let permission = probe.route.access.permission
        func lacks(_ role: Role) -> Bool { permission.map { !role.permissions.contains($0) } ?? !Role.people.contains(role) }
        var keys: [String] = []
        if let unrelated = Permission.ofPeople.first(where: { $0 != permission }), permission != nil {
            let person = owner.master == nil ? owner : try cloud.newOwner(role: "owner")
            keys.append(try cloud.newKey(of: person, ["permissions": [.string(unrelated.rawValue)]]).text)
            if lacks(.owner) { keys.append(person.key) }
        }
        // Of the same client, where there is one.
        let client = owner.master == nil ? try cloud.newClient() : owner
        if lacks(.client), let master = client.master { keys.append(master) }
        if lacks(.member) { keys.append(try cloud.newMember(of: client).key) }
        return keys
    }
}
