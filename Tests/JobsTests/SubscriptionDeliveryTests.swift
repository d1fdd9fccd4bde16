// Messages of topics to real receivers, by the engine that webhooks share; and what thecloud-cron does for queues.
import API
import Crypto
import HTTP
import Postgres
import TestSupport
import Testing

@testable import Jobs

struct SubscriptionDeliveryTests {
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        cloud = try TestCloud(Self.settings)
        owner = try cloud.newOwner()
    }

    private static let settings = ["THECLOUD_EGRESS_ALLOW": "127.0.0.0/8"]

    /// What one thread of thecloud-cron has; no engine is asked. Its clock is ahead of the database's, so that what is due now is due by it.
    private func workbench() throws -> Workbench {
        var bench = Workbench(
            config: try TestCloud.config(Self.settings, url: cloud.database.cron), connection: Connection(url: cloud.database.cron),
            engine: try #require(TestCloud.deadEngine()), names: EngineNames(stack: ID(at: .now())))
        bench.now = { Timestamp.now().advanced(seconds: 60) }
        return bench
    }

    private func call(_ method: HTTP.Method, _ path: String, _ json: JSON? = nil) -> Answer {
        cloud.call(method, path, key: owner.key, json: json)
    }

    private func make(_ path: String, _ json: JSON) throws -> (id: String, secret: WebhookSecret?) {
        let answer = call(.post, path, json)
        return (try #require(answer["data"]?["id"]?.string, "\(answer)"), answer["data"]?["secret"]?.string.flatMap(WebhookSecret.init))
    }

    private func subscribe(_ topic: String, _ server: LocalServer) throws -> (id: String, secret: WebhookSecret?) {
        try make(
            "/subscriptions",
            ["topic_id": .string(topic), "protocol": "webhook", "endpoint": .string("http://127.0.0.1:\(server.port)/hook")])
    }

    private func log(_ subscription: String) -> [JSON] { call(.get, "/subscriptions/\(subscription)/deliveries")["data"]?.array ?? [] }

    private func run(_ subscription: String) throws -> [Job.Outcome] {
        let bench = try workbench()
        return try log(subscription).map { delivery in
            try DeliveryRound(
                bench: bench, source: SubscriptionDelivery.source, id: try #require(delivery["id"]?.string.flatMap(ID.init)), timeout: 2000
            ).run()
        }
    }

    @Test func eachSubscriberGetsTheMessageSignedForIt() throws {
        let seen = Recorder<LocalServer.Received>()
        let server = LocalServer.http { request in
            seen.add(request)
            return ok("")
        }
        let topic = try make("/topics", ["name": "orders"]).id
        let queue = try make("/queues", ["name": "q"]).id
        let hooks = try (0..<3).map { _ in try subscribe(topic, server) }
        _ = try make("/subscriptions", ["topic_id": .string(topic), "protocol": "queue", "endpoint": .string(queue)])
        #expect(call(.post, "/topics/\(topic)/publish", ["message": "hello"])["data"]?["subscribers"] == 4)
        for hook in hooks { for _ in 0..<2 { #expect(try run(hook.id) == [.done]) } }
        #expect(seen.values.count == 3)
        for (request, hook) in zip(seen.values, hooks) {
            let id = try #require(log(hook.id).first?["id"]?.string)
            #expect(request.header("webhook-id") == id && request.line == "POST /hook HTTP/1.1")
            let timestamp = try #require(request.header("webhook-timestamp").flatMap { Int($0) })
            #expect(
                request.header("webhook-signature")
                    == hook.secret?.headers(id: id, timestamp: timestamp, body: request.body).last?.value)
            #expect(log(hook.id).first?["status"] == "DELIVERED")
        }
        // All of them, the queue too, get the same bytes.
        let queued = call(.get, "/queues/\(queue)/messages")["data"]?[0]?["body"]?.string
        #expect(Set(seen.values.map { String(decoding: $0.body, as: UTF8.self) } + [queued ?? ""]).count == 1)
    }

    @Test func whatFailsIsTriedAgainAndReplayed() throws {
        let seen = Recorder<String>()
        let server = LocalServer.http { request in
            seen.add(request.header("webhook-id") ?? "")
            return ok("", status: seen.values.count == 1 ? "500 Oops" : "204 No Content")
        }
        let topic = try make("/topics", ["name": "orders"]).id
        let hook = try subscribe(topic, server).id
        _ = call(.post, "/topics/\(topic)/publish", ["message": "hello"])
        guard case .again(let seconds)? = try run(hook).first else { throw Unexpected(description: "it is not tried again") }
        #expect((4.5...5.5).contains(seconds))
        #expect(log(hook).first?["response_status"] == 500 && log(hook).first?["status"] == "PENDING")
        let replay = "/subscriptions/\(hook)/deliveries/\(seen.values[0])/replay"
        #expect(call(.post, replay)["data"]?["attempts"] == 1)
        #expect(try run(hook) == [.done])
        #expect(log(hook).first?["status"] == "DELIVERED" && log(hook).first?["attempts"] == 2)
        #expect(call(.post, replay)["data"]?["attempts"] == 0)
        #expect(try run(hook) == [.done] && Set(seen.values).count == 1 && seen.values.count == 3)
    }

    @Test func goneDisablesTheSubscription() throws {
        let server = LocalServer.http { _ in ok("", status: "410 Gone") }
        let topic = try make("/topics", ["name": "orders"]).id
        let hook = try subscribe(topic, server).id
        for _ in 0..<2 { _ = call(.post, "/topics/\(topic)/publish", ["message": "hello"]) }
        #expect(try run(hook) == [.done, .done] && server.connections == 1)
        let shown = call(.get, "/subscriptions/\(hook)")
        #expect(shown["data"]?["is_active"] == false && shown["data"]?["disabled_reason"] == "The receiver answered 410 Gone")
        #expect(log(hook).map { $0["status"] } == ["FAILED", "FAILED"])
        #expect(call(.post, "/topics/\(topic)/publish", ["message": "hello"])["data"]?["subscribers"] == 0)
        expect(
            call(.post, "/subscriptions/\(hook)/deliveries/\(log(hook)[0]["id"]?.string ?? "")/replay"), 409, error: "conflict", "CONFLICT",
            "The subscription is not active; PUT {\"is_active\": true} first")
        let audit = try cloud.admin(
            "select count(*) from audit_log where resource_id = \(hook)::uuid and action = 'subscription.disabled'")
        #expect(audit.scalar(Int.self) == 1)
    }

    /// Nobody receives any more, and the dead-letter queue fills all the same.
    @Test func spentMessagesAreMovedWithoutAReceiver() throws {
        let dead = try make("/queues", ["name": "dead"]).id
        let queue = try make(
            "/queues", ["name": "q", "dead_letter_queue_id": .string(dead), "max_receive_count": 1, "visibility_timeout": 0]
        ).id
        let id = try #require(call(.post, "/queues/\(queue)/messages", ["body": "poison"])["data"]?["id"])
        let spared = try make("/queues", ["name": "spared", "dead_letter_queue_id": .string(dead), "max_receive_count": 1]).id
        _ = call(.post, "/queues/\(spared)/messages", ["body": "a"])
        for queue in [queue, spared] { #expect(call(.get, "/queues/\(queue)/messages")["data"]?.array?.count == 1) }
        // The other queue has become more patient since.
        _ = call(.put, "/queues/\(spared)", ["max_receive_count": 2])
        try cloud.admin("update queue_messages set visible_at = now() where queue_id in (\(queue)::uuid, \(spared)::uuid)")
        try QueueKeeping(connection: Connection(url: cloud.database.cron)).bury()
        let letters = call(.get, "/queues/\(dead)/messages?count=10")["data"]?.array ?? []
        #expect(letters.map { $0["id"] } == [id])
        #expect(call(.get, "/queues/\(queue)")["data"]?["messages"]?["available"] == 0)
        #expect(call(.get, "/queues/\(spared)/messages")["data"]?[0]?["receive_count"] == 2)
    }

    @Test func whatHasHadItsTimeIsThrownAway() throws {
        let queue = try make("/queues", ["name": "q", "retention": 60]).id
        let topic = try make("/topics", ["name": "orders"]).id
        _ = try make("/subscriptions", ["topic_id": .string(topic), "protocol": "queue", "endpoint": .string(queue)])
        for body in ["old", "moved"] {
            let id = ID(at: Timestamp.now().advanced(seconds: -3600))
            try cloud.admin(
                """
                insert into queue_messages (id, owner_id, queue_id, body, visible_at, sent_at, arrived_at) values (\(id), \(owner.id)::uuid,
                \(queue)::uuid, \(body), now() - interval '1 hour', now() - interval '1 hour', case when \(body) = 'moved' then now() + interval '30 seconds' end)
                """)
        }
        _ = call(.post, "/queues/\(queue)/messages", ["body": "young", "dedup_id": "d"])
        try cloud.admin(
            "update queue_messages set sent_at = now() + interval '1 minute', id = new_id() where body = 'young' and queue_id = \(queue)::uuid"
        )
        try cloud.admin("update queue_dedup set sent_at = now() - interval '6 minutes' where queue_id = \(queue)::uuid")
        _ = call(.post, "/topics/\(topic)/publish", ["message": "a"])
        try cloud.admin("update topic_messages set created_at = now() - interval '31 days' where topic_id = \(topic)::uuid")
        try Housekeeping(bench: try workbench()).run()
        let left = try cloud.admin(
            "select array_agg(body order by body) from queue_messages where queue_id = \(queue)::uuid and body in ('old', 'moved', 'young')"
        )
        #expect(left.scalar([String].self) == ["moved", "young"])
        for table in ["queue_dedup where queue_id", "topic_messages where topic_id"] {
            let id = table.hasSuffix("topic_id") ? topic : queue
            #expect(try cloud.admin("select 1 from \(verbatim: table) = \(id)::uuid").isEmpty)
        }
        let deliveries = try cloud.admin("select count(*) from subscription_deliveries where owner_id = \(owner.id)::uuid")
        #expect(deliveries.scalar(Int.self) == 0)
    }
}
