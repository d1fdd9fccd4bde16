// See Samples.swift.
import HTTP
import Postgres
import TestSupport
import Testing

extension Sample {
    static let webhooks = Sample(
        bodies: [
            "POST /api/v1/webhooks": always(["name": "Hook", "url": "https://hooks.example/in", "events": ["run.completed", "instance.*"]]),
            "PUT /api/v1/webhooks/:id": always([
                "name": "Hook 2", "url": "https://hooks.example/other", "events": [], "is_active": true,
            ]),
        ],
        statuses: ["POST /api/v1/webhooks": 201],
        objects: [
            "/api/v1/webhooks": { _, owner, cloud in
                let answer = cloud.call(.post, "/api/v1/webhooks", key: owner.key, json: ["url": "https://hooks.example/in"])
                let id = try #require(answer["id"]?.string, "\(answer)")
                // A path with two ids gets the same one for both: a delivery may be called like its webhook.
                try cloud.admin(
                    """
                    insert into webhook_deliveries (id, owner_id, webhook_id, event_id, event_type, body)
                    values (\(id)::uuid, \(owner.id)::uuid, \(id)::uuid, \(id)::uuid, 'a.b', '{}')
                    """)
                return id
            }
        ])
}
