// Where receives begin: behind what is long gone, and never behind what is there.
import HTTP
import Postgres
import TestSupport
import Testing

struct QueueFrontTests: QueueTesting {
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        cloud = try TestCloud()
        owner = try cloud.newOwner()
    }

    /// So much later: what was found out about the front is old by then.
    private func pass(seconds: Int, _ queue: String) throws {
        try cloud.admin(
            """
            update queues set front_at = front_at - \(seconds)::int * interval '1 second',
            front_checked_at = front_checked_at - \(seconds)::int * interval '1 second' where id = \(queue)::uuid
            """)
    }

    private func isBehindFront(_ message: String) throws -> Bool {
        try cloud.admin(
            "select m.visible_at < q.front from queue_messages m join queues q on q.id = m.queue_id where m.id = \(message)::uuid"
        ).scalar() ?? false
    }

    /// A message as a transaction stores it that began so long ago.
    private func store(_ queue: String, begun seconds: Int) throws -> String {
        let id = ID(at: .now()).description
        try cloud.admin(
            """
            insert into queue_messages (id, owner_id, queue_id, visible_at, body)
            select \(id)::uuid, owner_id, id, now() - \(seconds)::int * interval '1 second', 'late' from queues where id = \(queue)::uuid
            """)
        return id
    }

    @Test func theFrontFollowsWhatIsThere() throws {
        let id = try queue()
        let stored = try [7200, 3600].map { try store(id, begun: $0) }
        for message in stored {
            #expect(receive(id).map { $0["id"] } == [.string(message)])
            // It was there when the front was found.
            let lag = try cloud.admin("select extract(epoch from now() - front)::float8 from queues where id = \(id)::uuid").scalar(
                Double.self)
            #expect((Double(3500)...7300).contains(try #require(lag)))
            try pass(seconds: 1, id)
        }
        #expect(receive(id).isEmpty)
        let lag = try cloud.admin("select extract(epoch from now() - front)::float8 from queues where id = \(id)::uuid").scalar(Double.self)
        #expect(try #require(lag) < 60, "it has left the hours behind")
        let next = try send(id)
        #expect(receive(id).map { $0["id"] } == [.string(next)])
    }

    @Test func whatWasStoredLateIsFound() throws {
        let id = try queue()
        #expect(receive(id).isEmpty)
        let late = try store(id, begun: 60)
        #expect(try isBehindFront(late))
        #expect(receive(id).isEmpty)
        try pass(seconds: 11, id)
        // This receive finds the front, the next one begins there.
        _ = receive(id)
        #expect(try !isBehindFront(late))
        #expect(receive(id).map { $0["body"] } == ["late"])
    }

    @Test func aClockThatWasSetBackHidesNothing() throws {
        let id = try queue()
        #expect(receive(id).isEmpty)
        try cloud.admin("update queues set front = now() + interval '1 hour' where id = \(id)::uuid")
        let message = try send(id)
        #expect(receive(id).map { $0["id"] } == [.string(message)])
    }

    @Test func whatIsGivenBackComesAgain() throws {
        let id = try queue()
        try send(id)
        for count in 1...3 {
            let message = try #require(receive(id).first)
            #expect(message["receive_count"] == .int(count))
            try pass(seconds: 1, id)
            #expect(receive(id).isEmpty)
            #expect(call(.put, "/queues/\(id)/messages/\(try handle(message))", ["visibility_timeout": 0]).status == 200)
        }
    }
}
