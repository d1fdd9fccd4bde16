// Messages of queues through the door: bodies, visibility, delays, receipts, batches, names of senders.
import API
import HTTP
import Postgres
import TestSupport
import Testing

struct QueueMessageTests: QueueTesting {
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        cloud = try TestCloud()
        owner = try cloud.newOwner()
    }

    @Test func aMessageIsSentReceivedAndDeleted() throws {
        let id = try queue()
        expect(
            call(.post, "/queues/\(id)/messages", ["body": "payload-data", "attributes": ["kind": "order", "n": 1]]), 201,
            #"{"data": {"id": "$id", "sent_at": "$time", "deduplicated": false}}"#)
        let received = call(.get, "/queues/\(id)/messages?count=1")
        expect(
            received, 200,
            """
            {"data": [{"id": "$id", "body": "payload-data", "attributes": {"kind": "order", "n": 1}, "receipt_handle": "$text",
            "receive_count": 1, "sent_at": "$time", "first_received_at": "$time", "visible_until": "$time"}]}
            """)
        expect(call(.get, "/queues/\(id)/messages"), 200, #"{"data": []}"#)
        #expect(counts(id) == [0, 0, 1])
        let path = "/queues/\(id)/messages/\(try handle(received["data"]?[0]))"
        expect(call(.delete, path), 200, #"{"message": "Message deleted"}"#)
        expect(call(.delete, path), 404, error: "not_found", "NOT_FOUND", "No such object")
        #expect(counts(id) == [0, 0, 0])
    }

    @Test func theOldestComeFirst() throws {
        let id = try queue()
        for number in 1...5 { try send(id, "\(number)") }
        #expect(receive(id, "?count=2").map { $0["body"] } == ["1", "2"])
        #expect(receive(id, "?count=10").map { $0["body"] } == ["3", "4", "5"])
        #expect(call(.get, "/queues/\(id)/messages?count=11").badFields == ["count"])
        #expect(call(.get, "/queues/\(id)/messages?wait=21").badFields == ["wait"])
        #expect(call(.get, "/queues/\(id)/messages?count=0").badFields == ["count"])
    }

    @Test func headReceivesNothing() throws {
        let id = try queue()
        try send(id)
        #expect(call(.head, "/queues/\(id)/messages?wait=20").status == 200)
        #expect(counts(id) == [1, 0, 0])
    }

    @Test func aMessageComesBackAndItsOldReceiptIsStale() throws {
        let id = try queue()
        try send(id)
        let first = try handle(receive(id).first)
        try passVisibility(id)
        let again = try #require(receive(id).first)
        #expect(again["receive_count"] == 2)
        let second = try handle(again)
        let stale = "The receipt handle is stale: the message has been received again since"
        for answer in [
            call(.delete, "/queues/\(id)/messages/\(first)"),
            call(.put, "/queues/\(id)/messages/\(first)", ["visibility_timeout": 0]),
        ] { expect(answer, 409, error: "conflict", "CONFLICT", stale) }
        #expect(receive(id).isEmpty)
        // Its visibility is over, but nobody has received it since: the receipt is still the present one.
        try passVisibility(id)
        #expect(call(.delete, "/queues/\(id)/messages/\(second)").status == 200)
        for handle in [second, first, "x", "\(id).\(id)", "a.b.c", first + "0", "."] {
            #expect(call(.delete, "/queues/\(id)/messages/\(handle)").status == 404)
            #expect(call(.put, "/queues/\(id)/messages/\(handle)", ["visibility_timeout": 0]).status == 404)
        }
        let other = try queue("other")
        try send(id)
        #expect(call(.delete, "/queues/\(other)/messages/\(try handle(receive(id).first))").status == 404)
    }

    @Test func visibilityIsChanged() throws {
        let id = try queue()
        try send(id)
        let handle = try handle(receive(id).first)
        expect(
            call(.put, "/queues/\(id)/messages/\(handle)", ["visibility_timeout": 43200]), 200,
            #"{"data": {"id": "$id", "receipt_handle": "\#(handle)", "visible_until": "$time"}}"#)
        let far = try cloud.admin("select visible_at > now() + interval '11 hours' from queue_messages where queue_id = \(id)::uuid")
        #expect(far.scalar(Bool.self) == true)
        #expect(call(.put, "/queues/\(id)/messages/\(handle)", ["visibility_timeout": 43201]).badFields == ["visibility_timeout"])
        #expect(call(.put, "/queues/\(id)/messages/\(handle)", ["visibility_timeout": 0]).status == 200)
        #expect(receive(id).first?["receive_count"] == 2)
    }

    /// A handle is a message and its receipt together.
    @Test func aBatchDeletesWhatItsHandlesName() throws {
        let id = try queue()
        try send(id, "one")
        try send(id, "two")
        let handles = try receive(id, "?count=10").map { try handle($0) }
        let halves = handles.map { $0.split(separator: ".") }
        let crossed = ["\(halves[0][0]).\(halves[1][1])", "\(halves[1][0]).\(halves[0][1])"]
        func delete(_ handles: [String]) -> [JSON?] {
            let answer = call(.post, "/queues/\(id)/messages/delete", ["receipt_handles": .array(handles.map(JSON.string))])
            return (answer["data"]?.array ?? []).map { $0["deleted"] }
        }
        #expect(delete(crossed) == [false, false] && counts(id) == [0, 0, 2])
        #expect(delete([handles[0], crossed[1]]) == [true, false] && counts(id) == [0, 0, 1])
    }

    @Test func delaysAreKept() throws {
        let id = try queue("tasks", ["delay": 900])
        try send(id, "late")
        try send(id, "now", ["delay_seconds": 0])
        #expect(receive(id, "?count=10").map { $0["body"] } == ["now"])
        #expect(counts(id) == [0, 1, 1])
        try passVisibility(id)
        #expect(receive(id, "?count=10").count == 2)
    }

    @Test func batchesAreAllOrNothing() throws {
        let id = try queue()
        let sent = call(.post, "/queues/\(id)/messages", ["messages": [["body": "a"], ["body": "b", "delay_seconds": 900]]])
        expect(
            sent, 201,
            """
            {"data": [{"id": "$id", "sent_at": "$time", "deduplicated": false}, {"id": "$id", "sent_at": "$time", "deduplicated": false}]}
            """)
        #expect(counts(id) == [1, 1, 0])
        let bad = call(.post, "/queues/\(id)/messages", ["messages": [["body": "c"], ["body": "", "delay_seconds": -1], 7]])
        #expect(bad.badFields == ["messages[1].body", "messages[1].delay_seconds", "messages[2]"], "\(bad)")
        for count in [0, 11] {
            let items = JSON.array(Array(repeating: ["body": "x"], count: count))
            #expect(call(.post, "/queues/\(id)/messages", ["messages": items]).badFields == ["messages"])
        }
        let ten = JSON.array((1...10).map { ["body": .string("\($0)")] })
        #expect(call(.post, "/queues/\(id)/messages", ["messages": ten])["data"]?.array?.count == 10)
        #expect(counts(id) == [11, 1, 0])
        let handles = try receive(id, "?count=3").map(handle)
        let deleted = call(
            .post, "/queues/\(id)/messages/delete", ["receipt_handles": [.string(handles[0]), "x", .string(handles[2])]])
        expect(
            deleted, 200,
            """
            {"data": [{"receipt_handle": "\(handles[0])", "deleted": true}, {"receipt_handle": "x", "deleted": false},
            {"receipt_handle": "\(handles[2])", "deleted": true}]}
            """)
        #expect(counts(id) == [8, 1, 1])
    }

    /// The limit is of UTF-8 bytes; what JSON makes of them may be longer.
    @Test func bodiesHaveALimit() throws {
        let id = try queue()
        let limit = 262_144
        let whole = String(repeating: "\u{1}é", count: limit / 3) + "x"
        #expect(whole.utf8.count == limit)
        try send(id, whole)
        #expect(receive(id).first?["body"]?.string == whole)
        let message = "The body is larger than 262144 bytes"
        expect(
            call(.post, "/queues/\(id)/messages", ["body": .string(whole + "x"), "delay_seconds": -1]), 413, error: "payload_too_large",
            "BODY_TOO_LARGE", message)
        let half = JSON.string(String(repeating: "x", count: limit / 2))
        #expect(call(.post, "/queues/\(id)/messages", ["messages": [["body": half], ["body": half]]]).status == 201)
        expect(
            call(.post, "/queues/\(id)/messages", ["messages": [["body": half], ["body": half], ["body": "x"]]]), 413,
            error: "payload_too_large", "BODY_TOO_LARGE", message)
        let huge = cloud.call(.post, "/queues/\(id)/messages", key: owner.key, text: String(repeating: " ", count: 2 << 20) + "{}")
        #expect(huge.status == 413)
    }

    @Test func badMessagesAreRefused() throws {
        let id = try queue()
        let answer = call(
            .post, "/queues/\(id)/messages",
            ["body": 7, "delay_seconds": 901, "dedup_id": "", "attributes": ["a": ["nested"]]])
        #expect(answer.badFields == ["body", "delay_seconds", "dedup_id", "attributes"], "\(answer)")
        #expect(call(.post, "/queues/\(owner.id)/messages", ["body": "a"]).status == 404)
    }

    @Test func whatIsSentTwiceUnderANameIsStoredOnce() throws {
        let id = try queue()
        let message: JSON = ["body": "a", "dedup_id": "order-17"]
        let first = call(.post, "/queues/\(id)/messages", message)
        #expect(first["data"]?["deduplicated"] == false)
        #expect(call(.delete, "/queues/\(id)/messages/\(try handle(receive(id).first))").status == 200)
        let second = call(.post, "/queues/\(id)/messages", message)
        expect(
            second, 201,
            """
            {"data": {"id": "\(first["data"]?["id"]?.string ?? "")", "sent_at": "\(first["data"]?["sent_at"]?.string ?? "")",
            "deduplicated": true}}
            """)
        #expect(receive(id).isEmpty)
        // In a batch too, also among its own; other names and none are others.
        let batch = call(
            .post, "/queues/\(id)/messages",
            ["messages": [message, ["body": "b", "dedup_id": "n"], ["body": "c", "dedup_id": "n"], ["body": "d"], ["body": "e"]]])
        let told = batch["data"]?.array ?? []
        #expect(told.map { $0["deduplicated"] } == [true, false, true, false, false], "\(batch)")
        #expect(told[1]["id"] == told[2]["id"] && told[0]["id"] == first["data"]?["id"])
        #expect(receive(id, "?count=10").map { $0["body"] } == ["b", "d", "e"])
        #expect(call(.post, "/queues/\(try queue("other"))/messages", message)["data"]?["deduplicated"] == false)
        try cloud.admin("update queue_dedup set sent_at = now() - interval '5 minutes' where queue_id = \(id)::uuid")
        let third = call(.post, "/queues/\(id)/messages", message)
        #expect(third["data"]?["deduplicated"] == false && third["data"]?["id"] != first["data"]?["id"])
        #expect(call(.post, "/queues/\(id)/messages", message)["data"]?["id"] == third["data"]?["id"])
    }

    @Test func sendersAtTheSameMomentStoreOne() throws {
        let id = try queue()
        let key = owner.key
        let ids = try sideBySide(40, threads: 8) {
            let cloud = try TestCloud()
            return {
                let answer = cloud.call(.post, "/queues/\(id)/messages", key: key, json: ["body": "a", "dedup_id": "same"])
                return answer["data"]?["id"]?.string ?? "\(answer)"
            }
        }
        #expect(Set(ids).count == 1)
        #expect(counts(id) == [1, 0, 0])
    }
}
