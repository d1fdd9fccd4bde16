// Topics and their subscriptions.
import Postgres

extension PlanTests {
    static let topics = Crowd(
        rows: [
            "insert into topics (id, owner_id, name) select new_id(), id, 't' from users where name = 'crowd'",
            """
            insert into subscriptions (id, owner_id, topic_id, protocol, endpoint, secret_sealed)
            select new_id(), owner_id, id, 'webhook', 'https://hooks.example/', '\\x00' from topics
            """,
        ],
        tables: ["topics", "subscriptions"],
        lists: [
            "topics",
            "subscriptions",
        ])
}
