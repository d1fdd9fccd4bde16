// See Samples.swift.
import HTTP
import TestSupport
import Testing

extension Sample {
    /// Servers, the keys of their agents, commands and metrics.
    static let servers = Sample(
        bodies: [
            "POST /api/v1/servers": always(["name": "web-1", "host": "203.0.113.7", "port": 22]),
            "PUT /api/v1/servers/:id": always(["name": "web-2", "host": "web-2.example", "port": 2222]),
            "POST /api/v1/api-keys": { ["server_id": .string(try newServer(of: $0, TestCloud())), "name": "agent"] },
            "POST /api/v1/commands/:server_id": always(["command": "uptime", "timeout": 1]),
        ],
        // It has no agent.
        statuses: ["POST /api/v1/servers": 201, "POST /api/v1/api-keys": 201, "POST /api/v1/commands/:server_id": 409],
        objects: [
            "/api/v1/servers": { _, owner, cloud in try newServer(of: owner, cloud) },
            "/api/v1/metrics": { _, owner, cloud in try newServer(of: owner, cloud) },
            "/api/v1/commands": { _, owner, cloud in try newServer(of: owner, cloud) },
            "/api/v1/api-keys": { _, owner, cloud in
                let body: JSON = ["server_id": .string(try newServer(of: owner, cloud)), "name": "agent"]
                let answer = cloud.call(.post, "/api/v1/api-keys", key: owner.key, json: body)
                return try #require(answer["id"]?.string, "\(answer)")
            },
        ],
        references: ["POST /api/v1/api-keys": { [("server_id", ["server_id": .string($0)])] }])

    private static func newServer(of owner: Owner, _ cloud: TestCloud) throws -> String {
        let answer = cloud.call(.post, "/api/v1/servers", key: owner.key, json: ["name": "web-1", "host": "203.0.113.7"])
        return try #require(answer["id"]?.string, "\(answer)")
    }
}
