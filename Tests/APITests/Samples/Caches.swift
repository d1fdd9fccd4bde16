// See Samples.swift.
import HTTP
import TestSupport
import Testing

extension Sample {
    static let caches = Sample(
        bodies: ["POST /caches": always(["name": "my-cache", "memory_mb": 128])],
        // One that does not run yet is not asked for its statistics.
        statuses: ["POST /caches": 201, "GET /caches/:id": 200, "GET /caches/:id/stats": 409],
        objects: [
            "/caches": { _, owner, cloud in
                let name = JSON.string("c" + TestCloud.newEmail().prefix(12))
                let answer = cloud.call(.post, "/caches", key: owner.key, json: ["name": name, "memory_mb": 16])
                return try #require(answer["data"]?["id"]?.string, "\(answer)")
            }
        ])
}
