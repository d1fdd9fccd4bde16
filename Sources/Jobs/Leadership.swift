// Work that one process at a time does, in rounds: the process whose connection holds an advisory lock. When it dies, the lock is free.
import API
import Glibc
import Postgres

struct Leadership {
    let bench: Workbench
    /// What the lock is called.
    let name: String
    /// From the beginning of a round to that of the next, in seconds.
    let period: Double
    let isStopping: @Sendable () -> Bool

    /// Goes on until told to stop; a round that fails is not the last.
    func run(_ round: () throws -> Void) {
        var isLeader = false
        while !isStopping() {
            let start = ContinuousClock.now
            do {
                if !isLeader {
                    isLeader =
                        try bench.connection.begin().commit("select pg_try_advisory_lock(hashtextextended(\("thecloud " + name), 0))")
                        .scalar()
                        ?? false
                }
                if isLeader { try round() }
            } catch {
                // A lost connection has lost the lock too.
                isLeader = false
                if !isStopping() { Event.trouble("\(name): \(error)").log() }
            }
            while !isStopping(), start.duration(to: .now) < .seconds(period) { _ = poll(nil, 0, 200) }
        }
    }
}
