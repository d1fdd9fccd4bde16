// What the channels of GET /ws lose with nchan's process (nginx/live.conf): the events of the last minute are published to them again. Until
// that is done nginx lets no socket open, so nobody hears a later event first, nor one twice. Table: events. Any number of processes may do
// this; the lock lets one at a time.
import API
import HTTP
import Postgres

struct Refilling {
    let connection: Connection
    let channels: Channels

    /// Held by whoever publishes events, so that `published_no` is the order of all channels for everybody.
    static let lock: SQL = "select pg_advisory_xact_lock(\(key))"
    private static let key: SQL = "hashtextextended('thecloud live', 0)"

    /// Fills the channels where they are new.
    func keep() throws {
        guard try !channels.areFilled else { return }
        // Longer than the transaction: sockets must neither open before the events' new places can be read, nor while they are filled again.
        _ = try connection.begin().commit("select pg_advisory_lock(\(Self.key))")
        defer { _ = try? connection.begin().commit("select pg_advisory_unlock(\(Self.key))") }
        guard try !channels.areFilled else { return }
        try fill()
        try channels.setFilled()
    }

    private func fill() throws {
        let transaction = try connection.begin()
        let rows = try transaction.query(
            """
            select \(Told.columns) from (select * from events where published_no is not null order by published_no desc limit 10000) e
            where split_part(e.message_id, ':', 1)::bigint > extract(epoch from now()) - 70 order by e.published_no
            """)
        for var row in rows { try Told(&row).publish(to: channels, transaction) }
        try transaction.commit()
    }
}

/// An event, as its row tells.
struct Told {
    let id: ID
    let owner: ID
    let type: String
    let message: JSON

    static let columns: SQL = "e.id, e.owner_id, e.type, e.resource_id, e.data::text, e.created_at"

    init(_ row: inout Row) {
        id = row.next()
        owner = row.next()
        type = row.next()
        let type = type
        let id = id
        message = .written { out in
            out.member("id", id)
            out.member("type", type)
            out.id("resource_id", &row)
            out.json("data", &row)
            out.time("timestamp", &row)
        }
    }

    /// Publishes it to its owner's channel, and notes where it stands there.
    func publish(to channels: Channels, _ transaction: Transaction) throws {
        let channel = Channels.of(owner: owner, kind: type.prefix { $0 != "." })
        let receipt = try channels.publish(message, to: channel)
        try transaction.send(
            """
            update events set is_published = true, message_id = \(receipt.messageID), published_no = nextval('events_published_no')
            where owner_id = \(owner) and id = \(id)
            """)
    }
}
