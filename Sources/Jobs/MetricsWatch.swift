// Sends agents' reports to the browsers that watch: once a second, the newest of each watched server. Costs one query while nobody does.
// Tables: sockets, server_metrics.
import HTTP
import Postgres

final class MetricsWatch {
    private let connection: Connection
    private let channels: Channels
    private var nextRound = ContinuousClock.now
    /// The last report that each socket was sent.
    private var sent: [String: ID] = [:]

    init(connection: Connection, channels: Channels) {
        self.connection = connection
        self.channels = channels
    }

    func report() throws {
        guard ContinuousClock.now >= nextRound else { return }
        nextRound = .now + .seconds(1)
        let rows = try connection.begin().commit(
            """
            select s.id, m.id, m.server_id, m.cpu_percent, m.memory_percent, m.disk_usage::text, m.network::text, m.reported_at
            from sockets s cross join lateral (
                select * from server_metrics m where m.owner_id = s.owner_id and m.server_id = s.server_id order by m.id desc limit 1) m
            where s.kind = 'metrics' and s.credential_id is not null and m.received_at > now() - interval '1 minute'
            """)
        var present: [String: ID] = [:]
        for var row in rows {
            let (socket, report): (String, ID) = (row.next(), row.next())
            present[socket] = report
            guard sent[socket] != report else { continue }
            let message = JSON.written { out in
                out.member("type", "metrics")
                out.id("server_id", &row)
                out.member("cpu_percent", .double(row.next()))
                out.member("memory_percent", .double(row.next()))
                out.json("disk_usage", &row)
                out.json("network", &row)
                out.time("timestamp", &row)
            }
            _ = try channels.publish(message, to: Channels.of(socket: socket))
        }
        sent = present
    }
}
