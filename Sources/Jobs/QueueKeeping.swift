// What queues need done without anybody's asking: spent messages go to their dead-letter queues, expired ones and old names away.
// Tables: queues, queue_messages, queue_dedup. Receivers do the first two themselves where they meet them.
import HTTP
import Postgres

struct QueueKeeping {
    let connection: Connection

    private static let batch = 1000

    /// Often: whoever reads a dead-letter queue shall not need a receiver of the other one.
    func bury() throws {
        while try connection.begin().commit("select bury_spent_messages(\(Self.batch))").scalar(Int.self) == Self.batch {}
    }

    /// Rarely. What has been visible for its whole retention is found by the index; what a receiver had in between goes as long after that,
    /// and is not handed out meanwhile.
    func clear() throws {
        var last = ID(high: 0, low: 0)
        while true {
            let queues = try connection.begin().commit(
                "select id, retention from queues where id > \(last) order by id limit 1000")
            for var queue in queues {
                last = queue.next()
                try clear(last, retention: queue.next(Int.self))
            }
            if queues.count < 1000 { break }
        }
        var removed = Self.batch
        while removed == Self.batch {
            removed = try connection.begin().commit(
                """
                delete from queue_dedup where ctid = any (array(
                    select ctid from queue_dedup where sent_at < now() - interval '5 minutes' limit \(Self.batch)))
                """
            ).affected
        }
    }

    private func clear(_ queue: ID, retention: Int) throws {
        let cutoff: SQL = "now() - \(retention)::int * interval '1 second'"
        var removed = Self.batch
        while removed == Self.batch {
            removed = try connection.begin().commit(
                """
                delete from queue_messages where id = any (array(
                    select id from queue_messages where queue_id = \(queue) and visible_at < \(cutoff)
                    and coalesce(arrived_at, sent_at) < \(cutoff) order by visible_at limit \(Self.batch) for update skip locked))
                """
            ).affected
        }
    }
}
