// Notices what happens on the engine: its events as they come, and everything once more every 15 s and after each reconnection,
// because an engine that was away has forgotten. It only wishes jobs; the jobs do the work.
import API
import Docker
import Glibc
import HTTP
import Postgres

struct EngineWatch {
    let bench: Workbench
    let isStopping: @Sendable () -> Bool

    private static let telling: Set<String> = ["start", "die", "destroy", "pause", "unpause"]

    /// Follows the events stream until told to stop.
    func follow() {
        let kinds = Set(WatchedKind.all.map(\.kind))
        while !isStopping() {
            do {
                try sweep()
                try bench.engine.events(labels: bench.names.labels, isCancelled: isStopping) { event in
                    guard Self.telling.contains(event.action), let id = event.attributes["thecloud.id"] else { return true }
                    guard let kind = event.attributes["thecloud.kind"], kinds.contains(kind) else { return true }
                    return (try? wish(kind, [id])) != nil
                }
            } catch {
                if !isStopping() { Event.trouble("the engine's events are interrupted: \(error)").log() }
            }
            if !isStopping() { _ = poll(nil, 0, 500) }
        }
    }

    /// Wishes a job for every row whose container is not as it says, and for every container without a row; likewise for networks.
    func sweep() throws {
        let containers = Dictionary(grouping: try bench.engine.containers(labels: bench.names.labels)) { $0.labels["thecloud.kind"] ?? "" }
        for kind in WatchedKind.all { try sweep(kind, containers[kind.kind] ?? []) }
        try sweepNetworks()
    }

    private func sweep(_ kind: WatchedKind, _ containers: [ContainerSummary]) throws {
        let states = Dictionary(
            containers.compactMap { container in container.labels["thecloud.id"].map { ($0, container.state) } },
            uniquingKeysWith: { first, _ in first })
        var wanted = Set(states.keys)
        for var row in try bench.connection.begin().commit(kind.rows(states.keys.sorted())) {
            let (id, wish, status): (ID, String, String) = (row.next(), row.next(), row.next())
            wanted.remove(id.description)
            if !kind.isSettled(wish, status, states[id.description]) { wanted.insert(id.description) }
        }
        try wish(kind.kind, wanted.sorted())
    }

    private func wish(_ kind: String, _ ids: [String]) throws {
        guard !ids.isEmpty else { return }
        let transaction = try bench.connection.begin()
        transaction.notify("jobs")
        _ = try transaction.commit("select enqueue(\(kind), id, null) from unnest(\(ids)::text[]) id")
    }

    /// A network's row is committed before the engine is asked for it, so one without a row is nobody's.
    private func sweepNetworks() throws {
        let networks = try bench.engine.networks(labels: bench.names.labels(kind: "network"))
        let ids = networks.compactMap { $0.labels["thecloud.id"] }
        let known = Set(try self.ids("select id from networks where id = any (\(ids)::uuid[])"))
        for network in networks where !known.contains(network.labels["thecloud.id"] ?? "") {
            try? bench.engine.removeNetwork(network.id)
        }
        try wish("vpc", try self.ids(VPCJob.unsettled(besides: ids)))
        try Networks(bench: bench).removeUnused()
    }

    private func ids(_ sql: SQL) throws -> [String] {
        try bench.connection.begin().commit(sql).map { row in
            var row = row
            return row.next(ID.self).description
        }
    }
}
