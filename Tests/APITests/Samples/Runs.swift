// See Samples.swift.
import HTTP
import TestSupport
import Testing

extension Sample {
    static let runs = Sample(
        bodies: [
            "POST /api/v1/runs": always(["name": "Run 1", "description": "of a test", "config": ["scale": 10]]),
            "PUT /api/v1/runs/:id": always(["name": "Run 2", "description": "of another test", "config": ["scale": 20]]),
            "PUT /api/v1/runs/:id/status": always(["status": "running"]),
            "PUT /api/v1/runs/:id/tps": always(["max": 1500, "min": .double(0.5), "average": 700, "95p": 1400, "99p": 1490]),
        ],
        statuses: ["POST /api/v1/runs": 201],
        objects: [
            "/api/v1/runs": { _, owner, cloud in
                let answer = cloud.call(.post, "/api/v1/runs", key: owner.key, json: ["name": "Run 1", "config": [:]])
                return try #require(answer["id"]?.string, "\(answer)")
            }
        ])
}
