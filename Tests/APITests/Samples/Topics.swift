// See Samples.swift.
import HTTP
import Postgres
import TestSupport
import Testing

extension Sample {
    /// Topics and their subscriptions.
    static let topics = Sample(
        bodies: [
            "POST /topics": always(["name": "orders"]),
            "PUT /topics/:id": always(["name": "orders"]),
            "POST /topics/:id/publish": always(["message": ["order": 17], "attributes": ["kind": "order"]]),
            "POST /subscriptions": { try newHook(of: $0, TestCloud()) },
            "PUT /subscriptions/:id": always(["is_active": true]),
        ],
        statuses: ["POST /topics": 201, "POST /topics/:id/publish": 201, "POST /subscriptions": 201],
        objects: [
            "/topics": { _, owner, cloud in try newTopic(of: owner, cloud) },
            "/subscriptions": { _, owner, cloud in
                let answer = cloud.call(.post, "/subscriptions", key: owner.key, json: try newHook(of: owner, cloud))
                let id = try #require(answer["data"]?["id"]?.string, "\(answer)")
                // A delivery that is called like its subscription.
                try cloud.admin(
                    """
                    with m as (
                        insert into topic_messages (id, owner_id, topic_id, body)
                        select \(id)::uuid, owner_id, topic_id, '{}' from subscriptions where id = \(id)::uuid returning id, owner_id)
                    insert into subscription_deliveries (id, owner_id, subscription_id, message_id) select id, owner_id, id, id from m
                    """)
                return id
            },
        ],
        references: [
            "POST /subscriptions": {
                [("topic_id", ["topic_id": .string($0)]), ("endpoint", ["protocol": "queue", "endpoint": .string($0)])]
            }
        ])

    private static func newTopic(of owner: Owner, _ cloud: TestCloud) throws -> String {
        let answer = cloud.call(.post, "/topics", key: owner.key, json: ["name": .string("t" + TestCloud.newEmail().prefix(12))])
        return try #require(answer["data"]?["id"]?.string, "\(answer)")
    }

    private static func newHook(of owner: Owner, _ cloud: TestCloud) throws -> JSON {
        ["topic_id": .string(try newTopic(of: owner, cloud)), "protocol": "webhook", "endpoint": "https://hooks.example/in"]
    }
}
