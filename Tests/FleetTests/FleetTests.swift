// The fleet's surface through the door: servers and keys, the agent's handshake as the seed prints it, reports, commands and their answers.
// nginx's part of a WebSocket is played by `socket:`: the id of the socket that opens or speaks.
import API
import HTTP
import Postgres
import System
import TestSupport
import Testing

struct FleetTests {
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        cloud = try TestCloud()
        owner = try cloud.newOwner()
    }

    @Test func serversAreMadeShownChangedAndDeleted() throws {
        let body = """
            {"id": "$id", "name": "web", "host": "203.0.113.7", "port": 22, "status": "offline", "last_seen_at": null, "created_at": "$time",
            "updated_at": "$time"}
            """
        let made = call(.post, "/api/v1/servers", ["name": "web", "host": "203.0.113.7", "port": 22])
        expect(made, 201, body)
        let path = "/api/v1/servers/\(try #require(made["id"]?.string))"
        expect(call(.get, path), 200, body)
        expect(call(.get, "/api/v1/servers"), 200, #"{"data": [\#(body)], "meta": {"next_cursor": null}}"#)
        expect(call(.put, path, ["name": "db"]), 200, body.replacing(#""web""#, with: #""db""#))
        expect(call(.delete, path), 200, #"{"message": "Server deleted"}"#)
        #expect(call(.get, path).status == 404)
        #expect(call(.post, "/api/v1/servers", ["name": "", "host": "a b", "port": 0]).badFields == ["name", "host", "port"])
    }

    @Test func agentKeysAreShownOnceAndRevoked() throws {
        let server = try newServer()
        let made = call(.post, "/api/v1/api-keys", ["server_id": .string(server), "name": "agent"])
        expect(made, 201, #"{"id": "$id", "server_id": "\#(server)", "name": "agent", "key": "$text", "created_at": "$time"}"#)
        let key = try #require(made["key"]?.string)
        #expect(key.wholeMatch(of: /chatops_[0-9A-Za-z]{33}/) != nil && made.header("Cache-Control") == "no-store")
        expect(
            call(.get, "/api/v1/api-keys/me?server_id=\(server)"), 200,
            """
            {"data": [{"id": "$id", "server_id": "\(server)", "name": "agent", "prefix": "\(key.prefix(12))", "created_at": "$time",
            "last_used": "$time", "expires_at": null}], "meta": {"next_cursor": null}}
            """)
        #expect(!cloud.call(.get, "/auth/keys", key: owner.key).text.contains("chatops_"), "they are no keys of a person")
        for path in ["/instances", "/api/v1/servers", "/auth/me"] {
            #expect(cloud.call(.get, path, headers: ["Authorization": "Bearer \(key)"]).status == 401, "they are good on the socket only")
        }
        let path = "/api/v1/api-keys/\(try #require(made["id"]?.string))"
        #expect(cloud.call(.delete, "/auth/keys/\(path.suffix(36))", key: owner.key).status == 404)
        expect(call(.delete, path), 200, #"{"message": "API key revoked"}"#)
        #expect(call(.delete, path).status == 404)
    }

    @Test func theHandshakeIsTheSeeds() throws {
        let agent = try Agent(cloud, owner)
        #expect(agent.hello.text == #"{"type":"auth_success","server_id":"\#(agent.server)","message":"Connected successfully"}"#)
        #expect(call(.get, "/api/v1/servers/\(agent.server)")["status"] == "online")
        let events = try cloud.admin(
            "select count(*) from events where owner_id = \(owner.id)::uuid and type = 'server.connected' and resource_id = \(agent.server)::uuid"
        )
        #expect(events.scalar(Int.self) == 1)
        try cloud.admin("update servers set last_seen_at = now() - interval '15 seconds' where id = \(agent.server)::uuid")
        #expect(call(.get, "/api/v1/servers/\(agent.server)")["status"] == "offline")
    }

    @Test func aBadKeyIsToldAndEndsTheSocket() throws {
        let good = try Agent(cloud, owner)
        try cloud.admin("delete from api_keys where server_id = \(good.server)::uuid")
        let other = KeyTexts(good.key)
        for key in [good.key, other.wrongChecksum, owner.key, "", "your-api-key-here"] {
            let socket = Agent.newSocket()
            #expect(cloud.call(.post, "/_sockets/agent/open", socket: socket).status == 204)
            let answer = cloud.call(.post, "/_sockets/agent", json: ["type": "auth", "api_key": .string(key)], socket: socket)
            #expect(answer.status == 200 && answer.text == #"{"type":"error","message":"Invalid or inactive API key"}"#)
            #expect(try cloud.admin("select closes_at < now() + interval '1 second' from sockets where id = \(socket)").scalar() == true)
            let again = try Agent(cloud, owner).key
            let late = cloud.call(.post, "/_sockets/agent", json: ["type": "auth", "api_key": .string(again)], socket: socket)
            #expect(late["type"] == "error", "once refused, a socket is not let in")
        }
        #expect(cloud.call(.post, "/_sockets/agent/open", socket: Agent.newSocket()).status == 204)
    }

    @Test func whoHasNotSaidWhoTheyAreIsNotHeard() throws {
        let (agent, socket) = (try Agent(cloud, owner), Agent.newSocket())
        _ = cloud.call(.post, "/_sockets/agent/open", socket: socket)
        let answer = cloud.call(.post, "/_sockets/agent", json: agent.report, socket: socket)
        #expect(answer.text == #"{"type":"error","message":"Invalid or expired token"}"#, "\(answer)")
        try cloud.admin("update sockets set opened_at = now() - interval '11 seconds' where id = \(socket)")
        #expect(
            cloud.call(.post, "/_sockets/agent", json: ["type": "auth", "api_key": .string(agent.key)], socket: socket)["type"] == "error")
    }

    @Test func reportsAreStoredAndQueried() throws {
        let agent = try Agent(cloud, owner)
        #expect(call(.get, "/api/v1/metrics/\(agent.server)")["cpu_percent"] == .null)
        #expect(agent.say(agent.report).status == 204)
        expect(
            call(.get, "/api/v1/metrics/\(agent.server)"), 200,
            """
            {"status": "online", "server_id": "\(agent.server)", "cpu_percent": 12.5, "memory_percent": 40.0, "disk_usage": {"/": 71},
            "network": {"rx": 1}, "timestamp": "2026-01-05T23:00:00.000000Z", "received_at": "$time"}
            """)
        for _ in 1...3 { #expect(agent.say(agent.report).status == 204) }
        let history = "/api/v1/metrics/\(agent.server)/history"
        let first = call(.get, history + "?limit=3")
        #expect(first["data"]?.array?.count == 3)
        let cursor = try #require(first["meta"]?["next_cursor"]?.string)
        #expect(call(.get, history + "?limit=3&cursor=\(cursor)")["data"]?.array?.count == 1)
        #expect(call(.get, history + "?start=2026-01-01T00:00:00Z&end=2026-01-02T00:00:00Z")["data"] == [])
        #expect(call(.get, history + "?start=yesterday").badFields == ["start"])
        #expect(call(.get, history + "?start=2026-01-03T00:00:00Z&end=2026-01-02T00:00:00Z").badFields == ["start"])
    }

    @Test func badReportsAreToldAndNotStored() throws {
        let (agent, other) = (try Agent(cloud, owner), try Agent(cloud, owner))
        let bad: [(JSON, String)] = [
            (["type": "metrics"], "server_id is required; cpu_percent is required; memory_percent is required"),
            (
                ["type": "metrics", "server_id": .string(agent.server), "cpu_percent": 101, "memory_percent": "40"],
                "cpu_percent must be a number from 0 to 100; memory_percent must be a number from 0 to 100"
            ),
            (
                ["type": "metrics", "server_id": .string(other.server), "cpu_percent": 1, "memory_percent": 1],
                "server_id must be the server of the key"
            ),
            (["type": "shout"], "type must be one of auth, metrics, command_response"),
        ]
        for (message, why) in bad {
            expect(agent.say(message), 200, #"{"type": "error", "message": "\#(why)"}"#)
        }
        expect(agent.say(text: "{"), 200, #"{"type": "error", "message": "The body is not valid JSON"}"#)
        #expect(call(.get, "/api/v1/metrics/\(agent.server)")["received_at"] == .null)
    }

    @Test func aRevokedKeyIsOutWithTheNextMessage() throws {
        let agent = try Agent(cloud, owner)
        let key = try cloud.admin("select id::text from api_keys where server_id = \(agent.server)::uuid").scalar(String.self)
        #expect(call(.delete, "/api/v1/api-keys/\(try #require(key))").status == 200)
        #expect(agent.say(agent.report)["type"] == "error")
        #expect(try cloud.admin("select count(*) from server_metrics where server_id = \(agent.server)::uuid").scalar() == 0)
        #expect(
            try cloud.admin("select count(*) from sockets_to_close(left(\(agent.socket), 16)) where id = \(agent.socket)").scalar() == 1)
        let deleted = try Agent(cloud, owner)
        #expect(call(.delete, "/api/v1/servers/\(deleted.server)").status == 200)
        #expect(deleted.say(deleted.report)["type"] == "error")
    }

    @Test func aCommandIsAnswered() throws {
        let agent = try Agent(cloud, owner)
        let (server, socket, id) = (agent.server, agent.socket, owner.id)
        let worker = WorkerThread {
            guard let cloud = try? TestCloud() else { return }
            var command: String?
            while command == nil {
                command = try? cloud.admin("select id::text from commands where owner_id = \(id)::uuid and state = 'SENT'").scalar()
            }
            let answer: JSON = [
                "type": "command_response", "command_id": .optional(command), "output": "up 3 days\n", "exit_code": 0, "duration_ms": 12,
            ]
            _ = cloud.call(.post, "/_sockets/agent", json: answer, socket: socket)
        }
        let answer = call(.post, "/api/v1/commands/\(server)", ["command": "uptime"])
        worker.join()
        expect(
            answer, 200, #"{"command_id": "$id", "command": "uptime", "output": "up 3 days\n", "exit_code": 0, "duration_ms": 12}"#)
        expect(
            call(.get, "/api/v1/commands/\(server)"), 200,
            """
            {"data": [{"command_id": "$id", "server_id": "\(server)", "command": "uptime", "state": "DONE", "output": "up 3 days\\n",
            "exit_code": 0, "duration_ms": 12, "created_at": "$time", "finished_at": "$time"}], "meta": {"next_cursor": null}}
            """)
    }

    @Test func aSilentAgentIsA504AndAnAbsentOneA409() throws {
        let agent = try Agent(cloud, owner)
        let path = "/api/v1/commands/\(agent.server)"
        expect(
            call(.post, path, ["command": "uptime", "timeout": 1]), 504, error: "timed_out", "TIMED_OUT",
            "The agent did not answer within 1 s")
        #expect(call(.post, path, ["command": "", "timeout": 31]).badFields == ["command", "timeout"])
        let ordered = try cloud.admin("select body from socket_orders where socket_id = \(agent.socket)").scalar(String.self) ?? ""
        #expect(ordered.wholeMatch(of: /\{"type":"command","command_id":"[0-9a-f-]{36}","command":"uptime"\}/) != nil, "\(ordered)")
        try cloud.admin("update servers set last_seen_at = now() - interval '1 minute' where id = \(agent.server)::uuid")
        expect(call(.post, path, ["command": "uptime"]), 409, error: "conflict", "CONFLICT", "The server is offline")
        // A late answer settles the row, and nobody else's command can be answered.
        let command = try cloud.admin("select id::text from commands where server_id = \(agent.server)::uuid").scalar(String.self)
        let answer: JSON = ["type": "command_response", "command_id": .optional(command), "output": "x", "exit_code": 1]
        #expect(try Agent(cloud, owner).say(answer).status == 204)
        #expect(call(.get, path)["data"]?[0]?["state"] == "SENT")
        #expect(agent.say(answer).status == 204)
        #expect(call(.get, path)["data"]?[0]?["state"] == "DONE")
    }

    /// While the first is waiting the second is refused; a failed one is not kept.
    @Test func aCommandIsSentOnceForAnIdempotencyKey() throws {
        let agent = try Agent(cloud, owner)
        let (server, key, id) = (agent.server, owner.key, owner.id)
        let first = WorkerThread {
            guard let cloud = try? TestCloud() else { return }
            _ = cloud.call(
                .post, "/api/v1/commands/\(server)", key: key, json: ["command": "uptime", "timeout": 3],
                headers: ["Idempotency-Key": "one"])
        }
        while try cloud.admin("select 1 from commands where owner_id = \(id)::uuid").isEmpty {}
        let second = cloud.call(
            .post, "/api/v1/commands/\(server)", key: key, json: ["command": "uptime", "timeout": 3], headers: ["Idempotency-Key": "one"])
        #expect(second.code == "IDEMPOTENCY_KEY_IN_USE", "\(second)")
        first.join()
        let third = cloud.call(
            .post, "/api/v1/commands/\(server)", key: key, json: ["command": "uptime", "timeout": 1], headers: ["Idempotency-Key": "one"])
        #expect(third.status == 504, "\(third)")
        #expect(try cloud.admin("select count(*) from commands where owner_id = \(id)::uuid").scalar() == 2)
    }

    @Test func aBrowserWatchesItsOwnServersOnly() throws {
        let agent = try Agent(cloud, owner)
        let stranger = try cloud.newOwner()
        func watch(_ token: String) -> (Answer, String) {
            let socket = Agent.newSocket()
            #expect(cloud.call(.post, "/_sockets/metrics/open?subject=\(agent.server)", socket: socket).status == 204)
            return (cloud.call(.post, "/_sockets/metrics", json: ["type": "auth", "token": .string(token)], socket: socket), socket)
        }
        let (answer, socket) = watch(owner.key)
        expect(answer, 200, #"{"type": "auth_success", "server_id": "\#(agent.server)", "message": "Connected successfully"}"#)
        #expect(try cloud.admin("select server_id::text from sockets where id = \(socket)").scalar() == agent.server)
        for token in [stranger.key, agent.key, "x"] {
            expect(watch(token).0, 200, #"{"type": "error", "message": "Invalid or expired token"}"#)
        }
        let open = "/_sockets/metrics/open?subject=\(agent.server)"
        func opening(_ key: String, _ path: String = open) -> Int { cloud.call(.post, path, key: key, socket: Agent.newSocket()).status }
        #expect(opening(owner.key) == 204 && opening(stranger.key) == 401 && opening("x") == 401)
        #expect(opening(owner.key, "/_sockets/metrics/open?subject=x") == 403)
    }

    /// For clients there are no such paths, and with a socket's id there are no others.
    @Test func internalPathsAreNginxsOnly() {
        for path in ["/_sockets/agent", "/_sockets/agent/open", "/_sockets/metrics", "/_sockets/metrics/open"] {
            for method in [HTTP.Method.get, .post, .delete] {
                expect(
                    cloud.call(method, path, key: owner.key, json: [:]), 404, error: "not_found", "ROUTE_NOT_FOUND",
                    "No such path; see /openapi.yaml")
            }
        }
        #expect(cloud.call(.get, "/health/live", socket: Agent.newSocket()).status == 404)
    }

    private func newServer() throws -> String { try Agent.newServer(cloud, owner) }

    private func call(_ method: HTTP.Method, _ path: String, _ json: JSON? = nil) -> Answer {
        cloud.call(method, path, key: owner.key, json: json)
    }
}

/// A key's text with one letter exchanged.
private struct KeyTexts {
    let wrongChecksum: String
    init(_ key: String) { wrongChecksum = key.dropLast() + (key.hasSuffix("0") ? "1" : "0") }
}

/// An agent that has connected.
private struct Agent {
    let cloud: TestCloud
    let server: String
    let key: String
    let socket = newSocket()
    let hello: Answer

    init(_ cloud: TestCloud, _ owner: Owner) throws {
        self.cloud = cloud
        server = try Self.newServer(cloud, owner)
        let made = cloud.call(.post, "/api/v1/api-keys", key: owner.key, json: ["server_id": .string(server), "name": "agent"])
        key = try #require(made["key"]?.string, "\(made)")
        #expect(cloud.call(.post, "/_sockets/agent/open", socket: socket).status == 204)
        hello = cloud.call(.post, "/_sockets/agent", json: ["type": "auth", "api_key": .string(key)], socket: socket)
        // The process that would hold the socket.
        try cloud.admin("insert into socket_homes (home, seen_at) values (\(String(socket.prefix(16))), now() + interval '1 hour')")
    }

    static func newServer(_ cloud: TestCloud, _ owner: Owner) throws -> String {
        let made = cloud.call(.post, "/api/v1/servers", key: owner.key, json: ["name": "web", "host": "203.0.113.7"])
        return try #require(made["id"]?.string, "\(made)")
    }

    /// An id as nginx gives its requests.
    static func newSocket() -> String { (0..<32).map { _ in String("0123456789abcdef".randomElement() ?? "0") }.joined() }

    func say(_ message: JSON) -> Answer { cloud.call(.post, "/_sockets/agent", json: message, socket: socket) }
    func say(text: String) -> Answer { cloud.call(.post, "/_sockets/agent", text: text, socket: socket) }

    var report: JSON {
        [
            "type": "metrics", "server_id": .string(server), "cpu_percent": .double(12.5), "memory_percent": 40, "disk_usage": ["/": 71],
            "network": ["rx": 1], "timestamp": "2026-01-05T23:00:00Z",
        ]
    }
}
