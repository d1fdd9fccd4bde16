// Asynchronous invocations of functions: three attempts, then the last one's end stands. A process that is killed costs none: the job's lease runs
// out, and the invocation is begun anew. So a handler may be asked more than once, and is at least once. Table: invocations.
import API
import Docker
import HTTP
import Postgres
import Sandboxes

enum InvocationJob {
    /// Ends of the handler that are no success.
    private static let failures = 3
    /// Beginnings in all: what kills its process again and again must end.
    private static let beginnings = 100

    static let job = Job(kind: "invocation", lane: .invocation, attempts: .max, patience: 60) { bench, subject in
        guard let id = ID(subject), let home = bench.sandboxes else { return .done }
        try home.enter()
        while true {
            let rows = try bench.connection.begin().commit(Invocation.begin(id, in: home, bench.config))
            switch Invocation.turn(id, rows) {
            case .over: return .done
            // Whoever ends wakes the next; this is for when that was lost.
            case .later(let ahead): return .again(seconds: min(5 + Double(ahead) / 10, 60))
            case .begun(let invocation):
                do {
                    return try run(invocation, home, bench)
                } catch is Invocation.Changed {
                    continue
                }
            }
        }
    }

    private static func run(_ invocation: Invocation, _ home: SandboxHome, _ bench: Workbench) throws -> Job.Outcome {
        if invocation.attempt > beginnings {
            let end = SandboxOutcome.notRun("whoever ran it was lost again and again")
            try Invocation.end(invocation.id, end, in: home, bench.config, bench.connection)
            return .done
        }
        let outcome = try invocation.run(in: home, on: bench.engine, bench.config) {
            try bench.connection.begin().commit(invocation.code)
        }
        var isFinal = invocation.failures + 1 >= failures
        if case .succeeded = outcome.verdict { isFinal = true }
        try Invocation.end(invocation.id, outcome, isFinal: isFinal, in: home, bench.config, bench.connection)
        return isFinal ? .done : .again(seconds: Double(1 << (2 * invocation.failures)) * .random(in: 0.8...1.2))
    }
}
