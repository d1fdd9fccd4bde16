// Rooms and messages through the door: joining and leaving, who may read and say what, the history by key and by page, and what is told of it.
import HTTP
import Postgres
import TestSupport
import Testing

struct RoomTests {
    let cloud: TestCloud
    let client: Owner
    let ann: Owner
    let bob: Owner

    init() throws {
        cloud = try TestCloud()
        client = try cloud.newClient()
        ann = try cloud.newMember(of: client, name: "ann")
        bob = try cloud.newMember(of: client, name: "bob")
    }

    private func say(_ who: Owner, _ room: String, _ content: String = "hello", _ more: KeyValuePairs<String, JSON> = [:]) -> Answer {
        cloud.call(
            .post, "/api/v1/messages", key: who.key,
            json: (["room_id": .string(room), "content": .string(content)] as JSON).adding(more))
    }

    private func said(_ who: Owner, _ room: String, _ content: String = "hello") throws -> String {
        let answer = say(who, room, content)
        return try #require(answer["id"]?.string, "\(answer)")
    }

    /// Types of what was told, oldest first.
    private func events() throws -> [String] {
        try cloud.admin("select type from events where owner_id = \(client.id)::uuid order by id").map { row in
            var row = row
            return row.next(String.self)
        }
    }

    @Test func joiningAndLeaving() throws {
        let room = try cloud.newRoom(of: client)
        let before = try events().count
        for _ in 1...2 {
            expect(cloud.call(.post, "/api/v1/rooms/\(room)/join", key: ann.key), 200, #"{"message": "Joined the room"}"#)
        }
        #expect(cloud.call(.get, "/api/v1/rooms", key: ann.key)["data"]?[0]?["id"]?.string == room)
        #expect(cloud.call(.get, "/api/v1/rooms", key: bob.key)["data"]?.array?.isEmpty == true)
        #expect(cloud.call(.get, "/api/v1/rooms/\(room)", key: ann.key)["name"] == "General")
        for path in ["/api/v1/rooms/\(room)", "/api/v1/rooms/\(room)/participants"] {
            #expect(cloud.call(.get, path, key: bob.key).code == "NOT_FOUND", "not joined")
        }
        expect(
            cloud.call(.get, "/api/v1/rooms/\(room)/participants", key: ann.key), 200,
            """
            {"data": [{"user_id": "\(ann.memberID ?? "")", "username": "ann", "full_name": null, "joined_at": "$time"}],
            "meta": {"next_cursor": null}}
            """)
        let body: JSON = ["room_id": .string(room)]
        expect(cloud.call(.post, "/api/v1/rooms/leave", key: ann.key, json: body), 200, #"{"message": "Left the room"}"#)
        #expect(cloud.call(.post, "/api/v1/rooms/leave", key: ann.key, json: body).code == "CONFLICT")
        #expect(cloud.call(.post, "/api/v1/rooms/\(room)/leave", key: ann.key).code == "CONFLICT")
        #expect(cloud.call(.get, "/api/v1/rooms/\(room)", key: ann.key).status == 404)
        #expect(Array(try events()[before...]) == ["participant.joined", "participant.left"])
    }

    /// For whom is in the body then.
    @Test func theClientActsForItsUsers() throws {
        let (room, stranger) = (try cloud.newRoom(of: client), try cloud.newMember())
        for (path, body) in [
            ("/api/v1/rooms/join", ["room_id": .string(room)]), ("/api/v1/rooms/\(room)/join", [:]), ("/api/v1/rooms/\(room)/leave", [:]),
        ] as [(String, JSON)] {
            #expect(cloud.call(.post, path, key: client.key, json: body).badFields == ["user_id"], "\(path)")
            let foreign = cloud.call(.post, path, key: client.key, json: body.adding(["user_id": .string(stranger.memberID ?? "")]))
            #expect(foreign.status == 400 && foreign.badFields == ["user_id"], "\(foreign)")
        }
        let user: JSON = ["user_id": .string(ann.memberID ?? "")]
        #expect(cloud.call(.post, "/api/v1/rooms/\(room)/join", key: client.key, json: user).status == 200)
        #expect(say(ann, room).status == 201)
        #expect(cloud.call(.post, "/api/v1/rooms/\(room)/join", key: bob.key, json: user).status == 200)
        #expect(say(bob, room).status == 201, "whom a user names does not matter: it joins itself")
        #expect(cloud.call(.post, "/api/v1/rooms/\(room)/leave", key: client.key, json: user).status == 200)
        #expect(say(ann, room).status == 403 && say(bob, room).status == 201)
    }

    @Test func onlyWhoHasJoinedSpeaksAndReads() throws {
        let room = try cloud.newRoom(of: client, joinedBy: [ann])
        #expect(say(ann, room).status == 201)
        for answer in [say(bob, room), cloud.call(.get, "/api/v1/messages?room_id=\(room)", key: bob.key)] {
            expect(answer, 403, error: "forbidden", "INSUFFICIENT_PERMISSIONS", "Insufficient permissions for this operation")
        }
        #expect(say(ann, "01890000-0000-7000-8000-000000000000").badFields == ["room_id"])
        #expect(say(ann, room, "now hear this", ["message_type": "system"]).status == 403)
        #expect(say(ann, room, "", [:]).badFields == ["content"])
        #expect(say(ann, room, String(repeating: "x", count: 16384)).status == 201)
        #expect(say(ann, room, String(repeating: "x", count: 16385)).badFields == ["content"])
        #expect(say(ann, room, "?", ["message_type": "song"]).badFields == ["message_type"])
        #expect(cloud.call(.get, "/api/v1/messages", key: ann.key).badFields == ["room_id"])
        #expect(cloud.call(.get, "/api/v1/messages?room_id=x", key: ann.key).status == 404)
        let own = say(client, room, "welcome", ["message_type": "system"])
        #expect(own.status == 201 && own["user_id"] == .null && own["username"] == .null)
        #expect(say(client, room, "for bob", ["user_id": .string(bob.memberID ?? "")])["username"] == "bob")
        #expect(say(client, room, "for whom", ["user_id": "01890000-0000-7000-8000-000000000000"]).badFields == ["user_id"])
        #expect(say(ann, room, "as bob", ["user_id": .string(bob.memberID ?? "")])["username"] == "ann")
    }

    @Test func theHistoryGoesByKeyAndByPage() throws {
        let room = try cloud.newRoom(of: client, joinedBy: [ann])
        let other = try cloud.newRoom(of: client, joinedBy: [ann])
        for number in 1...7 {
            _ = try said(ann, room, "\(number)")
            _ = try said(ann, other, "elsewhere")
        }
        func contents(_ answer: Answer) -> [String] { (answer["data"]?.array ?? []).compactMap { $0["content"]?.string } }
        let path = "/api/v1/messages?room_id=\(room)"
        var (seen, query) = ([String](), "&limit=3")
        for _ in 1...5 {
            let answer = cloud.call(.get, path + query, key: ann.key)
            seen += contents(answer)
            if seen.count == 3 { _ = try said(ann, room, "8") }
            guard let next = answer["meta"]?["next_cursor"]?.string else { break }
            query = "&limit=3&cursor=\(next)"
        }
        #expect(seen == ["7", "6", "5", "4", "3", "2", "1"])
        let second = cloud.call(.get, path + "&page=2&size=3", key: ann.key)
        #expect(contents(second) == ["5", "4", "3"])
        #expect(second["meta"]?["page"] == 2 && second["meta"]?["size"] == 3)
        let next = try #require(second["meta"]?["next_cursor"]?.string)
        let rest = cloud.call(.get, path + "&cursor=\(next)", key: client.key)
        #expect(contents(rest) == ["2", "1"] && rest["meta"]?["page"] == .null && rest["meta"]?["next_cursor"] == .null)
        #expect(contents(cloud.call(.get, path + "&page=4&size=3", key: ann.key)) == [])
        for (bad, field) in [
            ("page=101&size=100", "page"), ("page=0", "page"), ("size=101", "size"), ("page=1&cursor=\(next)", "cursor"),
            ("cursor=x", "cursor"), ("limit=0", "limit"),
        ] {
            #expect(cloud.call(.get, path + "&" + bad, key: ann.key).badFields == [field], "\(bad)")
        }
    }

    @Test func changingAndTakingBack() throws {
        let room = try cloud.newRoom(of: client, joinedBy: [ann, bob])
        let outsider = try cloud.newMember(of: client, name: "eve")
        let id = try said(ann, room)
        let path = "/api/v1/messages/\(id)"
        for (who, status) in [(bob, 403), (outsider, 404)] {
            #expect(cloud.call(.put, path, key: who.key, json: ["content": "x"]).status == status)
            #expect(cloud.call(.delete, path, key: who.key).status == status)
        }
        let members =
            #""id": "\#(id)", "room_id": "\#(room)", "user_id": "\#(ann.memberID ?? "")", "username": "ann", "message_type": "text""#
        let times = #""created_at": "$time", "updated_at": "$time""#
        expect(
            cloud.call(.put, path, key: ann.key, json: ["content": "hello again"]), 200,
            #"{\#(members), "content": "hello again", "is_edited": true, "is_deleted": false, \#(times)}"#)
        #expect(cloud.call(.get, path, key: bob.key)["content"] == "hello again")
        expect(cloud.call(.delete, path, key: ann.key), 200, #"{"message": "Message deleted"}"#)
        for method in [HTTP.Method.get, .delete] { #expect(cloud.call(method, path, key: client.key).status == 404) }
        expect(
            cloud.call(.get, "/api/v1/messages?room_id=\(room)", key: bob.key), 200,
            """
            {"data": [{\(members), "content": "", "is_edited": true, "is_deleted": true, \(times)}],
            "meta": {"next_cursor": null, "page": 1, "size": 50}}
            """)
        let kept = try cloud.admin("select count(*) from messages where id = \(id)::uuid and content <> ''").scalar(Int.self)
        #expect(kept == 0, "what was taken back is gone")
        #expect(cloud.call(.delete, "/api/v1/messages/\(try said(bob, room))", key: client.key).status == 200)
    }

    /// Each change is told once, with the whole object and its room, in the form of the answers.
    @Test func listenersAreTold() throws {
        let room = try cloud.newRoom(of: client, joinedBy: [ann])
        let answer = say(ann, room)
        let id = try #require(answer["id"]?.string)
        #expect(cloud.call(.put, "/api/v1/messages/\(id)", key: ann.key, json: ["content": "b"]).status == 200)
        #expect(cloud.call(.delete, "/api/v1/messages/\(id)", key: ann.key).status == 200)
        #expect(cloud.call(.delete, "/api/v1/users/\(bob.memberID ?? "")", key: client.key).status == 200)
        #expect(cloud.call(.delete, "/api/v1/rooms/\(room)", key: client.key).status == 200)
        #expect(cloud.call(.delete, "/api/v1/rooms/\(room)", key: client.key).status == 404)
        #expect(
            try events() == [
                "member.created", "member.created", "room.created", "participant.joined", "message.created", "message.updated",
                "message.deleted", "member.deleted", "room.deleted",
            ])
        let data = try cloud.admin(
            "select data::text from events where owner_id = \(client.id)::uuid and type = 'message.created' and resource_id = \(id)::uuid")
        let told = try JSON(parsing: Array((data.scalar(String.self) ?? "").utf8))
        guard case .object(let members) = answer.json else { return }
        for member in members { #expect(told[member.name] == member.value, "\(member.name)") }
        let logged = try cloud.admin(
            "select count(*) from audit_log where owner_id = \(client.id)::uuid and resource_id = \(id)::uuid and action like 'message.%'")
        #expect(logged.scalar(Int.self) == 3)
    }

    @Test func whatAUserSaidOutlivesIt() throws {
        let room = try cloud.newRoom(of: client, joinedBy: [ann])
        _ = try said(ann, room)
        #expect(cloud.call(.delete, "/api/v1/users/\(ann.memberID ?? "")", key: client.key).status == 200)
        let message = cloud.call(.get, "/api/v1/messages?room_id=\(room)", key: client.key)["data"]?[0]
        #expect(message?["content"] == "hello" && message?["user_id"] == .null && message?["username"] == .null)
        #expect(cloud.call(.get, "/api/v1/rooms/\(room)/participants", key: client.key)["data"]?.array?.isEmpty == true)
        #expect(cloud.call(.get, "/api/v1/users/profile", key: ann.key).status == 401)
    }

    /// The second line of defence: a statement that asks for everything gets what the user has joined.
    @Test func theSchemaItselfKeepsUsersApart() throws {
        let (mine, others) = (try cloud.newRoom(of: client, joinedBy: [ann]), try cloud.newRoom(of: client, joinedBy: [bob]))
        _ = try (said(ann, mine), said(bob, others))
        let transaction = try cloud.connection.begin()
        try transaction.send(
            "select set_config('thecloud.owner', \(client.id), true), set_config('thecloud.member', \(ann.memberID), true)")
        for table in ["messages", "participants"] {
            let rooms = try transaction.query("select distinct room_id::text from \(verbatim: table)")
            #expect(rooms.count == 1 && rooms.scalar(String.self) == mine, "\(table)")
        }
        #expect(try transaction.query("select 1 from notifications").isEmpty)
        #expect(try transaction.query("update messages set content = 'x' where room_id = \(others)::uuid returning 1").isEmpty)
        #expect(throws: DatabaseError.self, "nobody speaks for another") {
            try transaction.query(
                """
                insert into messages (id, room_id, member_id, content)
                values (gen_random_uuid(), \(mine)::uuid, \(bob.memberID)::uuid, 'sly')
                """)
        }
    }

    @Test func whatIsDoneTwiceAtOnceIsDoneOnce() throws {
        let room = try cloud.newRoom(of: client)
        let key = ann.key
        let statuses = try sideBySide(16, threads: 8) {
            let cloud = try TestCloud()
            return { cloud.call(.post, "/api/v1/rooms/\(room)/join", key: key).status }
        }
        #expect(Set(statuses) == [200])
        #expect(try events().filter { $0 == "participant.joined" }.count == 1)
    }

    /// Every count against its table.
    @Test func analyticsAgreeWithTheTables() throws {
        let room = try cloud.newRoom(of: client, joinedBy: [ann, bob])
        _ = try cloud.newRoom(of: client)
        _ = try (said(ann, room), said(bob, room))
        #expect(say(bob, room, "cat.png", ["message_type": "image"]).status == 201)
        let gone = try said(ann, room)
        #expect(cloud.call(.delete, "/api/v1/messages/\(gone)", key: ann.key).status == 200)
        try cloud.admin("update messages set created_at = now() - interval '25 hours' where id = \(gone)::uuid")
        #expect(cloud.call(.put, "/api/v1/users/\(bob.memberID ?? "")", key: client.key, json: ["is_active": false]).status == 200)
        let wish: JSON = ["type": "websocket", "user_id": .string(ann.memberID ?? ""), "content": "c"]
        for _ in 1...2 { #expect(cloud.call(.post, "/api/v1/notifications", key: client.key, json: wish).status == 201) }
        try cloud.admin(
            """
            update notifications set status = 'failed' where id = (
                select id from notifications where owner_id = \(client.id)::uuid order by id limit 1)
            """)
        expect(
            cloud.call(.get, "/api/v1/analytics", key: client.key), 200,
            """
            {"users": {"total": 2, "active": 1}, "rooms": 2, "participants": 2,
            "messages": {"total": 4, "deleted": 1, "last_24h": 3, "by_type": {"text": 3, "image": 1, "file": 0, "system": 0}},
            "notifications": {"pending": 1, "sent": 0, "failed": 1}, "keys": {"master": 1, "scoped": 1}}
            """)
    }
}
