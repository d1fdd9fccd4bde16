// Chat through nginx: who hears what over the WebSocket, with the key in a header or in the first message, and when a socket ends.
import HTTP
import Testing

@Suite struct ChatSessionTests {
    let client = Visitor()
    let master: String

    init() throws {
        let made = try client.call("POST", "/api/v1/clients", ["name": "My Chat App"])
        master = try #require(made.json["master_api_key"]?.string, "\(made.json.text)")
    }

    private func call(_ key: String, _ method: String, _ path: String, _ body: JSON? = nil) throws -> JSON {
        let answer = try client.call(method, "/api/v1" + path, body, headers: [("Authorization", "Bearer \(key)")])
        #expect((200...201).contains(answer.status), "\(method) \(path): \(answer.json.text)")
        return answer.json
    }

    private func newMember(_ name: String) throws -> (id: String, key: String) {
        let email = "\(name)-\(UInt64.random(in: 0...UInt64.max))@example.com"
        let made = try call(master, "POST", "/users", ["email": .string(email), "username": .string(name)])
        return (try #require(made["id"]?.string), try #require(made["scoped_api_key"]?.string))
    }

    private func newRoom(_ name: String) throws -> String {
        try #require(try call(master, "POST", "/rooms", ["name": .string(name)])["id"]?.string)
    }

    private func connect(_ key: String) throws -> WebSocket {
        let socket = try WebSocket("/api/v1/ws")
        socket.send(["type": "auth", "token": .string(key)])
        #expect(try socket.message()["type"] == "auth_success")
        return socket
    }

    @Test func `messages reach the sockets of those who have joined the room, and no others`() throws {
        let (ada, bob, eve) = (try newMember("ada"), try newMember("bob"), try newMember("eve"))
        let (room, other) = (try newRoom("general"), try newRoom("other"))
        for member in [ada, bob] { _ = try call(member.key, "POST", "/rooms/join", ["room_id": .string(room)]) }
        _ = try call(eve.key, "POST", "/rooms/join", ["room_id": .string(other)])
        let sockets = (ada: try connect(ada.key), eve: try connect(eve.key), master: try connect(master))
        let bobs = try WebSocket("/api/v1/ws", headers: [("Authorization", "Bearer \(bob.key)")])

        let sent = try call(
            bob.key, "POST", "/messages", ["room_id": .string(room), "content": "Hello, world!", "message_type": "text"])
        for socket in [sockets.ada, bobs] {
            let heard = try socket.message()
            #expect(heard["type"] == "message.created" && heard["resource_id"] == sent["id"])
            #expect(heard["data"]?["content"] == "Hello, world!" && heard["data"]?["user_id"] == .string(bob.id))
        }
        // A master key hears of everything of its client.
        #expect(try sockets.master.message()["data"]?["content"] == "Hello, world!")
        // What eve hears first is of her own room: nothing of the other came before.
        _ = try call(eve.key, "POST", "/messages", ["room_id": .string(other), "content": "Alone", "message_type": "text"])
        #expect(try sockets.eve.message()["data"]?["content"] == "Alone")

        // A notification is for its user alone.
        _ = try call(master, "POST", "/notifications", ["type": "websocket", "user_id": .string(ada.id), "content": "News"])
        let news = try sockets.ada.message()
        #expect(news["type"] == "notification.created" && news["data"]?["content"] == "News")
    }

    @Test func `a new login closes the sockets of the key before`() throws {
        let email = JSON.string("grace-\(UInt64.random(in: 0...UInt64.max))@example.com")
        let made = try call(master, "POST", "/users", ["email": email, "username": "grace"])
        let key = try #require(made["scoped_api_key"]?.string)
        let socket = try connect(key)
        _ = try call(master, "POST", "/users/login", ["email": email])
        guard case .closed = socket.receive(within: 2) else {
            Issue.record("the socket of a key that was exchanged is still open after 2 s")
            return
        }
    }

    @Test func `a bad key is refused, in a header before the upgrade`() throws {
        #expect(throws: WebSocket.Refused.self) {
            try WebSocket("/api/v1/ws", headers: [("Authorization", "Bearer sk_user_nope")])
        }
        let socket = try WebSocket("/api/v1/ws")
        socket.send(["type": "auth", "token": "sk_user_nope"])
        #expect(socket.text() == #"{"type":"error","message":"Invalid authentication credentials"}"#)
        guard case .closed = socket.receive() else {
            Issue.record("it stays open")
            return
        }
    }
}
