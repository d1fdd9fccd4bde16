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
            select \(Told.columns(again: true)) from (select * from events where published_no is not null order by published_no desc limit 10000) e
            where exists (select from jsonb_each_text(places) p where split_part(p.value, ':', 1)::bigint > extract(epoch from now()) - 70)
            order by e.published_no
            """)
        for var row in rows { try Told(&row).publish(to: channels, transaction) }
        try transaction.commit()
    }
}

/// An event, as its row tells.
struct Told {
    let id: ID
    let owner: ID
    let message: JSON
    /// That are to get it.
    private let views: [String]

    /// - Parameter again: its owner's views get it although they had it.
    static func columns(again: Bool = false) -> SQL {
        """
        e.id, e.owner_id, e.type, e.resource_id, e.data::text, e.created_at, array(
            select v.view from live_views v where v.owner_id = e.owner_id
            and split_part(e.type, '.', 1) = any (string_to_array(v.view, '+')) and (\(again) or not e.places ? v.view))
        """
    }

    init(_ row: inout Row) {
        id = row.next()
        owner = row.next()
        let (id, type): (ID, String) = (id, row.next())
        message = .written { out in
            out.member("id", id)
            out.member("type", type)
            out.id("resource_id", &row)
            out.json("data", &row)
            out.time("timestamp", &row)
        }
        views = row.next()
    }

    /// Publishes it to the views, and notes where it stands there, of those before too where nginx fails at one.
    func publish(to channels: Channels, _ transaction: Transaction) throws {
        var (done, places): ([String], [String]) = ([], [])
        let outcome = Result {
            for view in views {
                let receipt = try channels.publish(message, to: Channels.of(owner: owner, view: view))
                done.append(view)
                places.append(receipt.messageID ?? "0:0")
            }
        }
        let isWhole = done.count == views.count
        try transaction.send(
            """
            update events set places = places || jsonb_object(\(done)::text[], \(places)::text[]), is_published = \(isWhole),
            published_no = case when \(isWhole) then nextval('events_published_no') else published_no end
            where owner_id = \(owner) and id = \(id)
            """)
        try outcome.get()
    }
}
