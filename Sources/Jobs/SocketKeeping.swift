// Closes the sockets of GET /ws whose credential was revoked, has expired or idled too long, by ending their channels at nginx. Also
// forgets the rows of those that went away by themselves, and the views that nobody has any more. Tables: sockets, live_views.
import HTTP
import Postgres

final class SocketKeeping {
    private let connection: Connection
    private let channels: Channels
    private var nextRound = ContinuousClock.now

    init(connection: Connection, channels: Channels) {
        self.connection = connection
        self.channels = channels
    }

    /// A young socket may be about to subscribe just after its channel was ended: its row stays, and it is ended again, until it is old enough.
    func closeEnded() throws {
        for var row in try connection.begin().commit("select id from sockets_to_close(null)") {
            let id: String = row.next()
            let count = try channels.close(Channels.of(socket: id))
            _ = try connection.begin().commit(
                "delete from sockets where id = \(id) and (\(count) > 0 or opened_at < now() - interval '15 seconds')")
        }
        if ContinuousClock.now >= nextRound { try forgetGone() }
    }

    /// Once in half a minute, because nobody tells that a socket has gone.
    private func forgetGone() throws {
        nextRound = .now + .seconds(30)
        let rows = try connection.begin().commit("select id from sockets where kind = 'live' and opened_at < now() - interval '15 seconds'")
        let gone = try rows.map { row in
            var row = row
            return row.next(String.self)
        }.filter { try channels.subscribers(of: Channels.of(socket: $0)) == 0 }
        let transaction = try connection.begin()
        try transaction.send("delete from sockets where id = any (\(gone)::text[])")
        // A client that comes again finds its view as long as nchan keeps messages, and longer.
        try transaction.send(
            """
            update live_views v set used_at = now() where used_at < now() - interval '1 minute'
            and exists (select from sockets s where s.kind = 'live' and s.owner_id = v.owner_id and s.view = v.view)
            """)
        _ = try transaction.commit("delete from live_views where used_at < now() - interval '5 minutes'")
    }
}
