// What the sweeps need to know of each route: a body that is right, and an object of each kind. A new route whose line is missing here
// fails the sweeps with a sentence that says so; everything else they read from the route table.
import API
import HTTP
import Identity
import Postgres
import TestSupport
import Testing

/// A route as an argument of tests.
struct Probe: Sendable, CustomTestStringConvertible {
    let route: Route

    var name: String { "\(route.method.rawValue) \(route.path)" }
    var testDescription: String { name }

    var takesBody: Bool { if case .none = route.input { false } else { true } }
    var needsBody: Bool { if case .json = route.input { true } else { false } }

    /// The path with its parameters filled in.
    /// - Parameter id: for all of them; or several with blanks between, each for the next one.
    func path(_ id: String) -> String {
        var ids = id.split(separator: " ", omittingEmptySubsequences: false)
        return route.path.split(separator: "/", omittingEmptySubsequences: false).map { segment in
            guard segment.hasPrefix(":") else { return segment }
            return ids.count > 1 ? ids.removeFirst() : ids[0]
        }.joined(separator: "/")
    }

    /// What its surface says to a bad credential, and to a key that has expired.
    var refusal: (code: String, message: String) {
        switch route.surface {
        case .cloud: ("INVALID_CREDENTIALS", "Invalid authentication credentials")
        case .sessions: ("INVALID_TOKEN", "Invalid or expired token")
        }
    }
    var denial: String {
        switch route.surface {
        case .cloud: "Insufficient permissions for this operation"
        case .sessions: "Insufficient permissions"
        }
    }
    var expiry: (code: String, message: String) {
        switch route.surface {
        case .cloud: ("KEY_EXPIRED", "API key has expired")
        case .sessions: refusal
        }
    }

    /// All routes of the product.
    static let all = (try? TestCloud().dispatcher.routes.map(Probe.init)) ?? []
    static let chat = all.filter { $0.route.source.hasPrefix("Chat/") }
    static let closed = all.filter { !$0.route.access.isOpen }
    static let permitted = all.filter { $0.route.access.permission != nil }
    static let withID = all.filter { $0.route.path.contains("/:") }
    static let withBody = all.filter(\.takesBody)
    static let readable = all.filter { $0.route.method == .get }
}

enum Samples {
    struct Missing: Error, CustomStringConvertible {
        let description: String
    }

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

    /// What a list can't do without.
    static func query(_ probe: Probe, _ owner: Owner, _ cloud: TestCloud) throws -> String {
        switch probe.name {
        case "GET /api/v1/messages": "?room_id=" + (try cloud.newRoom(of: owner, joinedBy: [owner]))
        default: ""
        }
    }

