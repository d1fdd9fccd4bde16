// One thread of a lane: claims a due job with a lease, runs it, settles it. The lease is short and kept while its process lives,
// so what a killed process had at hand is taken over within seconds. Table jobs. `wanted` counts wishes: one that came while the job ran makes it run again.
import API
import Glibc
import HTTP
import Postgres
import System

extension Job.Lane {
    /// The threads of all lanes, and one that listens for wishes. A wish wakes one thread of each lane, not all: each look costs a query.
    /// - Parameter bench: is called on each thread that works; without one the thread ends.
    static func start(
        url: String, leases: Leases, isStopping: @escaping @Sendable () -> Bool, bench: @escaping @Sendable () -> Workbench?
    ) -> [WorkerThread] {
        var bells: [Bell] = []
        var threads: [WorkerThread] = []
        for lane in allCases {
            let jobs = Dictionary(uniqueKeysWithValues: Job.all.filter { $0.lane == lane }.map { ($0.kind, $0) })
            let bell = Bell()
            bells.append(bell)
            for _ in 0..<lane.threads {
                threads.append(
                    WorkerThread {
                        guard let bench = bench() else { return }
                        LaneThread(jobs: jobs, bench: bench, bell: bell, leases: leases, isStopping: isStopping).run()
                    })
            }
        }
        return threads + [Bell.ringing(bells, on: "jobs", url: url, isStopping: isStopping)]
    }
}

struct LaneThread {
    let jobs: [String: Job]
    let bench: Workbench
    /// The lane's.
    let bell: Bell
    let leases: Leases
    let isStopping: @Sendable () -> Bool

    private struct Claim {
        let kind: String
        let subject: String
        let wanted: Int
        let attempts: Int
        let requestID: String?
        let lease: ID

        init(_ row: Row, lease: ID) {
            var row = row
            kind = row.next()
            subject = row.next()
            wanted = row.next()
            attempts = row.next()
            requestID = row.next()
            self.lease = lease
        }
    }

    func run() {
        while !isStopping() {
            do {
                var pause = 1.0
                while !isStopping(), let claim = try claim() {
                    // Where there was one job there may be another, for another thread.
                    bell.ring()
                    pause = min(pause, try perform(claim))
                }
                bell.wait(milliseconds: Int((pause * 1000).rounded(.up)))
            } catch {
                Event.trouble("background work pauses: \(error)").log()
                _ = poll(nil, 0, 500)
            }
        }
    }

    private func claim() throws -> Claim? {
        let lease = bench.newID()
        let rows = try bench.connection.begin().commit(
            """
            update jobs set lease = \(lease), leased_until = now() + \(Leases.seconds)::int * interval '1 second', attempts = attempts + 1
            where (kind, subject) = (
                select kind, subject from jobs
                where kind = any (\(jobs.keys.sorted())::text[]) and dead_at is null and run_at <= now()
                and (leased_until is null or leased_until < now())
                order by run_at limit 1 for update skip locked)
            returning kind, subject, wanted, attempts, request_id
            """)
        return rows.first.map { Claim($0, lease: lease) }
    }

    /// - Returns: seconds until the job wants to be looked at again, for whoever has nothing else to do.
    private func perform(_ claim: Claim) throws -> Double {
        guard let job = jobs[claim.kind] else { return .infinity }
        leases.begin(claim.lease)
        defer { leases.end(claim.lease) }
        do {
            switch try job.run(bench, claim.subject) {
            case .done:
                try settle(claim)
                Event.job(kind: claim.kind, subject: claim.subject, requestID: claim.requestID, what: "done").log()
                return .infinity
            case .again(let seconds):
                try postpone(claim, seconds: seconds, because: nil, isDead: false)
                return seconds
            }
        } catch {
            let failure = "attempt \(claim.attempts) failed: \(error)"
            Event.job(kind: claim.kind, subject: claim.subject, requestID: claim.requestID, what: failure).log()
            let pause = min(Double(1 << min(claim.attempts - 1, 20)), job.patience) * Double.random(in: 0.8...1.2)
            try postpone(claim, seconds: pause, because: "\(error)", isDead: claim.attempts >= job.attempts)
            return pause
        }
    }

    private func settle(_ claim: Claim) throws {
        let transaction = try bench.connection.begin()
        try transaction.send(
            """
            delete from jobs where kind = \(claim.kind) and subject = \(claim.subject) and lease = \(claim.lease) and wanted = \(claim.wanted)
            """)
        _ = try transaction.commit(
            """
            update jobs set lease = null, leased_until = null, attempts = 0, run_at = least(run_at, now())
            where kind = \(claim.kind) and subject = \(claim.subject) and lease = \(claim.lease)
            """)
    }

    private func postpone(_ claim: Claim, seconds: Double, because error: String?, isDead: Bool) throws {
        _ = try bench.connection.begin().commit(
            """
            update jobs set lease = null, leased_until = null, last_error = \(error),
            attempts = case when \(error)::text is null then 0 else attempts end,
            run_at = case when wanted = \(claim.wanted) then now() + \(Int(seconds * 1000))::int * interval '1 millisecond' else now() end,
            dead_at = case when \(isDead) and wanted = \(claim.wanted) then now() end
            where kind = \(claim.kind) and subject = \(claim.subject) and lease = \(claim.lease)
            """)
    }
}

extension Workbench {
    func newID() -> ID { ID(at: .now()) }
}
