// Clients and their users through the door: the documented bodies, the rotation of keys, what each kind of key may, and the end of a client.
import API
import Crypto
import HTTP
import Identity
import Postgres
import TestSupport
import Testing

struct ClientTests {
    let cloud: TestCloud

    init() throws { cloud = try TestCloud() }

    private func bearer(_ key: String) -> KeyValuePairs<String, String> { ["Authorization": "Bearer \(key)"] }

    /// The seed's walk, word for word.
    @Test func theDocumentedBodiesWork() throws {
        let client = cloud.call(
            .post, "/api/v1/clients",
            text: """
                {
                  "name": "My Chat App",
                  "description": "Customer support chat system"
                }
                """)
        expect(
            client, 201,
            """
            {"id": "$id", "name": "My Chat App", "description": "Customer support chat system", "master_api_key": "$text",
            "is_active": true, "created_at": "$time"}
            """)
        let master = try #require(client["master_api_key"]?.string)
        #expect(master.wholeMatch(of: /ck_live_[0-9A-Za-z]{33}/) != nil && client.header("Cache-Control") == "no-store")
        let user = cloud.call(
            .post, "/api/v1/users",
            text: """
                {
                  "email": "john@example.com",
                  "username": "john_doe",
                  "full_name": "John Doe"
                }
                """, headers: bearer(master))
        expect(
            user, 201,
            """
            {"id": "$id", "email": "john@example.com", "username": "john_doe", "full_name": "John Doe", "scoped_api_key": "$text",
            "is_active": true, "created_at": "$time"}
            """)
        let first = try #require(user["scoped_api_key"]?.string)
        #expect(first.wholeMatch(of: /sk_user_[0-9A-Za-z]{33}/) != nil && user.header("Cache-Control") == "no-store")
        let login = cloud.call(
            .post, "/api/v1/users/login",
            text: """
                {
                  "email": "john@example.com"
                }
                """, headers: bearer(master))
        expect(
            login, 200,
            """
            {"user": {"id": "$id", "email": "john@example.com", "username": "john_doe", "full_name": "John Doe", "is_active": true},
            "scoped_api_key": "$text", "expires_at": "$time"}
            """)
        let second = try #require(login["scoped_api_key"]?.string)
        #expect(login["user"]?["id"] == user["id"] && login.header("Cache-Control") == "no-store")
        expect(
            cloud.call(.get, "/api/v1/users/profile", headers: bearer(first)), 401,
            error: "unauthorized", "INVALID_CREDENTIALS", "Invalid authentication credentials")
        let room = cloud.call(.post, "/api/v1/rooms", json: ["name": "General"], headers: bearer(master))
        expect(room, 201, #"{"id": "$id", "name": "General", "description": null, "created_at": "$time", "updated_at": "$time"}"#)
        let id = try #require(room["id"]?.string)
        expect(
            cloud.call(.post, "/api/v1/rooms/join", json: ["room_id": .string(id)], headers: bearer(second)), 200,
            #"{"message": "Joined the room"}"#)
        expect(
            cloud.call(
                .post, "/api/v1/messages", text: #"{"room_id": "\#(id)", "content": "Hello, world!", "message_type": "text"}"#,
                headers: bearer(second)), 201,
            """
            {"id": "$id", "room_id": "\(id)", "user_id": "$id", "username": "john_doe", "content": "Hello, world!", "message_type": "text",
            "is_edited": false, "is_deleted": false, "created_at": "$time", "updated_at": "$time"}
            """)
        for path in ["/api/v1/users", "/api/v1/rooms/all", "/api/v1/messages?room_id=\(id)"] {
            #expect(cloud.call(.get, path, headers: bearer(master))["data"]?.array?.count == 1, "\(path)")
        }
        expect(
            cloud.call(.get, "/api/v1/users", headers: bearer(second)), 403,
            error: "forbidden", "INSUFFICIENT_PERMISSIONS", "Insufficient permissions for this operation")
        let names = #""email": "john@example.com", "username": "john_doe", "full_name": "John Q. Doe""#
        expect(
            cloud.call(.put, "/api/v1/users/profile", json: ["full_name": "John Q. Doe", "email": "x@y.example"], headers: bearer(second)),
            200,
            #"{"id": "$id", \#(names), "is_active": true, "created_at": "$time", "updated_at": "$time"}"#)
    }

    /// Exactly the two lists of the seed.
    @Test func theTwoListsOfPermissions() {
        #expect(
            Role.client.permissions.map(\.rawValue) == [
                "webhook:read", "webhook:create", "webhook:update", "webhook:delete", "client:read", "client:update", "client:delete",
                "client:rotate", "member:read", "member:create", "member:update", "member:delete", "member:login", "room:read",
                "room:read_all", "room:create", "room:update", "room:delete", "room:join", "message:read", "message:send",
                "message:update", "message:delete", "notification:read", "notification:send", "analytics:read",
            ])
        #expect(
            Role.member.permissions.map(\.rawValue) == [
                "profile:read", "profile:update", "room:read", "room:join", "message:read", "message:send", "message:update",
                "message:delete",
            ])
    }

    @Test func registrationMayBeClosed() throws {
        for setting in ["closed", "example.com"] {
            let cloud = try TestCloud(["THECLOUD_REGISTRATION": setting])
            #expect(cloud.call(.post, "/api/v1/clients", json: ["name": "n"]).code == "REGISTRATION_CLOSED")
            #expect(cloud.call(.post, "/api/v1/clients", json: [:]).badFields == ["name"])
        }
    }

    @Test func aClientKnowsAndChangesItself() throws {
        let client = try cloud.newClient(name: "Mine")
        func literal(_ name: String, _ description: String) -> String {
            """
            {"id": "\(client.id)", "name": "\(name)", "description": \(description), "is_active": true, "created_at": "$time",
            "updated_at": "$time"}
            """
        }
        expect(cloud.call(.get, "/api/v1/clients/me", key: client.key), 200, literal("Mine", "null"))
        expect(cloud.call(.put, "/api/v1/clients/me", key: client.key, json: ["description": "d"]), 200, literal("Mine", #""d""#))
        expect(cloud.call(.put, "/api/v1/clients/me", key: client.key, json: ["name": "Ours"]), 200, literal("Ours", #""d""#))
        #expect(cloud.call(.put, "/api/v1/clients/me", key: client.key, json: [:]).badFields == ["name"])
    }

    @Test func rotatingEndsTheKeyAtOnceOrAfterTheGrace() throws {
        let client = try cloud.newClient()
        let path = "/api/v1/clients/me/rotate"
        let second = cloud.call(.post, path, key: client.key)
        expect(
            second, 200,
            """
            {"id": "\(client.id)", "name": "Test Client", "description": null, "master_api_key": "$text", "is_active": true,
            "created_at": "$time"}
            """)
        #expect(cloud.call(.get, "/api/v1/clients/me", key: client.key).status == 401)
        let key = try #require(second["master_api_key"]?.string)
        let third = try #require(cloud.call(.post, path, key: key, json: ["grace_seconds": 60])["master_api_key"]?.string)
        for living in [key, third] { #expect(cloud.call(.get, "/api/v1/clients/me", key: living).status == 200) }
        try cloud.admin("update api_keys set expires_at = now() where owner_id = \(client.id)::uuid and expires_at is not null")
        #expect(cloud.call(.get, "/api/v1/clients/me", key: key).code == "KEY_EXPIRED")
        let results = try sideBySide(8, threads: 8) {
            let cloud = try TestCloud()
            return { cloud.call(.post, path, key: third)["master_api_key"]?.string }
        }
        var living = 0
        for key in results.compactMap({ $0 }) where cloud.call(.get, "/api/v1/clients/me", key: key).status == 200 { living += 1 }
        #expect(living == 1)
    }

    @Test func theWebhookSecretIsShownOnceAndKeptSealed() throws {
        let client = try cloud.newClient()
        let answer = cloud.call(.post, "/api/v1/clients/me/webhook-secret", key: client.key)
        let secret = try #require(answer["secret"]?.string)
        #expect(secret.wholeMatch(of: /whsec_[0-9A-Za-z+\/]{32}/) != nil && answer.header("Cache-Control") == "no-store")
        let sealed = try cloud.admin("select webhook_secret_sealed from clients where owner_id = \(client.id)::uuid").scalar([UInt8].self)
        let owner = try #require(ID(client.id))
        let opened = try cloud.config.keyring.open(try #require(sealed), .clientSecret, of: owner)
        #expect("whsec_" + Base64.standard.encode(opened) == secret)
        #expect(throws: CryptoError.self) {
            try cloud.config.keyring.open(try #require(sealed), .clientSecret, of: ID(high: 0, low: 0))
        }
    }

    @Test func addressesAreUniqueWithinTheClientOnly() throws {
        let (one, other) = (try cloud.newClient(), try cloud.newClient())
        func make(_ client: Owner, _ email: String) -> Answer {
            cloud.call(.post, "/api/v1/users", key: client.key, json: ["email": .string(email), "username": "john_doe"])
        }
        #expect(make(one, "j@example.com").status == 201 && make(other, "j@example.com").status == 201)
        expect(make(one, "J@EXAMPLE.com"), 409, error: "conflict", "ALREADY_EXISTS", "You have a user with this e-mail address already")
        let further = make(one, "k@example.com")
        #expect(further.status == 201)
        let path = "/api/v1/users/" + (try #require(further["id"]?.string))
        #expect(cloud.call(.put, path, key: one.key, json: ["email": "j@Example.com"]).code == "ALREADY_EXISTS")
        #expect(cloud.call(.put, path, key: one.key, json: ["email": "K2@example.com"])["email"] == "K2@example.com")
        let login = cloud.call(.post, "/api/v1/users/login", key: one.key, json: ["email": "k2@EXAMPLE.com"])
        #expect(login["user"]?["email"] == "K2@example.com")
        #expect(cloud.call(.post, "/api/v1/users/login", key: other.key, json: ["email": "k2@example.com"]).code == "NOT_FOUND")
    }

    /// However many log in at once: one key lives, and it is one that was given out.
    @Test func parallelLoginsLeaveOneKey() throws {
        let member = try cloud.newMember()
        let (email, master) = (member.email, member.master)
        let keys = try sideBySide(100, threads: 10) {
            let cloud = try TestCloud()
            return { cloud.call(.post, "/api/v1/users/login", key: master, json: ["email": .string(email)])["scoped_api_key"]?.string }
        }.compactMap { $0 }
        #expect(Set(keys).count == 100)
        let rows = try cloud.admin("select key_hash from api_keys where owner_id = \(member.id)::uuid and kind = 'scoped'")
        #expect(rows.count == 1)
        let living = keys.filter { cloud.call(.get, "/api/v1/users/profile", key: $0).status == 200 }
        #expect(living.count == 1 && living.first.map(KeyText.digest) == rows.scalar([UInt8].self))
    }

    /// The clock of the worker counts: a login of seven days ago ends within these seconds.
    @Test func aScopedKeyLivesSevenDays() throws {
        let member = try cloud.newMember()
        let week = 7 * 86400
        for (age, code) in [(week - 60, nil), (week + 1, "KEY_EXPIRED")] as [(Int, String?)] {
            let past = try TestCloud()
            past.advance = -age
            let login = past.call(.post, "/api/v1/users/login", key: member.master, json: ["email": .string(member.email)])
            let key = try #require(login["scoped_api_key"]?.string)
            let answer = cloud.call(.get, "/api/v1/users/profile", key: key)
            #expect(answer.code == code && (code == nil || answer["detail"] == "API key has expired"), "\(answer)")
        }
        let past = try TestCloud()
        past.advance = -week - 1
        let made = past.call(.post, "/api/v1/users", key: member.master, json: ["email": .string(TestCloud.newEmail()), "username": "u"])
        #expect(cloud.call(.get, "/api/v1/users/profile", key: try #require(made["scoped_api_key"]?.string)).code == "KEY_EXPIRED")
    }

    @Test func logoutEndsTheKey() throws {
        let member = try cloud.newMember()
        expect(cloud.call(.post, "/api/v1/users/logout", key: member.key), 200, #"{"message": "Logged out"}"#)
        #expect(cloud.call(.get, "/api/v1/users/profile", key: member.key).status == 401)
        #expect(cloud.call(.post, "/api/v1/users/login", key: member.master, json: ["email": .string(member.email)]).status == 200)
    }

    @Test func whoIsNotActiveStaysOut() throws {
        let member = try cloud.newMember()
        let path = "/api/v1/users/" + (member.memberID ?? "")
        #expect(cloud.call(.put, path, key: member.master, json: ["is_active": false])["is_active"] == false)
        #expect(cloud.call(.get, "/api/v1/users/profile", key: member.key).status == 401)
        let login: JSON = ["email": .string(member.email)]
        expect(
            cloud.call(.post, "/api/v1/users/login", key: member.master, json: login), 409,
            error: "conflict", "CONFLICT", "The user is not active; PUT /api/v1/users/:id activates it")
        #expect(cloud.call(.put, path, key: member.master, json: ["is_active": true]).status == 200)
        #expect(cloud.call(.get, "/api/v1/users/profile", key: member.key).status == 401, "the key before does not come back")
        #expect(cloud.call(.post, "/api/v1/users/login", key: member.master, json: login).status == 200)
    }

    @Test func quotasHold() throws {
        let cloud = try TestCloud(["THECLOUD_QUOTA_MEMBERS": "1", "THECLOUD_QUOTA_ROOMS": "1", "THECLOUD_QUOTA_NOTIFICATIONS": "1"])
        let client = try cloud.newClient()
        let member = try cloud.newMember(of: client)
        _ = try cloud.newRoom(of: client)
        let notification: JSON = ["type": "websocket", "user_id": .string(member.memberID ?? ""), "content": "c"]
        #expect(cloud.call(.post, "/api/v1/notifications", key: client.key, json: notification).status == 201)
        for (path, body) in [
            ("users", ["email": "a@example.com", "username": "a"]), ("rooms", ["name": "r"]), ("notifications", notification),
        ] as [(String, JSON)] {
            #expect(cloud.call(.post, "/api/v1/\(path)", key: client.key, json: body).code == "QUOTA_EXCEEDED", "\(path)")
        }
    }

    /// Nothing that says whose it is stays behind but the audit log.
    @Test func deletingAClientLeavesNothing() throws {
        let client = try cloud.newClient()
        let member = try cloud.newMember(of: client)
        let room = try cloud.newRoom(of: client, joinedBy: [member])
        let message: JSON = ["room_id": .string(room), "content": "hello"]
        #expect(cloud.call(.post, "/api/v1/messages", key: member.key, json: message, headers: ["Idempotency-Key": "k"]).status == 201)
        let notification: JSON = ["type": "websocket", "user_id": .string(member.memberID ?? ""), "content": "c"]
        #expect(cloud.call(.post, "/api/v1/notifications", key: client.key, json: notification).status == 201)
        expect(cloud.call(.delete, "/api/v1/clients/me", key: client.key), 200, #"{"message": "Client deleted"}"#)
        for key in [client.key, member.key] { #expect(cloud.call(.get, "/api/v1/rooms", key: key).code == "INVALID_CREDENTIALS") }
        let tables = try cloud.admin(
            """
            select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'owner_id' and not a.attisdropped
            where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and c.relname <> 'audit_log'
            """
        ).map { row in
            var row = row
            return row.next(String.self)
        }
        #expect(tables.count >= 15)
        for table in tables {
            let left = try cloud.admin("select count(*) from \(verbatim: table) where owner_id = \(client.id)::uuid").scalar(Int.self)
            #expect(left == 0, "\(table)")
        }
        #expect(try cloud.admin("select count(*) from users where id = \(client.id)::uuid").scalar(Int.self) == 0)
        let told = try cloud.admin("select count(*) from audit_log where owner_id = \(client.id)::uuid and action = 'client.deleted'")
        #expect(told.scalar(Int.self) == 1)
    }

    /// Clients are no people: the directory does not list them, and an operator can't make one an owner.
    @Test func clientsAreNotInTheDirectory() throws {
        let client = try cloud.newClient(name: "Hidden")
        let admin = try cloud.newOwner(role: "admin")
        #expect(!cloud.call(.get, "/auth/users?limit=100", key: admin.key).text.contains(client.id))
        #expect(cloud.call(.put, "/auth/users/\(client.id)/role", key: admin.key, json: ["role": "viewer"]).status == 404)
    }
}
