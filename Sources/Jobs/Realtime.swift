// The thread that tells sockets of events as they are committed: those of GET /ws through nginx's channels, those of Chat by orders to
// their homes; and that closes sockets of GET /ws whose credential has ended. It is woken by notifications and looks by itself every
// half second. Tables: events, sockets, socket_orders. Any number of processes may run it: rows are claimed with their locks.
import API
import Glibc
import HTTP
import Outbound
import Postgres

struct Realtime {
    let bench: Workbench
    let isStopping: @Sendable () -> Bool
    private let channels: Channels

    private static let batch = 100

    init(bench: Workbench, isStopping: @escaping @Sendable () -> Bool) {
        self.bench = bench
        self.isStopping = isStopping
        channels = Channels(runFolder: bench.config.runFolder)
    }

    func run() {
        let listener = Listener(url: bench.config.databaseURL, channel: "events")
        let sockets = SocketKeeping(connection: bench.connection, channels: channels)
        let refilling = Refilling(connection: bench.connection, channels: channels)
        while !isStopping() {
            do {
                try refilling.keep()
                let isMore = try fanOut() || (try publish())
                try sockets.closeEnded()
                if !isMore { listener.wait(milliseconds: 500) }
            } catch {
                if !isStopping() { Event.trouble("telling sockets is interrupted: \(error)").log() }
                _ = poll(nil, 0, 500)
            }
        }
    }

    /// Makes one delivery for each event and each webhook that wants it.
    /// - Returns: whether there may be more.
    func fanOut() throws -> Bool {
        let transaction = try bench.connection.begin()
        let ids = try transaction.query(
            """
            update events set is_fanned_out = true where (owner_id, id) in (
                select owner_id, id from events where not is_fanned_out order by id limit \(Self.batch) for update skip locked)
            returning id
            """
        ).map(\.id.description)
        guard !ids.isEmpty else {
            try transaction.commit()
            return false
        }
        transaction.notify("jobs")
        _ = try transaction.commit("select fan_out_webhooks(\(ids)::uuid[])")
        return ids.count == Self.batch
    }

    /// Publishes the oldest events that have not been, each to its owner's views and to the sockets of Chat that may hear it.
    /// Where nginx fails, those before are noted as published, and of the one that it failed at, which views have it: the others get it later.
    /// - Returns: whether there may be more.
    func publish() throws -> Bool {
        let transaction = try bench.connection.begin()
        try transaction.send(Refilling.lock)
        let rows = try transaction.query(
            """
            select \(Told.columns()), array(select s from chat_audience(e.owner_id, e.type, e.data) s) from events e
            where not is_published order by id limit \(Self.batch) for update of e skip locked
            """)
        var failure: (any Error)?
        for var row in rows {
            let event = Told(&row)
            do {
                try event.publish(to: channels, transaction)
            } catch let error as OutboundError {
                failure = error
                break
            }
            let sockets: [String] = row.next()
            if !sockets.isEmpty {
                try transaction.send(
                    """
                    insert into socket_orders (home, socket_id, body) select left(s, 16), s, \(event.message.text) from unnest(\(sockets)::text[]) s
                    """)
                for home in Set(sockets.map { String($0.prefix(16)) }) { transaction.notify(SocketDesk.channel, home) }
            }
        }
        try transaction.commit()
        if let failure { throw failure }
        return rows.count == Self.batch
    }
}
