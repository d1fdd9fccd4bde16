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

    /// Rarely. Ids tell when a message was sent, so that the index on them finds the old ones.
    func clear(now: Timestamp) throws {
        var last = ID(high: 0, low: 0)
        while true {
            let queues = try connection.begin().commit(
                "select id, owner_id, retention from queues where id > \(last) order by id limit 1000")
            for var queue in queues {
                let (id, owner, retention): (ID, ID, Int) = (queue.next(), queue.next(), queue.next())
                last = id
                try clear(id, owner, olderThan: now.advanced(seconds: -retention))
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

    private func clear(_ queue: ID, _ owner: ID, olderThan time: Timestamp) throws {
        var removed = Self.batch
        while removed == Self.batch {
            removed = try connection.begin().commit(
                """
                delete from queue_messages where owner_id = \(owner) and queue_id = \(queue) and id = any (array(
                    select id from queue_messages where owner_id = \(owner) and queue_id = \(queue) and id < \(ID.least(at: time))
                    and coalesce(arrived_at, sent_at) < \(time)::timestamptz limit \(Self.batch) for update skip locked))
                """
            ).affected
        }
    }
}
