// What tests of queues do all the time. Time passes for rows, not for us.
import HTTP
import Postgres
import TestSupport
import Testing

/// A suite about the queues of one owner.
protocol QueueTesting {
    var cloud: TestCloud { get }
    var owner: Owner { get }
}

extension QueueTesting {
    func call(_ method: HTTP.Method, _ path: String, _ json: JSON? = nil) -> Answer {
        cloud.call(method, path, key: owner.key, json: json)
    }

    func queue(_ name: String = "tasks", _ members: KeyValuePairs<String, JSON> = [:]) throws -> String {
        let body: JSON = ["name": .string(name)]
        let answer = call(.post, "/queues", body.adding(members))
        return try #require(answer["data"]?["id"]?.string, "\(answer)")
    }

    @discardableResult
    func send(_ queue: String, _ body: String = "payload-data", _ members: KeyValuePairs<String, JSON> = [:]) throws -> String {
        let message: JSON = ["body": .string(body)]
        let answer = call(.post, "/queues/\(queue)/messages", message.adding(members))
        return try #require(answer["data"]?["id"]?.string, "\(answer)")
    }

    func receive(_ queue: String, _ query: String = "") -> [JSON] {
        let answer = call(.get, "/queues/\(queue)/messages\(query)")
        #expect(answer.status == 200, "\(answer)")
        return answer["data"]?.array ?? []
    }

    /// Available, delayed, in flight.
    func counts(_ queue: String) -> [Int?] {
        let messages = call(.get, "/queues/\(queue)")["data"]?["messages"]
        return ["available", "delayed", "in_flight"].map { messages?[$0]?.int }
    }

    func handle(_ message: JSON?) throws -> String { try #require(message?["receipt_handle"]?.string) }

    /// What is invisible becomes visible.
    func passVisibility(_ queue: String) throws {
        try cloud.admin("update queue_messages set visible_at = now() where queue_id = \(queue)::uuid")
    }
}
