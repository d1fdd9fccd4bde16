// Many at one queue: receivers who compete and forget, and receivers who wait. Nothing is timed: what is awaited must come.
import API
import HTTP
import Postgres
import Synchronization
import System
import TestSupport
import Testing

struct QueueCrowdTests {
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        cloud = try TestCloud()
        owner = try cloud.newOwner()
    }

    private func queue(_ name: String, _ members: KeyValuePairs<String, JSON> = [:]) throws -> String {
        let body: JSON = ["name": .string(name)]
        let answer = cloud.call(.post, "/queues", key: owner.key, json: body.adding(members))
        return try #require(answer["data"]?["id"]?.string, "\(answer)")
    }

    /// One in ten is never acknowledged; what is poison is handed out exactly so often and then is a dead letter. Each is with one
    /// receiver at a time: a message is given back only by its holder, who takes its name off the list before.
    @Test func sixConsumersLoseAndShareNothing() throws {
        let (count, limit) = (400, 3)
        let dead = try queue("dead")
        let id = try queue("tasks", ["visibility_timeout": 3600, "dead_letter_queue_id": .string(dead), "max_receive_count": .int(limit)])
        for batch in 0..<(count / 10) {
            let messages = (0..<10).map { number -> JSON in ["body": .string("\(batch * 10 + number)")] }
            #expect(cloud.call(.post, "/queues/\(id)/messages", key: owner.key, json: ["messages": .array(messages)]).status == 201)
        }
        let key = owner.key
        let board = Board()
        let finished = count - count / 10
        _ = try sideBySide(6, threads: 6) {
            let cloud = try TestCloud()
            return {
                while !board.isOver(deleted: finished, spent: count / 10, limit: limit) {
                    for message in cloud.call(.get, "/queues/\(id)/messages?count=4", key: key)["data"]?.array ?? [] {
                        guard let body = message["body"]?.string, let handle = message["receipt_handle"]?.string, let number = Int(body)
                        else { throw Unexpected(description: message.text) }
                        board.take(number)
                        let path = "/queues/\(id)/messages/\(handle)"
                        if number % 10 == 0 {
                            // Never acknowledged: its visibility runs out.
                            board.leave(number, isDeleted: false)
                            #expect(cloud.call(.put, path, key: key, json: ["visibility_timeout": 0]).status == 200)
                        } else {
                            #expect(cloud.call(.delete, path, key: key).status == 200)
                            board.leave(number, isDeleted: true)
                        }
                    }
                }
            }
        }
        #expect(board.clashes == 0, "no message was with two at once")
        #expect(board.counts.count == count, "each was seen")
        #expect(board.counts.allSatisfy { $0.value == ($0.key % 10 == 0 ? limit : 1) }, "\(board.counts)")
        #expect(cloud.call(.get, "/queues/\(id)/messages", key: key)["data"] == [])
        var letters = Set<String>()
        while let found = cloud.call(.get, "/queues/\(dead)/messages?count=10", key: key)["data"]?.array, !found.isEmpty {
            letters.formUnion(found.compactMap { $0["body"]?.string })
        }
        #expect(letters == Set((0..<count / 10).map { String($0 * 10) }))
    }

    private final class Board: Sendable {
        private struct State {
            var held = Set<Int>()
            var counts: [Int: Int] = [:]
            var deleted = 0
            var clashes = 0
        }

        private let state = Mutex(State())

        var clashes: Int { state.withLock { $0.clashes } }
        var counts: [Int: Int] { state.withLock { $0.counts } }

        func take(_ number: Int) {
            state.withLock { state in
                if !state.held.insert(number).inserted { state.clashes += 1 }
                state.counts[number, default: 0] += 1
            }
        }

        func leave(_ number: Int, isDeleted: Bool) {
            state.withLock { state in
                state.held.remove(number)
                if isDeleted { state.deleted += 1 }
            }
        }

        func isOver(deleted: Int, spent: Int, limit: Int) -> Bool {
            state.withLock { state in
                state.deleted >= deleted && state.counts.count { $0.key % 10 == 0 && $0.value >= limit } >= spent
            }
        }
    }

    /// A poll that waits, in a thread of its own with a connection of its own.
    private func poll(_ queue: String, _ query: String = "?wait=20") -> (thread: WorkerThread, answers: Recorder<[JSON]>) {
        let (answers, key) = (Recorder<[JSON]>(), owner.key)
        let thread = WorkerThread {
            guard let cloud = try? TestCloud() else { return }
            answers.add(cloud.call(.get, "/queues/\(queue)/messages\(query)", key: key)["data"]?.array ?? [])
        }
        return (thread, answers)
    }

    /// Somebody has looked and is waiting now.
    private func awaitPoll(_ queue: String) throws {
        while try cloud.admin("select 1 from queues where id = \(queue)::uuid and awaited_until > now()").isEmpty {}
    }

    private func send(_ queue: String, _ message: JSON) {
        #expect(cloud.call(.post, "/queues/\(queue)/messages", key: owner.key, json: message).status == 201)
    }

    @Test func aPollWakesForAMessage() throws {
        let id = try queue("tasks")
        let poll = poll(id)
        try awaitPoll(id)
        send(id, ["body": "a"])
        poll.thread.join()
        #expect(poll.answers.values.map { $0.map { $0["body"] } } == [["a"]])
    }

    @Test func aPollWakesWhenADelayEnds() throws {
        let id = try queue("tasks")
        send(id, ["body": "late", "delay_seconds": 1])
        let poll = poll(id)
        poll.thread.join()
        #expect(poll.answers.values.map { $0.map { $0["body"] } } == [["late"]])
    }

    @Test func aPollWakesWhenAVisibilityEnds() throws {
        let id = try queue("tasks", ["visibility_timeout": 1])
        send(id, ["body": "a"])
        #expect(cloud.call(.get, "/queues/\(id)/messages", key: owner.key)["data"]?.array?.count == 1)
        let poll = poll(id)
        poll.thread.join()
        #expect(poll.answers.values.map { $0.map { $0["receive_count"] } } == [[2]])
    }

    @Test func aPollWakesWhenAMessageIsGivenBack() throws {
        let id = try queue("tasks")
        send(id, ["body": "a"])
        let received = cloud.call(.get, "/queues/\(id)/messages", key: owner.key)
        let handle = try #require(received["data"]?[0]?["receipt_handle"]?.string)
        let poll = poll(id)
        try awaitPoll(id)
        #expect(cloud.call(.put, "/queues/\(id)/messages/\(handle)", key: owner.key, json: ["visibility_timeout": 0]).status == 200)
        poll.thread.join()
        #expect(poll.answers.values.map { $0.map { $0["receive_count"] } } == [[2]])
    }

    @Test func manyPollsShareWhatComes() throws {
        let id = try queue("tasks")
        let polls = (0..<8).map { _ in poll(id) }
        try awaitPoll(id)
        send(id, ["messages": .array((0..<8).map { ["body": .string("\($0)")] })])
        for poll in polls { poll.thread.join() }
        let bodies = polls.flatMap { $0.answers.values.flatMap { $0 } }.compactMap { $0["body"]?.string }
        #expect(bodies.sorted() == (0..<8).map(String.init))
    }

    @Test func nobodyWaitsForEver() throws {
        let id = try queue("tasks")
        #expect(cloud.call(.get, "/queues/\(id)/messages?wait=1", key: owner.key)["data"] == [])
        #expect(cloud.call(.get, "/queues/\(owner.id)/messages?wait=1", key: owner.key).status == 404)
    }

    @Test func onePersonsPollsHaveALimit() throws {
        let id = try queue("tasks")
        let poll = poll(id)
        try awaitPoll(id)
        let narrow = try TestCloud(["THECLOUD_QUOTA_POLLS": "1"])
        var answer = narrow.call(.get, "/queues/\(id)/messages?wait=1", key: owner.key)
        // The other one may have looked and not yet begun to wait.
        while answer.status == 200 { answer = narrow.call(.get, "/queues/\(id)/messages?wait=1", key: owner.key) }
        expect(
            answer, 403, error: "forbidden", "QUOTA_EXCEEDED", "Quota exceeded: at most 1 requests that wait for messages at once")
        send(id, ["body": "a"])
        poll.thread.join()
    }

    /// A key that is revoked gets nothing more, however long its request waits already.
    @Test func aRevokedKeyWaitsInVain() throws {
        let id = try queue("tasks")
        let key = try cloud.newKey(of: owner)
        let statuses = Recorder<Int>()
        let thread = WorkerThread {
            guard let cloud = try? TestCloud() else { return }
            statuses.add(cloud.call(.get, "/queues/\(id)/messages?wait=20", key: key.text).status)
        }
        try awaitPoll(id)
        #expect(cloud.call(.delete, "/auth/keys/\(key.id)", key: owner.key).status == 200)
        send(id, ["body": "a"])
        thread.join()
        #expect(statuses.values == [401])
    }

    /// Ten polls share two connections, and none holds one while it waits.
    @Test func pollsHoldNoConnection() throws {
        let id = try queue("tasks")
        let (key, config, dispatcher) = (owner.key, cloud.config, cloud.dispatcher)
        let pool = ConnectionPool(url: config.databaseURL, connections: 2)
        let answers = Recorder<String>()
        let threads = (0..<10).map { number in
            WorkerThread {
                let request = Request(
                    method: .get, path: "/queues/\(id)/messages", query: "wait=20", headers: Headers(["x-api-key": key]),
                    requestID: "poll-\(number)")
                let equipment = Equipment(config: config, source: ConnectionSource(pool), engine: nil)
                answers.add(String(decoding: dispatcher.respond(to: request, with: equipment, log: { _ in }).body, as: UTF8.self))
            }
        }
        try awaitPoll(id)
        send(id, ["messages": .array((0..<10).map { ["body": .string("m\($0)")] })])
        for thread in threads { thread.join() }
        #expect(answers.values.count { $0.contains("\"body\":\"m") } == 10, "\(answers.values)")
    }

    /// Where threads must not wait a poll answers at once, and nobody is told that it waits.
    @Test func anotherPoolDoesNotWait() throws {
        let id = try queue("tasks")
        let request = Request(
            method: .get, path: "/queues/\(id)/messages", query: "wait=20", headers: Headers(["x-api-key": owner.key]), requestID: "poll")
        var equipment = Equipment(config: cloud.config, connection: Connection(url: cloud.config.databaseURL), engine: nil)
        equipment.mayWait = false
        let answer = cloud.dispatcher.respond(to: request, with: equipment, log: { _ in })
        #expect(String(decoding: answer.body, as: UTF8.self) == #"{"data":[]}"#)
        #expect(try cloud.admin("select from queues where id = \(id)::uuid and awaited_until > now()").isEmpty)
    }
}