    /// A body that is right, for a caller and an object of the caller's (where the path has one).
    static func body(_ probe: Probe, _ owner: Owner) throws -> JSON? {
        guard probe.takesBody else { return nil }
        switch probe.name {
        case "POST /auth/register": return ["email": .string(TestCloud.newEmail()), "password": "correct horse", "name": "Someone"]
        case "POST /auth/login": return ["email": .string(owner.email), "password": .string(owner.password)]
        case "POST /auth/forgot-password": return ["email": .string(owner.email)]
        case "POST /auth/reset-password": return ["token": "reset_unknown", "new_password": "correct horse"]
        case "POST /auth/keys": return ["name": "further", "permissions": ["instance:read"]]
        case "POST /auth/keys/:id/rotate", "POST /auth/keys/:id/regenerate": return ["grace_seconds": 60]
        case "PUT /auth/users/:id/role": return ["role": "viewer"]
        case "POST /instances": return ["name": "web", "image": "nginx", "ports": "0:80"]
        case "POST /routes", "PUT /routes/:id":
            return [
                "name": "auth-service", "prefix": "/auth", "target": "http://auth-service:8080", "strip_prefix": true, "methods": ["GET"],
            ]
        case "PUT /instances/:id": return ["name": "web-2", "status": "STOPPED"]
        case "POST /cron", "PUT /cron/:id":
            return [
                "name": "nightly", "schedule": "0 3 * * 1-5", "timezone": "Europe/London", "target_url": "https://jobs.example/run",
                "method": "PUT", "headers": ["Authorization": "Bearer x"], "timeout": 10, "retries": 2, "overlap": "forbid",
                "missed": "run_once",
            ]
        case "POST /queues", "PUT /queues/:id":
            return ["name": "tasks", "visibility_timeout": 30, "delay": 0, "retention": 3600, "max_receive_count": 5]
        case "POST /queues/:id/messages":
            return ["body": "payload-data", "delay_seconds": 0, "dedup_id": "order-17", "attributes": ["kind": "order", "n": 1]]
        case "POST /queues/:id/messages/delete": return ["receipt_handles": [.string("\(owner.id).\(owner.id)")]]
        case "PUT /queues/:id/messages/:receipt_handle": return ["visibility_timeout": 60]
        case "POST /topics", "PUT /topics/:id": return ["name": "orders"]
        case "POST /topics/:id/publish": return ["message": ["order": 17], "attributes": ["kind": "order"]]
        case "POST /subscriptions":
            let topic = try topic(of: owner, TestCloud())
            return ["topic_id": .string(topic), "protocol": "webhook", "endpoint": "https://hooks.example/in"]
        case "PUT /subscriptions/:id": return ["is_active": true]
        case "POST /api/v1/webhooks":
            return ["name": "Hook", "url": "https://hooks.example/in", "events": ["run.completed", "instance.*"]]
        case "PUT /api/v1/webhooks/:id":
            return ["name": "Hook 2", "url": "https://hooks.example/other", "events": [], "is_active": true]
        case "POST /api/v1/auth/register":
            let email = TestCloud.newEmail()
            return [
                "username": .string(String(email.prefix(20))), "email": .string(email), "password": "correct horse", "full_name": "Someone",
            ]
        case "POST /api/v1/auth/login": return ["username": .string(owner.email), "password": .string(owner.password)]
        case "POST /api/v1/auth/refresh":
            let answer = try TestCloud().call(
                .post, "/api/v1/auth/login", json: ["email": .string(owner.email), "password": .string(owner.password)])
            return ["refresh_token": try #require(answer["refresh_token"], "\(answer)"), "rotate": true]
        case "POST /api/v1/servers": return ["name": "web-1", "host": "203.0.113.7", "port": 22]
        case "PUT /api/v1/servers/:id": return ["name": "web-2", "host": "web-2.example", "port": 2222]
        case "POST /api/v1/api-keys": return ["server_id": .string(try server(of: owner, TestCloud())), "name": "agent"]
        case "POST /api/v1/commands/:server_id": return ["command": "uptime", "timeout": 1]
        case "POST /api/v1/auth/change-password":
            let password = JSON.string(owner.password)
            return ["current_password": password, "new_password": password, "new_password_confirm": password]
        case "PUT /api/v1/auth/me", "PUT /api/v1/profile":
            return [
                "username": .string(String(TestCloud.newEmail().prefix(20))), "email": .string(owner.email), "full_name": "Someone Else",
                "current_password": .string(owner.password),
            ]
        case "POST /api/v1/runs": return ["name": "Run 1", "description": "of a test", "config": ["scale": 10]]
        case "PUT /api/v1/runs/:id": return ["name": "Run 2", "description": "of another test", "config": ["scale": 20]]
        case "PUT /api/v1/runs/:id/status": return ["status": "running"]
        case "PUT /api/v1/runs/:id/tps": return ["max": 1500, "min": .double(0.5), "average": 700, "95p": 1400, "99p": 1490]
        case "POST /api/v1/clients", "PUT /api/v1/clients/me":
            return ["name": "My Chat App", "description": "Customer support chat system"]
        case "POST /api/v1/clients/me/rotate": return ["grace_seconds": 60]
        case "POST /api/v1/users", "PUT /api/v1/users/:id":
            return ["email": .string(TestCloud.newEmail()), "username": "john_doe", "full_name": "John Doe"]
        case "POST /api/v1/users/login": return ["email": .string(try TestCloud().newMember(of: owner).email)]
        case "PUT /api/v1/users/profile": return ["username": "john_doe", "full_name": "John Doe"]
        case "POST /api/v1/rooms", "PUT /api/v1/rooms/:id": return ["name": "General", "description": "All and sundry"]
        case "POST /api/v1/rooms/join": return ["room_id": .string(try TestCloud().newRoom(of: owner))]
        case "POST /api/v1/rooms/leave": return ["room_id": .string(try TestCloud().newRoom(of: owner, joinedBy: [owner]))]
        case "POST /api/v1/rooms/:id/join", "POST /api/v1/rooms/:id/leave": return nil
        case "POST /api/v1/messages":
            let room = try TestCloud().newRoom(of: owner, joinedBy: [owner])
            return ["room_id": .string(room), "content": "Hello, world!", "message_type": "text"]
        case "PUT /api/v1/messages/:id": return ["content": "Hello, all!"]
        case "POST /api/v1/notifications":
            return ["type": "email", "to_email": .string(TestCloud.newEmail()), "subject": "News", "content": "There are some."]
        default: throw Missing(description: "Samples.body needs a line with a valid body for \(probe.name)")
        }
    }

    /// What the right body answers, where it is not simply 201 for a create and 200 for all else.
    static func status(_ probe: Probe) -> Int {
        switch probe.name {
        // There is no such token.
        case "POST /auth/reset-password": 400
        case "POST /auth/register", "POST /api/v1/auth/register", "POST /auth/keys", "POST /instances", "POST /routes",
            "POST /api/v1/servers",
            "POST /api/v1/runs", "POST /api/v1/webhooks", "POST /api/v1/api-keys", "POST /api/v1/clients", "POST /api/v1/users",
            "POST /api/v1/rooms", "POST /api/v1/messages", "POST /api/v1/notifications", "POST /cron",
            "POST /queues", "POST /queues/:id/messages", "POST /topics", "POST /topics/:id/publish", "POST /subscriptions":
            201
        case "GET /queues/:id/messages": 200
        case "POST /cron/:id/run": 202
        // It has no agent.
        case "POST /api/v1/commands/:server_id": 409
        // The engine of these tests never answers.
        case _ where probe.route.pool == .long: 503
        default: 200
        }
    }

    /// An object of the kind that the path names, made for somebody; `nil` where objects of that kind belong to nobody.
    static func object(_ probe: Probe, of owner: Owner, _ cloud: TestCloud) throws -> String? {
        guard probe.route.path.contains("/:") else { return nil }
        let kind = probe.route.path.prefix { $0 != ":" }.dropLast()
        switch kind {
        case "/auth/keys": return try cloud.newKey(of: owner).id
        case "/auth/users": return nil
        case "/api/v1/auth/sessions":
            _ = cloud.call(.post, "/api/v1/auth/login", json: ["email": .string(owner.email), "password": .string(owner.password)])
            return try cloud.admin("select id::text from sessions where owner_id = \(owner.id)::uuid order by id desc").scalar(String.self)
        case "/api/v1/webhooks":
            let answer = cloud.call(.post, "/api/v1/webhooks", key: owner.key, json: ["url": "https://hooks.example/in"])
            let id = try #require(answer["id"]?.string, "\(answer)")
            // A path with two ids gets the same one for both: a delivery may be called like its webhook.
            try cloud.admin(
                """
                insert into webhook_deliveries (id, owner_id, webhook_id, event_id, event_type, body)
                values (\(id)::uuid, \(owner.id)::uuid, \(id)::uuid, \(id)::uuid, 'a.b', '{}')
                """)
            return id
        case "/cron":
            let body: JSON = [
                "name": .string("c" + TestCloud.newEmail().prefix(12)), "schedule": "@daily", "target_url": "http://my-service/cleanup",
            ]
            let answer = cloud.call(.post, "/cron", key: owner.key, json: body)
            return try #require(answer["data"]?["id"]?.string, "\(answer)")
        case "/instances":
            let body: JSON = ["name": .string("n" + TestCloud.newEmail().prefix(12)), "image": "nginx", "instance_type": "nano"]
            let answer = cloud.call(.post, "/instances", key: owner.key, json: body)
            return try #require(answer["data"]?["id"]?.string, "\(answer)")
        case "/routes":
            let name = "n" + TestCloud.newEmail().prefix(12)
            let body: JSON = ["name": .string(name), "prefix": .string("/" + name), "target": "http://auth-service:8080"]
            let answer = cloud.call(.post, "/routes", key: owner.key, json: body)
            return try #require(answer["data"]?["id"]?.string, "\(answer)")
        case "/queues":
            let answer = cloud.call(.post, "/queues", key: owner.key, json: ["name": .string("q" + TestCloud.newEmail().prefix(12))])
            let id = try #require(answer["data"]?["id"]?.string, "\(answer)")
            guard probe.route.path.hasSuffix(":receipt_handle") else { return id }
            _ = cloud.call(.post, "/queues/\(id)/messages", key: owner.key, json: ["body": "a"])
            let received = cloud.call(.get, "/queues/\(id)/messages", key: owner.key)
            return id + " " + (try #require(received["data"]?[0]?["receipt_handle"]?.string, "\(received)"))
        case "/topics": return try topic(of: owner, cloud)
        case "/subscriptions":
            let body: JSON = [
                "topic_id": .string(try topic(of: owner, cloud)), "protocol": "webhook", "endpoint": "https://hooks.example/in",
            ]
            let answer = cloud.call(.post, "/subscriptions", key: owner.key, json: body)
            let id = try #require(answer["data"]?["id"]?.string, "\(answer)")
            // A delivery that is called like its subscription.
            try cloud.admin(
                """
                with m as (
                    insert into topic_messages (id, owner_id, topic_id, body)
                    select \(id)::uuid, owner_id, topic_id, '{}' from subscriptions where id = \(id)::uuid returning id, owner_id)
                insert into subscription_deliveries (id, owner_id, subscription_id, message_id) select id, owner_id, id, id from m
                """)
            return id
        case "/api/v1/servers", "/api/v1/metrics", "/api/v1/commands": return try server(of: owner, cloud)
        case "/api/v1/api-keys":
            let body: JSON = ["server_id": .string(try server(of: owner, cloud)), "name": "agent"]
            let answer = cloud.call(.post, "/api/v1/api-keys", key: owner.key, json: body)
            return try #require(answer["id"]?.string, "\(answer)")
        case "/api/v1/runs":
            let answer = cloud.call(.post, "/api/v1/runs", key: owner.key, json: ["name": "Run 1", "config": [:]])
            return try #require(answer["id"]?.string, "\(answer)")
        case "/api/v1/users": return try cloud.newMember(of: owner).memberID
        case "/api/v1/rooms": return try cloud.newRoom(of: owner, joinedBy: [owner])
        case "/api/v1/messages":
            let answer = cloud.call(
                .post, "/api/v1/messages", key: owner.key,
                json: ["room_id": .string(try cloud.newRoom(of: owner, joinedBy: [owner])), "content": "Hello"])
            return try #require(answer["id"]?.string, "\(answer)")
        case "/api/v1/notifications":
            let body: JSON = ["type": "email", "to_email": .string(TestCloud.newEmail()), "content": "News"]
            let answer = cloud.call(.post, "/api/v1/notifications", key: owner.key, json: body)
            return try #require(answer["id"]?.string, "\(answer)")
        default: throw Missing(description: "Samples.object needs a line that makes an object below \(kind) (for \(probe.name))")
        }
    }

    /// Where the objects of a kind that can't be got one by one are listed.
    static func list(of kind: String) -> String { kind == "/api/v1/api-keys" ? "/api/v1/api-keys/me" : kind }

    private static func topic(of owner: Owner, _ cloud: TestCloud) throws -> String {
        let answer = cloud.call(.post, "/topics", key: owner.key, json: ["name": .string("t" + TestCloud.newEmail().prefix(12))])
        return try #require(answer["data"]?["id"]?.string, "\(answer)")
    }

    private static func server(of owner: Owner, _ cloud: TestCloud) throws -> String {
        let answer = cloud.call(.post, "/api/v1/servers", key: owner.key, json: ["name": "web-1", "host": "203.0.113.7"])
        return try #require(answer["id"]?.string, "\(answer)")
    }

    /// Changes to the right body that put a stranger's id into each reference it can hold; the field that is to be complained about.
    static func references(_ probe: Probe, stranger id: String) -> [(field: String, change: KeyValuePairs<String, JSON>)] {
        switch probe.name {
        case "POST /instances":
            [
                ("vpc_id", ["vpc_id": .string(id)]), ("subnet_id", ["subnet_id": .string(id)]),
                ("volumes", ["volumes": [["volume_id": .string(id), "mount_path": "/data"]]]),
            ]
        case "POST /queues": [("dead_letter_queue_id", ["dead_letter_queue_id": .string(id)])]
        case "POST /subscriptions":
            [("topic_id", ["topic_id": .string(id)]), ("endpoint", ["protocol": "queue", "endpoint": .string(id)])]
        case "POST /api/v1/api-keys": [("server_id", ["server_id": .string(id)])]
        case "POST /api/v1/rooms/join", "POST /api/v1/rooms/leave", "POST /api/v1/messages": [("room_id", ["room_id": .string(id)])]
        case "POST /api/v1/notifications": [("user_id", ["user_id": .string(id)])]
        default: []
        }
    }
}
