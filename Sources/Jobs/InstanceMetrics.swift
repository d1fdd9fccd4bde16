// What running instances use, every 5 s, for people who listen at GET /ws; nobody's otherwise. One process at a time does it
// (Leadership), because a reading is compared with the one before. Tables: sockets, instances.
import API
import Docker
import HTTP
import Postgres

struct InstanceMetrics {
    let bench: Workbench
    let isStopping: @Sendable () -> Bool

    func run() {
        let channels = Channels(runFolder: bench.config.runFolder)
        var earlier: [ID: ContainerStats] = [:]
        Leadership(bench: bench, name: "instance metrics", period: 5, isStopping: isStopping).run {
            earlier = try round(channels, earlier)
        }
    }

    /// - Returns: this round's readings.
    private func round(_ channels: Channels, _ earlier: [ID: ContainerStats]) throws -> [ID: ContainerStats] {
        let rows = try bench.connection.begin().commit(
            """
            select i.owner_id, i.id from instances i
            where i.status = 'RUNNING' and i.owner_id in (select s.owner_id from sockets s where s.kind = 'live') order by i.id
            """)
        var readings: [ID: ContainerStats] = [:]
        for var row in rows where !isStopping() {
            let (owner, id): (ID, ID) = (row.next(), row.next())
            guard let stats = try? bench.engine.stats(bench.names.instance(id), since: earlier[id]), stats.pids > 0 else { continue }
            readings[id] = stats
            let message = JSON.written { out in
                out.member("id", JSON.null)
                out.member("type", "metrics")
                out.member("resource_id", id)
                out.member("data", stats.json)
                out.member("timestamp", bench.now())
            }
            try channels.publishLatest(message, to: "m/\(owner)")
        }
        return readings
    }
}
