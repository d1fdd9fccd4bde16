// What running instances use, every 5 s, for people who listen at GET /ws; nobody's otherwise. One process at a time does it, the one
// that holds the advisory lock, because a reading is compared with the one before. Tables: sockets, instances.
import API
import Docker
import Glibc
import HTTP
import Postgres

struct InstanceMetrics {
    let bench: Workbench
    let isStopping: @Sendable () -> Bool

    private static let period = 5.0

    func run() {
        let channels = Channels(runFolder: bench.config.runFolder)
        var earlier: [ID: ContainerStats] = [:]
        var isLeader = false
        while !isStopping() {
            let start = ContinuousClock.now
            do {
                if !isLeader {
                    isLeader =
                        try bench.connection.begin().commit(
                            "select pg_try_advisory_lock(hashtextextended('thecloud instance metrics', 0))"
                        ).scalar() ?? false
                }
                if isLeader { earlier = try round(channels, earlier) }
            } catch {
                // A lost connection has lost the lock too.
                isLeader = false
                if !isStopping() { Event.trouble("metrics of instances are interrupted: \(error)").log() }
            }
            while !isStopping(), start.duration(to: .now) < .seconds(Self.period) { _ = poll(nil, 0, 200) }
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
