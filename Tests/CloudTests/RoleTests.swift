// Roles and permissions, against the contract's sentences; /auth/me, /auth/roles, /auth/users and who may make whom what.
import HTTP
import Postgres
import TestSupport
import Testing

struct RoleTests {
    let cloud: TestCloud

    init() throws { cloud = try TestCloud() }

    /// What each role may, written out: everything; everything; all resources, no `auth:*`; read on all resources; like developer.
    static let table = [
        "owner": everything + ["auth:read", "auth:update"], "admin": everything + ["auth:read", "auth:update"],
        "developer": everything, "user": everything,
        "viewer": [
            "instance:read", "vpc:read", "volume:read", "loadbalancer:read", "autoscaling:read", "cache:read", "function:read",
            "queue:read",
            "topic:read", "cron:read", "route:read", "run:read", "server:read", "webhook:read", "key:read",
            "audit:read",
        ],
    ]

    /// All but `auth:*`, in the order of the table.
    private static let everything = [
        "instance:read", "instance:create", "instance:update", "instance:delete",
        "vpc:read", "vpc:create", "vpc:update", "vpc:delete",
        "volume:read", "volume:create", "volume:update", "volume:delete",
        "loadbalancer:read", "loadbalancer:create", "loadbalancer:update", "loadbalancer:delete",
        "autoscaling:read", "autoscaling:create", "autoscaling:update", "autoscaling:delete",
        "cache:read", "cache:create", "cache:update", "cache:delete",
        "function:read", "function:create", "function:update", "function:delete", "function:invoke",
        "queue:read", "queue:create", "queue:update", "queue:delete", "queue:send", "queue:receive", "topic:read", "topic:create",
        "topic:update", "topic:delete", "topic:publish",
        "cron:read", "cron:create", "cron:update", "cron:delete", "cron:run", "route:read", "route:create", "route:update", "route:delete",
        "run:read", "run:create", "run:update", "run:delete",
        "server:read", "server:create", "server:update", "server:delete", "command:send", "webhook:read", "webhook:create",
        "webhook:update", "webhook:delete", "key:read", "key:create", "key:rotate", "key:delete", "audit:read",
    ]

