// See Samples.swift.
import API
import HTTP
import TestSupport
import Testing

extension Sample {
    static let queues = Sample(
        bodies: [
            "POST /queues": always(tasks),
            "PUT /queues/:id": always(tasks),
            "POST /queues/:id/messages": always([
                "body": "payload-data", "delay_seconds": 0, "dedup_id": "order-17", "attributes": ["kind": "order", "n": 1],
            ]),
            "POST /queues/:id/messages/delete": { ["receipt_handles": [.string("\($0.id).\($0.id)")]] },
            "PUT /queues/:id/messages/:receipt_handle": always(["visibility_timeout": 60]),
        ],
        statuses: ["POST /queues": 201, "POST /queues/:id/messages": 201, "GET /queues/:id/messages": 200],
        objects: [
            "/queues": { probe, owner, cloud in
                let answer = cloud.call(.post, "/queues", key: owner.key, json: ["name": .string("q" + TestCloud.newEmail().prefix(12))])
                let id = try #require(answer["data"]?["id"]?.string, "\(answer)")
                guard probe.route.path.hasSuffix(":receipt_handle") else { return id }
                _ = cloud.call(.post, "/queues/\(id)/messages", key: owner.key, json: ["body": "a"])
                let received = cloud.call(.get, "/queues/\(id)/messages", key: owner.key)
                return id + " " + (try #require(received["data"]?[0]?["receipt_handle"]?.string, "\(received)"))
            }
        ],
        references: ["POST /queues": { [("dead_letter_queue_id", ["dead_letter_queue_id": .string($0)])] }])

    private static let tasks: JSON = ["name": "tasks", "visibility_timeout": 30, "delay": 0, "retention": 3600, "max_receive_count": 5]
}
