// When the container of a server of ours (a cache, a proxy) that ended is started again: at once, or after growing pauses when it keeps ending early.
import Docker
import Postgres

struct Revival {
    /// In a row, each within a minute of the start before.
    let restarts: Int
    /// Seconds to wait yet.
    let wait: Double
    /// How it ended, where it keeps ending so often that its owner should hear of it.
    let complaint: String?

    private static let limit = 5

    /// - Parameters:
    ///   - restarts: before this one.
    ///   - patience: the longest pause, in seconds.
    init(of ended: Container, restarts: Int, patience: Double, _ bench: Workbench) throws {
        let rows = try bench.connection.begin().commit(
            """
            select case when e.ended - \(ended.startedAt)::timestamptz > interval '1 minute' then 0 else \(restarts)::int end,
            extract(epoch from now() - e.ended)::float8 from (select \(ended.finishedAt)::timestamptz) e (ended)
            """)
        var row = rows[0]
        self.restarts = row.next()
        let passed: Double = row.next()
        let pause = self.restarts < 2 ? 0 : min(Double(1 << min(self.restarts - 2, 10)) / 2, patience)
        wait = min(max(pause - passed, 0), patience)
        let end = ended.isOutOfMemory ? "it ran out of memory" : "it ended with exit code \(ended.exitCode)"
        complaint = self.restarts < Self.limit ? nil : end
    }
}
