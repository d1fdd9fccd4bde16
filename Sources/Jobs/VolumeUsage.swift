// Measures now and then how much the volumes hold. The engine counts every file of every volume for that, so the pause after it is many
// times as long as it took, and one process does it at a time. Table volumes.
import API
import Docker
import HTTP
import Postgres

enum VolumeUsage {
    /// Its job is always there: what has been done is due again after a while.
    static let job = Job(kind: "volume_usage", lane: .measuring, attempts: .max, patience: 600) { bench, _ in
        let start = ContinuousClock.now
        try measure(bench)
        return .again(seconds: max(leastPause, 20 * (start.duration(to: .now) / .seconds(1))))
    }

    private static let leastPause = 60.0

    /// Sees to it that the job is there.
    static func begin(_ connection: Connection) throws {
        _ = try connection.begin().commit("insert into jobs (kind, subject) values ('volume_usage', 'all') on conflict do nothing")
    }

    private static func measure(_ bench: Workbench) throws {
        let exists = try bench.connection.begin().commit("select exists (select from volumes where made_at is not null)").scalar(Bool.self)
        guard exists == true else { return }
        let sizes = try bench.engine.volumeSizes(labels: bench.names.labels(kind: "volume"))
        let known = sizes.compactMap { volume, size in volume.labels["thecloud.id"].map { ($0, size) } }
        _ = try bench.connection.begin().commit(
            """
            update volumes v set used_bytes = m.bytes, measured_at = now()
            from unnest(\(known.map(\.0))::uuid[], \(known.map(\.1))::bigint[]) m (id, bytes) where v.id = m.id
            """)
    }
}
