// Queues through the door: their bodies, dead letters, retention, purging, permissions.
import API
import HTTP
import Postgres
import TestSupport
import Testing

struct QueueTests: QueueTesting {
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        cloud = try TestCloud()
        owner = try cloud.newOwner()
    }

    private static let shape = """
        {"id": "$id", "name": "task-queue", "visibility_timeout": 30, "delay": 0, "retention": 345600, "max_receive_count": null,
        "dead_letter_queue_id": null, "created_at": "$time", "updated_at": "$time"MORE}
        """

    private func shape(_ more: String = "") -> String { Self.shape.replacing("MORE", with: more) }

    @Test func theLifeOfAQueue() throws {
        let made = call(.post, "/queues", ["name": "task-queue", "visibility_timeout": 30])
        expect(made, 201, #"{"data": \#(shape())}"#)
        let id = try #require(made["data"]?["id"]?.string)
        expect(call(.get, "/queues"), 200, #"{"data": [\#(shape())], "meta": {"next_cursor": null}}"#)
        let empty = #", "messages": {"available": 0, "delayed": 0, "in_flight": 0}"#
        expect(call(.get, "/queues/\(id)"), 200, #"{"data": \#(shape(empty))}"#)
        expect(
            call(.post, "/queues", ["name": "task-queue"]), 409, error: "conflict", "ALREADY_EXISTS",
            "You have a queue of this name already")
        let changed = call(.put, "/queues/\(id)", ["visibility_timeout": 60, "delay": 1, "retention": 60, "max_receive_count": 3])
        #expect(changed["data"]?["max_receive_count"] == 3 && changed["data"]?["name"] == "task-queue", "\(changed)")
        #expect(call(.put, "/queues/\(id)", ["max_receive_count": nil])["data"]?["max_receive_count"] == .null)
        #expect(call(.put, "/queues/\(id)", [:]).badFields == ["name"])
        expect(call(.delete, "/queues/\(id)"), 200, #"{"message": "Queue deleted"}"#)
        #expect(call(.get, "/queues/\(id)").status == 404 && call(.delete, "/queues/\(id)").status == 404)
        let actions = try cloud.admin(
            "select array_agg(action order by id) from audit_log where resource_id = \(id)::uuid and owner_id = \(owner.id)::uuid")
        #expect(actions.scalar([String].self) == ["queue.created", "queue.updated", "queue.updated", "queue.deleted"])
        let events = try cloud.admin("select array_agg(type order by id) from events where resource_id = \(id)::uuid")
        #expect(events.scalar([String].self) == ["queue.created", "queue.updated", "queue.updated", "queue.deleted"])
    }

    @Test func badQueuesAreRefused() throws {
        let answer = call(
            .post, "/queues",
            [
                "name": "a b", "visibility_timeout": 43201, "delay": 901, "retention": 59, "max_receive_count": 0,
                "dead_letter_queue_id": "x",
            ])
        #expect(
            answer.badFields == ["name", "visibility_timeout", "delay", "retention", "max_receive_count", "dead_letter_queue_id"],
            "\(answer)")
        let id = try queue()
        expect(
            call(.put, "/queues/\(id)", ["dead_letter_queue_id": .string(id)]), 400, error: "bad_request", "VALIDATION_FAILED",
            "dead_letter_queue_id must be the id of another queue", fields: ["dead_letter_queue_id": "must be the id of another queue"])
        let problem = "must be shorter than the retention"
        for answer in [
            call(.post, "/queues", ["name": "short", "delay": 60, "retention": 60]),
            call(.put, "/queues/\(id)", ["delay": 900, "retention": 900]),
        ] { expect(answer, 400, error: "bad_request", "VALIDATION_FAILED", "delay \(problem)", fields: ["delay": problem]) }
        #expect(call(.put, "/queues/\(id)", ["delay": 59, "retention": 60]).status == 200)
        #expect(call(.put, "/queues/\(id)", ["delay": 60]).badFields == ["delay"])
        let small = try TestCloud(["THECLOUD_QUOTA_QUEUES": "1"])
        expect(
            small.call(.post, "/queues", key: owner.key, json: ["name": "second"]), 403, error: "forbidden", "QUOTA_EXCEEDED",
            "Quota exceeded: at most 1 queues")
    }

    @Test func aStrangersQueueIsNoDeadLetterQueue() throws {
        let stranger = try cloud.newOwner()
        let foreign = try #require(cloud.call(.post, "/queues", key: stranger.key, json: ["name": "q"])["data"]?["id"])
        let id = try queue()
        #expect(call(.put, "/queues/\(id)", ["dead_letter_queue_id": foreign]).badFields == ["dead_letter_queue_id"])
    }

    @Test func aDeadLetterQueueInUseStays() throws {
        let dead = try queue("dead")
        let id = try queue("tasks", ["dead_letter_queue_id": .string(dead), "max_receive_count": 2])
        expect(
            call(.delete, "/queues/\(dead)"), 409, error: "conflict", "CONFLICT", "Another queue names it as its dead-letter queue")
        #expect(call(.put, "/queues/\(id)", ["dead_letter_queue_id": nil])["data"]?["dead_letter_queue_id"] == .null)
        #expect(call(.delete, "/queues/\(dead)").status == 200)
    }

    @Test(arguments: [1, 3])
    func afterSoManyReceivesItIsADeadLetter(limit: Int) throws {
        let dead = try queue("dead")
        let id = try queue("tasks", ["dead_letter_queue_id": .string(dead), "max_receive_count": .int(limit)])
        let message = try send(id, "poison", ["attributes": ["a": "b"]])
        for round in 1...limit {
            #expect(receive(id).first?["receive_count"] == .int(round))
            #expect(receive(dead).isEmpty)
            try passVisibility(id)
        }
        // The receive that would be one too many moves it, and hands out what stands behind it.
        try send(id, "fine")
        #expect(receive(id).map { $0["body"] } == ["fine"])
        let moved = receive(dead)
        #expect(moved.map { $0["id"]?.string } == [message] && moved.first?["body"] == "poison")
        #expect(moved.first?["receive_count"] == 1 && moved.first?["attributes"] == ["a": "b"])
    }

    @Test func withoutADeadLetterQueueItStays() throws {
        let id = try queue("tasks", ["max_receive_count": 1])
        try send(id)
        for round in 1...3 {
            #expect(receive(id).first?["receive_count"] == .int(round))
            try passVisibility(id)
        }
    }

    @Test func theExpiredAreNotDelivered() throws {
        let id = try queue("tasks", ["retention": 60])
        for number in 1...700 {
            try cloud.admin(
                "insert into queue_messages (id, owner_id, queue_id, body) values (new_id(), \(owner.id)::uuid, \(id)::uuid, \(String(number)))"
            )
        }
        try cloud.admin("update queue_messages set sent_at = now() - interval '61 seconds' where queue_id = \(id)::uuid")
        try send(id, "young")
        #expect(counts(id) == [1, 0, 0])
        // However many stand before it.
        #expect(receive(id).map { $0["body"] } == ["young"])
        let left = try cloud.admin("select count(*) from queue_messages where queue_id = \(id)::uuid")
        #expect((left.scalar(Int.self) ?? 700) < 700)
    }

    @Test func purgingTakesAllAlong() throws {
        let (id, other) = (try queue(), try queue("other"))
        for queue in [id, id, id, other] { try send(queue) }
        _ = receive(id)
        expect(call(.post, "/queues/\(id)/purge"), 200, #"{"message": "Queue purged", "deleted": 3}"#)
        #expect(counts(id) == [0, 0, 0])
        #expect(counts(other) == [1, 0, 0])
    }

    /// Sending and receiving have permissions of their own.
    @Test func aSenderIsNoReceiver() throws {
        let id = try queue()
        let sender = try cloud.newKey(of: owner, ["permissions": ["queue:send"]]).text
        let receiver = try cloud.newKey(of: owner, ["permissions": ["queue:receive"]]).text
        #expect(cloud.call(.post, "/queues/\(id)/messages", key: sender, json: ["body": "a"]).status == 201)
        #expect(cloud.call(.get, "/queues/\(id)/messages", key: sender).status == 403)
        #expect(cloud.call(.post, "/queues/\(id)/messages", key: receiver, json: ["body": "a"]).status == 403)
        #expect(cloud.call(.get, "/queues/\(id)/messages", key: receiver).status == 200)
        #expect(cloud.call(.get, "/queues/\(id)", key: receiver).status == 403)
    }
}
