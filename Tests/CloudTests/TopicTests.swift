// Topics and subscriptions through the door: bodies, what is refused, and which deliveries a message makes.
import API
import Crypto
import HTTP
import Postgres
import TestSupport
import Testing

struct TopicTests {
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        cloud = try TestCloud()
        owner = try cloud.newOwner()
    }

    private func call(_ method: HTTP.Method, _ path: String, _ json: JSON? = nil) -> Answer {
        cloud.call(method, path, key: owner.key, json: json)
    }

    private func make(_ path: String, _ json: JSON) throws -> String {
        let answer = call(.post, path, json)
        return try #require(answer["data"]?["id"]?.string, "\(answer)")
    }

    private func subscribe(_ topic: String, queue: String) throws -> String {
        try make("/subscriptions", ["topic_id": .string(topic), "protocol": "queue", "endpoint": .string(queue)])
    }

    private func subscribe(_ topic: String, url: String = "https://hooks.example/in") throws -> String {
        try make("/subscriptions", ["topic_id": .string(topic), "protocol": "webhook", "endpoint": .string(url)])
    }

    @Test func theLifeOfATopic() throws {
        let made = call(.post, "/topics", ["name": "orders"])
        let shape = #"{"id": "$id", "name": "orders", "created_at": "$time", "updated_at": "$time"}"#
        expect(made, 201, #"{"data": \#(shape)}"#)
        let id = try #require(made["data"]?["id"]?.string)
        expect(call(.get, "/topics/\(id)"), 200, #"{"data": \#(shape)}"#)
        expect(call(.get, "/topics"), 200, #"{"data": [\#(shape)], "meta": {"next_cursor": null}}"#)
        expect(
            call(.post, "/topics", ["name": "orders"]), 409, error: "conflict", "ALREADY_EXISTS", "You have a topic of this name already")
        #expect(call(.post, "/topics", ["name": "a b"]).badFields == ["name"])
        #expect(call(.put, "/topics/\(id)", ["name": "sales"])["data"]?["name"] == "sales")
        expect(call(.delete, "/topics/\(id)"), 200, #"{"message": "Topic deleted"}"#)
        #expect(call(.get, "/topics/\(id)").status == 404)
        let events = try cloud.admin("select array_agg(type order by id) from events where resource_id = \(id)::uuid")
        #expect(events.scalar([String].self) == ["topic.created", "topic.updated", "topic.deleted"])
    }

    @Test func theLifeOfASubscription() throws {
        let topic = try make("/topics", ["name": "orders"])
        let shape = """
            {"id": "$id", "topic_id": "\(topic)", "protocol": "webhook", "endpoint": "http://my-api/hook", "is_active": true,
            "disabled_reason": null, "created_at": "$time", "updated_at": "$time"
            """
        let made = call(.post, "/subscriptions", ["topic_id": .string(topic), "protocol": "webhook", "endpoint": "http://my-api/hook"])
        expect(made, 201, #"{"data": \#(shape), "secret": "$text"}}"#)
        #expect(made.header("Cache-Control") == "no-store")
        let id = try #require(made["data"]?["id"]?.string)
        let secret = try #require(made["data"]?["secret"]?.string.flatMap(WebhookSecret.init))
        let stored = try cloud.admin("select secret_sealed from subscriptions where id = \(id)::uuid").scalar([UInt8].self) ?? []
        #expect(try cloud.config.keyring.open(stored, .subscriptionSecret, of: try #require(ID(id))) == secret.bytes)
        expect(call(.get, "/subscriptions/\(id)"), 200, #"{"data": \#(shape)}}"#)
        expect(call(.get, "/subscriptions?topic_id=\(topic)"), 200, #"{"data": [\#(shape)}], "meta": {"next_cursor": null}}"#)
        let other = try make("/topics", ["name": "other"])
        #expect(call(.get, "/subscriptions?topic_id=\(other)")["data"] == [])
        #expect(call(.get, "/subscriptions?topic_id=x").badFields == ["topic_id"])
        #expect(call(.put, "/subscriptions/\(id)", ["is_active": false])["data"]?["is_active"] == false)
        let rotated = call(.post, "/subscriptions/\(id)/rotate")
        #expect(rotated["data"]?["secret"] != made["data"]?["secret"] && rotated.header("Cache-Control") == "no-store", "\(rotated)")
        expect(call(.delete, "/subscriptions/\(id)"), 200, #"{"message": "Subscription deleted"}"#)
        #expect(call(.get, "/subscriptions/\(id)").status == 404)
        let audit = try cloud.admin("select string_agg(detail::text, '') from audit_log where resource_id = \(id)::uuid")
        #expect(audit.scalar(String.self)?.contains("my-api") == false, "a URL may hold a secret")
    }

    @Test func badSubscriptionsAreRefused() throws {
        let stranger = try cloud.newOwner()
        let foreign = cloud.call(.post, "/queues", key: stranger.key, json: ["name": "q"])["data"]?["id"]
        let topic = try make("/topics", ["name": "orders"])
        func fields(_ members: JSON) -> [String] { call(.post, "/subscriptions", members).badFields }
        #expect(fields([:]) == ["topic_id", "protocol", "endpoint"])
        #expect(fields(["topic_id": .string(topic), "protocol": "mail", "endpoint": "x"]) == ["protocol", "endpoint"])
        #expect(fields(["topic_id": .string(topic), "endpoint": .string(topic)]) == ["protocol"], "it may be a queue")
        #expect(fields(["topic_id": .string(topic), "protocol": "queue", "endpoint": foreign ?? nil]) == ["endpoint"])
        #expect(fields(["topic_id": .string(topic), "protocol": "queue", "endpoint": "https://x/"]) == ["endpoint"])
        let forbidden = call(.post, "/subscriptions", ["topic_id": .string(topic), "protocol": "webhook", "endpoint": "http://127.0.0.1/"])
        #expect(forbidden.code == "TARGET_FORBIDDEN" && forbidden.badFields == ["endpoint"])
        let queue = try make("/queues", ["name": "q"])
        let id = try subscribe(topic, queue: queue)
        #expect(
            call(.post, "/subscriptions", ["topic_id": .string(topic), "protocol": "queue", "endpoint": .string(queue)]).code
                == "ALREADY_EXISTS")
        expect(call(.post, "/subscriptions/\(id)/rotate"), 409, error: "conflict", "CONFLICT", "Only a webhook's messages are signed")
        let small = try TestCloud(["THECLOUD_QUOTA_SUBSCRIPTIONS": "1", "THECLOUD_QUOTA_TOPICS": "1"])
        for (path, body) in [
            ("/topics", ["name": "second"]),
            ("/subscriptions", ["topic_id": .string(topic), "protocol": "webhook", "endpoint": "http://x/"]),
        ] as [(String, JSON)] { #expect(small.call(.post, path, key: owner.key, json: body).code == "QUOTA_EXCEEDED") }
    }

    @Test func aMessageIsStoredOnceForEachSubscriber() throws {
        let topic = try make("/topics", ["name": "orders"])
        let queue = try make("/queues", ["name": "q"])
        let hooks = try (0..<3).map { _ in try subscribe(topic) }
        let queued = try subscribe(topic, queue: queue)
        let stopped = try subscribe(topic)
        #expect(call(.put, "/subscriptions/\(stopped)", ["is_active": false]).status == 200)
        let answer = call(.post, "/topics/\(topic)/publish", ["message": ["order": 17, "text": "é"], "attributes": ["kind": "order"]])
        expect(
            answer, 201, #"{"data": {"message_id": "$id", "topic_id": "\#(topic)", "published_at": "$time", "subscribers": 4}}"#)
        let message = try #require(answer["data"]?["message_id"]?.string)
        let time = try #require(answer["data"]?["published_at"]?.string)
        let body = """
            {"id":"\(message)","type":"topic.message","timestamp":"\(time)","data":{"topic_id":"\(topic)","topic":"orders",\
            "message":{"order":17,"text":"é"},"attributes":{"kind":"order"}}}
            """
        let received = call(.get, "/queues/\(queue)/messages?count=10")["data"]?.array ?? []
        #expect(received.count == 1)
        let text = try #require(received.first?["body"]?.string)
        #expect(Set(text) == Set(body) && text.count == body.count, "\(text)")
        for hook in hooks {
            let log = call(.get, "/subscriptions/\(hook)/deliveries")["data"]?.array ?? []
            #expect(log.count == 1 && log[0]["status"] == "PENDING" && log[0]["message_id"]?.string == message, "\(log)")
            #expect(log.first?["payload"]?["data"]?["message"]?["order"] == 17)
            let jobs = try cloud.admin(
                "select count(*) from jobs where kind = 'subscription_delivery' and subject = \(log[0]["id"]?.string ?? "")")
            #expect(jobs.scalar(Int.self) == 1)
        }
        let log = call(.get, "/subscriptions/\(queued)/deliveries")["data"]?.array ?? []
        #expect(log.count == 1 && log[0]["status"] == "DELIVERED" && log[0]["attempts"] == 1 && log[0]["id"] == received.first?["id"])
        #expect(call(.get, "/subscriptions/\(stopped)/deliveries")["data"] == [])
        // The same again is a message of its own in the queue.
        let path = "/subscriptions/\(queued)/deliveries/\(log[0]["id"]?.string ?? "")/replay"
        #expect(call(.post, path)["data"]?["attempts"] == 2)
        let again = call(.get, "/queues/\(queue)/messages")["data"]?[0]
        #expect(again?["body"]?.string == text && again?["id"] != received.first?["id"])
        #expect(call(.post, "/subscriptions/\(hooks[0])/deliveries/\(log[0]["id"]?.string ?? "")/replay").status == 404)
    }

    @Test(arguments: [#""text""#, "17", "true", "[1,{}]", "{}", #""""#])
    func aMessageMayBeAnyJSON(message: String) throws {
        let topic = try make("/topics", ["name": "orders"])
        let queue = try make("/queues", ["name": "q"])
        _ = try subscribe(topic, queue: queue)
        #expect(cloud.call(.post, "/topics/\(topic)/publish", key: owner.key, text: #"{"message": \#(message)}"#).status == 201)
        let text = try #require(call(.get, "/queues/\(queue)/messages")["data"]?[0]?["body"]?.string)
        #expect(try JSON(parsing: Array(text.utf8))["data"]?["message"] == (try JSON(parsing: Array(message.utf8))))
    }

    @Test func badMessagesAreRefused() throws {
        let topic = try make("/topics", ["name": "orders"])
        #expect(call(.post, "/topics/\(topic)/publish", ["message": nil, "attributes": []]).badFields == ["message", "attributes"])
        let limit = 262_144
        #expect(call(.post, "/topics/\(topic)/publish", ["message": .string(String(repeating: "x", count: limit - 2))]).status == 201)
        expect(
            call(.post, "/topics/\(topic)/publish", ["message": .string(String(repeating: "x", count: limit - 1))]), 413,
            error: "payload_too_large", "BODY_TOO_LARGE", "The body is larger than 262144 bytes")
        #expect(call(.post, "/topics/\(owner.id)/publish", ["message": "a"]).status == 404)
    }

    /// A message that is published twice with one Idempotency-Key is one message.
    @Test func aRepeatedRequestPublishesOnce() throws {
        let topic = try make("/topics", ["name": "orders"])
        let queue = try make("/queues", ["name": "q"])
        _ = try subscribe(topic, queue: queue)
        let answers = (0..<2).map { _ in
            cloud.call(
                .post, "/topics/\(topic)/publish", key: owner.key, json: ["message": "a"], headers: ["Idempotency-Key": "once"]
            ).text
        }
        #expect(answers[0] == answers[1])
        #expect(call(.get, "/queues/\(queue)")["data"]?["messages"]?["available"] == 1)
    }

    @Test func aDeletedQueueTakesItsSubscriptionAlong() throws {
        let topic = try make("/topics", ["name": "orders"])
        let queue = try make("/queues", ["name": "q"])
        let id = try subscribe(topic, queue: queue)
        #expect(call(.post, "/topics/\(topic)/publish", ["message": "a"]).status == 201)
        #expect(call(.delete, "/queues/\(queue)").status == 200)
        #expect(call(.get, "/subscriptions/\(id)").status == 404)
        #expect(call(.post, "/topics/\(topic)/publish", ["message": "a"])["data"]?["subscribers"] == 0)
    }
}