    @Test(arguments: ["owner", "admin", "developer", "viewer", "user"])
    func eachRoleMayWhatTheContractSays(role: String) throws {
        let someone = try cloud.newOwner(role: role)
        let permissions = JSON.strings(try #require(Self.table[role])).text
        expect(
            cloud.call(.get, "/auth/me/role", key: someone.key), 200, #"{"data": {"role": "\#(role)", "permissions": \#(permissions)}}"#)
        let user: JSON = ["role": "user"]
        let expected = [
            ("GET", "/instances", JSON?.none, 200), ("POST", "/instances", [:], role == "viewer" ? 403 : 400),
            ("GET", "/auth/keys", nil, 200), ("POST", "/auth/keys", [:], role == "viewer" ? 403 : 400),
            ("GET", "/auth/audit", nil, 200), ("GET", "/auth/users?limit=1", nil, ["owner", "admin"].contains(role) ? 200 : 403),
            ("GET", "/auth/roles", nil, ["owner", "admin"].contains(role) ? 200 : 403),
            ("PUT", "/auth/users/0/role", user, ["owner", "admin"].contains(role) ? 404 : 403),
        ]
        for (method, path, body, status) in expected {
            let answer = cloud.call(.init(rawValue: method), path, key: someone.key, json: body)
            #expect(answer.status == status, "\(role): \(method) \(path) \(answer)")
        }
    }

    @Test func meAndMyRole() throws {
        let someone = try cloud.newOwner(name: "Zoë")
        expect(
            cloud.call(.get, "/auth/me", key: someone.key), 200,
            """
            {"data": {"id": "\(someone.id)", "email": "\(someone.email)", "name": "Zoë", "role": "user", "created_at": "$time"}}
            """)
    }

    @Test func theListOfRoles() throws {
        let admin = try cloud.newOwner(role: "admin")
        let roles = ["owner", "admin", "developer", "viewer", "user"].map { name in
            #"{"name": "\#(name)", "permissions": \#(JSON.strings(Self.table[name] ?? []).text)}"#
        }
        expect(
            cloud.call(.get, "/auth/roles", key: admin.key), 200,
            #"{"data": [\#(roles.joined(separator: ","))], "meta": {"next_cursor": null}}"#)
    }

    @Test func aChangedRoleHoldsFromTheNextRequest() throws {
        let (admin, someone) = (try cloud.newOwner(role: "admin"), try cloud.newOwner())
        let other = try TestCloud()
        #expect(other.call(.post, "/instances", key: someone.key, json: [:]).status == 400)
        expect(
            cloud.call(.put, "/auth/users/\(someone.id)/role", key: admin.key, json: ["role": "viewer", "id": .string(admin.id)]), 200,
            """
            {"data": {"id": "\(someone.id)", "email": "\(someone.email)", "name": "Test Owner", "role": "viewer", "created_at": "$time"}}
            """)
        #expect(other.call(.post, "/instances", key: someone.key, json: [:]).status == 403)
        let entry = cloud.call(.get, "/auth/audit?limit=1", key: someone.key)["data"]?[0]
        #expect(entry?["action"] == "access.denied")
        let change = cloud.call(.get, "/auth/audit?limit=2", key: someone.key)["data"]?[1]
        #expect(change?["action"] == "user.role_changed" && change?["actor_id"]?.string == admin.id)
    }

    @Test func onlyOwnersMakeAndUnmakeOwners() throws {
        let (admin, someone, boss) = (try cloud.newOwner(role: "admin"), try cloud.newOwner(), try cloud.newOwner(role: "owner"))
        func change(_ who: Owner, to role: String, by actor: Owner) -> Answer {
            cloud.call(.put, "/auth/users/\(who.id)/role", key: actor.key, json: ["role": .string(role)])
        }
        for answer in [change(someone, to: "owner", by: admin), change(boss, to: "user", by: admin), change(admin, to: "owner", by: admin)]
        {
            expect(answer, 403, error: "forbidden", "INSUFFICIENT_PERMISSIONS", "Insufficient permissions for this operation")
        }
        #expect(change(someone, to: "admin", by: admin).status == 200)
        #expect(change(someone, to: "owner", by: boss).status == 200)
        #expect(change(boss, to: "viewer", by: someone).status == 200)
    }

    @Test func theRoleMustBeOne() throws {
        let admin = try cloud.newOwner(role: "admin")
        let answer = cloud.call(.put, "/auth/users/\(admin.id)/role", key: admin.key, json: ["role": "king"])
        expect(
            answer, 400, error: "bad_request", "VALIDATION_FAILED", "role must be one of owner, admin, developer, viewer, user",
            fields: ["role": "must be one of owner, admin, developer, viewer, user"])
    }

    /// In a database of its own: elsewhere there are always other owners.
    @Test func theLastOwnerStays() throws {
        let alone = try TestCloud(database: .fresh("alone"))
        let (boss, second) = (try alone.newOwner(role: "owner"), try alone.newOwner())
        func demote(_ who: Owner, by actor: Owner) -> Answer {
            alone.call(.put, "/auth/users/\(who.id)/role", key: actor.key, json: ["role": "user"])
        }
        expect(
            demote(boss, by: boss), 409, error: "conflict", "CONFLICT", "The last owner can't be demoted; make another owner first")
        #expect(alone.call(.put, "/auth/users/\(second.id)/role", key: boss.key, json: ["role": "owner"]).status == 200)
        #expect(demote(boss, by: second).status == 200)
        #expect(demote(second, by: second).status == 409)
    }

    @Test func theDirectoryIsForThoseWithAuthRead() throws {
        let (admin, someone) = (try cloud.newOwner(role: "admin"), try cloud.newOwner())
        let list = cloud.call(.get, "/auth/users?limit=1", key: admin.key)
        #expect(list.status == 200 && list["data"]?.array?.count == 1)
        var (found, cursor) = (false, JSON?.none)
        repeat {
            let page = cloud.call(.get, "/auth/users?limit=100\(cursor?.string.map { "&cursor=\($0)" } ?? "")", key: admin.key)
            found = found || page["data"]?.array?.contains { $0["id"]?.string == someone.id } == true
            cursor = page["meta"]?["next_cursor"]
        } while !found && cursor?.string != nil
        #expect(found)
        #expect(!list.text.contains("password") && !list.text.contains("hash"))
    }

    @Test func theAuditShowsOnesOwnAndAllToThoseWithAuthRead() throws {
        let (admin, someone, other) = (try cloud.newOwner(role: "admin"), try cloud.newOwner(), try cloud.newOwner())
        _ = try cloud.newKey(of: other)
        let own = cloud.call(.get, "/auth/audit", key: someone.key)["data"]?.array ?? []
        #expect(own.map { $0["action"]?.string } == ["auth.login", "user.registered"])
        #expect(own.allSatisfy { $0["user_id"]?.string == someone.id })
        let limited = try cloud.newKey(of: admin, ["permissions": ["audit:read"]])
        let narrow = cloud.call(.get, "/auth/audit?limit=100", key: limited.text)["data"]?.array ?? []
        #expect(!narrow.isEmpty && narrow.allSatisfy { $0["user_id"]?.string == admin.id }, "a key without auth:read sees its own only")
        let all = cloud.call(.get, "/auth/audit?limit=100", key: admin.key)["data"]?.array ?? []
        #expect(Set(all.compactMap { $0["user_id"]?.string }).count > 1)
    }
}
