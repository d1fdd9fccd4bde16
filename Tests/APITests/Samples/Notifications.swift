// See Samples.swift.
import HTTP
import TestSupport
import Testing

extension Sample {
    static let notifications = Sample(
        bodies: [
            "POST /api/v1/notifications": { _ in
                ["type": "email", "to_email": .string(TestCloud.newEmail()), "subject": "News", "content": "There are some."]
            }
        ],
        statuses: ["POST /api/v1/notifications": 201],
        objects: [
            "/api/v1/notifications": { _, owner, cloud in
                let body: JSON = ["type": "email", "to_email": .string(TestCloud.newEmail()), "content": "News"]
                let answer = cloud.call(.post, "/api/v1/notifications", key: owner.key, json: body)
                return try #require(answer["id"]?.string, "\(answer)")
            }
        ],
        references: ["POST /api/v1/notifications": { [("user_id", ["user_id": .string($0)])] }])
}
