// See Samples.swift.
import HTTP
import TestSupport
import Testing

extension Sample {
    /// The gateway's.
    static let routes = Sample(
        bodies: ["POST /routes": always(route), "PUT /routes/:id": always(route)],
        statuses: ["POST /routes": 201],
        objects: [
            "/routes": { _, owner, cloud in
                let name = "n" + TestCloud.newEmail().prefix(12)
                let body: JSON = ["name": .string(name), "prefix": .string("/" + name), "target": "http://auth-service:8080"]
                let answer = cloud.call(.post, "/routes", key: owner.key, json: body)
                return try #require(answer["data"]?["id"]?.string, "\(answer)")
            }
        ])

    private static let route: JSON = [
        "name": "auth-service", "prefix": "/auth", "target": "http://auth-service:8080", "strip_prefix": true, "methods": ["GET"],
    ]
}
