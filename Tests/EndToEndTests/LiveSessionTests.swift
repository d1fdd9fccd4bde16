// GET /ws through nginx: one's own events of the kinds that the key may read, from where the client left off, until the key ends.
import FoundationEssentials
import HTTP
import Testing

@Suite struct LiveSessionTests {
    let visitor = Visitor()

    init() throws { try visitor.join() }

    private func newKey(_ members: JSON = [:]) throws -> (id: String, text: String) {
        let key = try visitor.call("POST", "/auth/keys", members.adding(["name": "live"])).json
        return (try #require(key["id"]?.string), try #require(key["key"]?.string))
    }

    private func makeRun(_ visitor: Visitor, _ name: String) throws -> String {
        let made = try visitor.call("POST", "/api/v1/runs", ["name": .string(name), "config": [:]])
        return try #require(made.json["id"]?.string)
    }

    /// The events until the one about a resource, that one included.
    private func events(_ socket: WebSocket, until resource: String) throws -> [JSON] {
        var heard: [JSON] = []
        while heard.last?["resource_id"]?.string != resource {
            let event = try socket.message()
            guard event["type"] != nil else { break }
            heard.append(event)
        }
        return heard
    }

    @Test func `a key hears what happens to its owner's things, and nothing of anybody else's`() throws {
        let socket = try WebSocket("/ws?api_key=\(try newKey().text)")
        let narrow = try WebSocket("/ws", headers: [("X-API-Key", try newKey(["permissions": ["server:read"]]).text)])
        let stranger = Visitor()
        try stranger.join()
        _ = try makeRun(stranger, "foreign")
        let run = try makeRun(visitor, "mine")
        let event = try socket.message()
        #expect(event["type"] == "run.created" && event["resource_id"] == .string(run) && event["data"]?["name"] == "mine")
        #expect(event["id"]?.string.flatMap(ID.init) != nil && event["timestamp"]?.string.flatMap(Timestamp.init(rfc3339:)) != nil)
        let server = try visitor.call("POST", "/api/v1/servers", ["name": "s", "host": "h"]).json["id"]?.string
        _ = try visitor.call("POST", "/instances", ["name": "i", "image": "nothing/of-this-name", "instance_type": "nano"])
        #expect(try socket.message()["type"] == "server.created")
        #expect(try narrow.message()["resource_id"] == .optional(server), "of runs it may not read, so it hears nothing")
    }

    @Test func `a client that comes again behind an event misses nothing and gets nothing twice`() throws {
        let (one, two) = (try newKey().text, try newKey().text)
        let socket = try WebSocket("/ws?api_key=\(one)")
        let first = try makeRun(visitor, "first")
        let last = try #require(try events(socket, until: first).last?["id"]?.string)
        var made: [String] = []
        for number in 1...5 {
            made.append(try makeRun(visitor, "run-\(number)"))
            made.append(
                try #require(try visitor.call("POST", "/api/v1/servers", ["name": "s", "host": "h"]).json["id"]?.string))
        }
        let watcher = try WebSocket("/ws?api_key=\(two)&last_event_id=\(last)")
        let heard = try events(watcher, until: try #require(made.last)).compactMap { $0["resource_id"]?.string }
        // Those that come behind are published by now, so what is heard now is all.
        let more = try makeRun(visitor, "more")
        let rest = try events(watcher, until: more).compactMap { $0["resource_id"]?.string }
        #expect((heard + rest).sorted() == (made + [more]).sorted())
        #expect(try events(socket, until: more).compactMap { $0["resource_id"]?.string }.sorted() == (made + [more]).sorted())
        // From the middle, and from an event that nobody knows: then from the oldest.
        let unknown = try WebSocket("/ws?api_key=\(two)&last_event_id=01890000-0000-7000-8000-000000000000")
        #expect(try events(unknown, until: more).contains { $0["resource_id"] == .string(first) })
    }

    /// Events of several kinds within one second, and a client that leaves in the midst of those it missed.
    @Test func `a client that leaves again and again hears everything once, in the order of before`() throws {
        let key = try newKey().text
        let socket = try WebSocket("/ws?api_key=\(key)")
        let first = try makeRun(visitor, "first")
        var last = try #require(try events(socket, until: first).last?["id"]?.string)
        for number in 1...8 {
            _ = try makeRun(visitor, "run-\(number)")
            _ = try visitor.call("POST", "/api/v1/servers", ["name": "s", "host": "h"])
            _ = try visitor.call("POST", "/queues", ["name": .string("q-\(number)")])
        }
        let order = try events(socket, until: try makeRun(visitor, "last")).compactMap { $0["id"]?.string }
        #expect(order.count == 25)
        var heard: [String] = []
        while heard.count < order.count {
            let again = try WebSocket("/ws?api_key=\(key)&last_event_id=\(last)")
            for _ in 0..<min(2, order.count - heard.count) {
                let id = try #require(try again.message()["id"]?.string)
                heard.append(id)
                last = id
            }
        }
        #expect(heard == order)
    }

    @Test func `when a key ends its sockets close and no others`() throws {
        let (one, other) = (try newKey(), try newKey())
        let (socket, sibling) = (try WebSocket("/ws?api_key=\(one.text)"), try WebSocket("/ws?api_key=\(other.text)"))
        let grace = try visitor.call("POST", "/auth/keys/\(one.id)/rotate", ["grace_seconds": 1])
        #expect(grace.status == 200)
        var ending = socket.receive(within: 4)
        while case .message = ending { ending = socket.receive(within: 4) }
        guard case .closed = ending else {
            Issue.record("the socket of a key that was rotated away is still open")
            return
        }
        let run = try makeRun(visitor, "still")
        #expect(try events(sibling, until: run).last?["type"] == "run.created")
    }

    @Test func `bad keys are refused before the upgrade, and none is in a log`() throws {
        let key = "thecloud_\(UInt64.random(in: 0...UInt64.max))"
        for path in ["/ws", "/ws?api_key=", "/ws?api_key=\(key)"] {
            let refused = #expect(throws: WebSocket.Refused.self) { try WebSocket(path) }
            #expect(refused?.status == 401)
        }
        let revoked = try newKey()
        #expect(try visitor.call("DELETE", "/auth/keys/\(revoked.id)").status == 200)
        #expect(throws: WebSocket.Refused.self) { try WebSocket("/ws?api_key=\(revoked.text)") }
        #expect(try visitor.call("GET", "/ws?api_key=\(key)").status == 426)
        for name in try FileManager.default.contentsOfDirectory(atPath: Stack.folder + "/log") {
            let log = FileManager.default.contents(atPath: Stack.folder + "/log/" + name) ?? Data()
            for text in [key, revoked.text] { #expect(!String(decoding: log, as: UTF8.self).contains(text), "\(name)") }
        }
    }
}
