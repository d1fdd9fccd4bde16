// See Samples.swift.
import HTTP
import TestSupport
import Testing

extension Sample {
    static let messages = Sample(
        bodies: [
            "POST /api/v1/messages": { owner in
                let room = try TestCloud().newRoom(of: owner, joinedBy: [owner])
                return ["room_id": .string(room), "content": "Hello, world!", "message_type": "text"]
            },
            "PUT /api/v1/messages/:id": always(["content": "Hello, all!"]),
        ],
        statuses: ["POST /api/v1/messages": 201],
        queries: ["GET /api/v1/messages": { owner, cloud in "?room_id=" + (try cloud.newRoom(of: owner, joinedBy: [owner])) }],
        objects: [
            "/api/v1/messages": { _, owner, cloud in
                let room = try cloud.newRoom(of: owner, joinedBy: [owner])
                let answer = cloud.call(
                    .post, "/api/v1/messages", key: owner.key, json: ["room_id": .string(room), "content": "Hello"])
                return try #require(answer["id"]?.string, "\(answer)")
            }
        ],
        references: ["POST /api/v1/messages": { [("room_id", ["room_id": .string($0)])] }])
}
