// An agent from its key to its end, through nginx: the handshake, reports, a command, a browser that watches, and revocation that closes
// its socket and no other.
import FoundationEssentials
import HTTP
import Outbound
import Testing

@Suite struct AgentSessionTests {
    let visitor = Visitor()
    let server: String

    init() throws {
        try visitor.join()
        server = try #require(try visitor.call("POST", "/api/v1/servers", ["name": "web", "host": "203.0.113.7"]).json["id"]?.string)
    }

    private func newKey() throws -> (id: String, text: String) {
        let key = try visitor.call("POST", "/api/v1/api-keys", ["server_id": .string(server), "name": "agent"]).json
        return (try #require(key["id"]?.string), try #require(key["key"]?.string))
    }

    private func connect(_ key: String) throws -> WebSocket {
        let socket = try WebSocket("/api/v1/agents/ws")
        socket.send(["type": "auth", "api_key": .string(key)])
        #expect(socket.text() == #"{"type":"auth_success","server_id":"\#(server)","message":"Connected successfully"}"#)
        return socket
    }

    @Test func `an agent reports, answers a command, is watched, and is cut off with its key`() throws {
        let (one, other) = (try newKey(), try newKey())
        let (agent, sibling) = (try connect(one.text), try connect(other.text))
        let report: JSON = ["type": "metrics", "server_id": .string(server), "cpu_percent": 12, "memory_percent": 40]
        agent.send(report)
        sibling.send(report)
        let path = "/api/v1/metrics/\(server)"
        _ = try eventually {
            try visitor.call("GET", path + "/history").json["data"]?.array?.count
        } until: {
            $0 == 2
        }
        #expect(try visitor.call("GET", "/api/v1/servers/\(server)").json["status"] == "online")

        let watcher = try WebSocket("/api/v1/ws/metrics/\(server)")
        watcher.send(["type": "auth", "token": .string(try #require(visitor.key))])
        #expect(try watcher.message()["type"] == "auth_success")
        #expect(try watcher.message()["cpu_percent"] == .int(12))

        // The newest agent gets the command; both stand ready.
        let commands = DispatchedAnswer { [server, key = visitor.key] in
            let visitor = Visitor()
            visitor.key = key
            let answer = try visitor.call("POST", "/api/v1/commands/\(server)", ["command": "uptime"])
            return String(decoding: answer.raw.body, as: UTF8.self)
        }
        let command = try sibling.message()
        #expect(command["type"] == "command" && command["command"] == "uptime")
        sibling.send([
            "type": "command_response", "command_id": command["command_id"] ?? .null, "output": "up", "exit_code": 0, "duration_ms": 3,
        ])
        let answer: JSON = [
            "command_id": command["command_id"] ?? .null, "command": "uptime", "output": "up", "exit_code": 0, "duration_ms": 3,
        ]
        #expect(try commands.value() == answer.text)

        #expect(try visitor.call("DELETE", "/api/v1/api-keys/\(one.id)").status == 200)
        guard case .closed = agent.receive(within: 2) else {
            Issue.record("the socket of a revoked key is still open after 2 s")
            return
        }
        sibling.send(report)
        _ = try eventually {
            try visitor.call("GET", path + "/history").json["data"]?.array?.count
        } until: {
            $0 == 3
        }
    }

    @Test func `a bad key is told so and the socket ends; who says nothing is closed too`() throws {
        let (bad, silent) = (try WebSocket("/api/v1/agents/ws"), try WebSocket("/api/v1/agents/ws"))
        bad.send(["type": "auth", "api_key": "chatops_nope"])
        #expect(bad.text() == #"{"type":"error","message":"Invalid or inactive API key"}"#)
        guard case .closed = bad.receive() else {
            Issue.record("it stays open")
            return
        }
        guard case .closed = silent.receive() else {
            Issue.record("a silent one stays open")
            return
        }
    }

    @Test func `a bad credential in a header is refused before the upgrade; a plain request is told what the path speaks`() throws {
        let refused = #expect(throws: WebSocket.Refused.self) {
            try WebSocket("/api/v1/ws/metrics/\(server)", headers: [("Authorization", "Bearer eyJnope")])
        }
        #expect(refused?.status == 401)
        let body = try JSON(parsing: Array((refused?.body ?? "").utf8))
        #expect(body["error_code"] == "INVALID_TOKEN")
        let plain = try visitor.call("GET", "/api/v1/agents/ws")
        #expect(plain.status == 426 && plain.json["error_code"] == "UPGRADE_REQUIRED")
        for path in ["/_sockets/agent", "/_sockets/open", "/_sockets/message"] {
            #expect(try visitor.call("POST", path, [:]).status == 404)
        }
    }
}
