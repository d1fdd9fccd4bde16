// The queue of jobs: leases that run out, wishes that come while a job runs, jobs that never succeed. Each test has a kind of its own.
import API
import HTTP
import Postgres
import Synchronization
import System
import TestSupport
import Testing

@testable import Jobs

struct LaneTests {
    private static let bench: Result<Bench, any Error> = Result { try Bench("lanes") }

    let bench: Bench
    let admin: Connection
    let kind = "test_" + ID(at: .now()).description

    init() throws {
        bench = try Self.bench.get()
        admin = bench.database.administrator()
    }

    /// What the job did, seen by all threads.
    private final class Record: Sendable {
        let subjects = Mutex<[String]>([])
        let isOver = Atomic(false)
        var count: Int { subjects.withLock(\.count) }
        func add(_ subject: String) { subjects.withLock { $0.append(subject) } }
    }

    /// Runs threads with one kind of job until something holds.
    private func work(
        threads: Int = 1, attempts: Int = .max, _ record: Record, until isDone: () throws -> Bool,
        run: @escaping @Sendable (Workbench, String) throws -> Job.Outcome
    ) throws {
        let job = Job(kind: kind, lane: .mail, attempts: attempts, patience: 0.01) { workbench, subject in
            record.add(subject)
            return try run(workbench, subject)
        }
        let bell = Bell()
        let workers = (0..<threads).map { _ in
            WorkerThread { [bench, kind] in
                guard let workbench = try? bench.workbench() else { return }
                LaneThread(
                    jobs: [kind: job], bench: workbench, bell: bell, leases: Leases(),
                    isStopping: { record.isOver.load(ordering: .relaxed) }
                )
                .run()
            }
        }
        defer {
            record.isOver.store(true, ordering: .relaxed)
            for worker in workers { worker.join() }
        }
        try eventually("the job's end", holds: isDone)
    }

    private func enqueue(_ subject: String) throws { _ = try admin.begin().commit("select enqueue(\(kind), \(subject), null)") }

    private func left() throws -> Int { try admin.begin().commit("select count(*) from jobs where kind = \(kind)").scalar() ?? -1 }

    @Test func aJobThatIsDoneIsGone() throws {
        let record = Record()
        for subject in ["a", "b", "c", "a"] { try enqueue(subject) }
        try work(threads: 3, record, until: { try left() == 0 }, run: { _, _ in .done })
        #expect(record.subjects.withLock { $0.sorted() } == ["a", "b", "c"])
    }

    @Test func aLeaseThatRanOutIsTakenOver() throws {
        let record = Record()
        _ = try admin.begin().commit(
            """
            insert into jobs (kind, subject, attempts, lease, leased_until)
            values (\(kind), 'dead', 1, gen_random_uuid(), now() - interval '1 second'),
            (\(kind), 'alive', 1, gen_random_uuid(), now() + interval '5 minutes')
            """)
        try work(record, until: { try left() == 1 }, run: { _, _ in .done })
        #expect(record.subjects.withLock { $0 } == ["dead"], "one that is at work elsewhere is left alone")
    }

    /// Renewing keeps what this process has at hand, and nothing else.
    @Test func aLeaseThatIsHeldIsKept() throws {
        let leases = Leases()
        let (held, other) = (ID(at: .now()), ID(at: .now()))
        for (subject, lease) in [("held", held), ("other", other)] {
            _ = try admin.begin().commit(
                """
                insert into jobs (kind, subject, attempts, lease, leased_until) values (\(kind), \(subject), 1, \(lease), now() + interval '1 second')
                """)
        }
        leases.begin(held)
        leases.begin(other)
        leases.end(other)
        try leases.renew(on: try bench.workbench().connection)
        let kept = try admin.begin().commit(
            "select string_agg(subject, ',') from jobs where kind = \(kind) and leased_until > now() + interval '5 seconds'")
        #expect(kept.scalar(String.self) == "held")
    }

    /// Whoever lost the lease meanwhile neither ends nor postpones the job of the one who has it.
    @Test func aLostLeaseSettlesNothing() throws {
        let record = Record()
        try enqueue("slow")
        let (url, kind) = (bench.database.admin, kind)
        let isTaken: SQL = "select count(*) from jobs where kind = \(kind) and attempts = 77"
        try work(
            record, until: { try admin.begin().commit(isTaken).scalar(Int.self) == 1 },
            run: { _, _ in
                _ = try Connection(url: url).begin().commit(
                    "update jobs set lease = gen_random_uuid(), leased_until = now() + interval '5 minutes', attempts = 77 where kind = \(kind)"
                )
                return .done
            })
        #expect(try left() == 1)
    }

    @Test func aWishDuringARunMakesItRunAgain() throws {
        let record = Record()
        let (url, kind) = (bench.database.admin, kind)
        try enqueue("x")
        try work(
            record, until: { try left() == 0 },
            run: { _, subject in
                if record.count == 1 { _ = try Connection(url: url).begin().commit("select enqueue(\(kind), \(subject), null)") }
                return .done
            })
        #expect(record.count == 2)
    }

    @Test func whatIsNotFinishedIsLookedAtAgain() throws {
        let record = Record()
        try enqueue("x")
        try work(record, until: { try left() == 0 }, run: { _, _ in record.count < 4 ? .again(seconds: 0) : .done })
        #expect(record.count == 4)
    }

    @Test func aJobIsDeadAfterItsAttemptsAndRevivedByAWish() throws {
        let record = Record()
        let isDead: SQL =
            "select count(*) from jobs where kind = \(kind) and dead_at is not null and attempts = 3 and last_error like '%no luck%'"
        try enqueue("x")
        try work(
            attempts: 3, record, until: { try admin.begin().commit(isDead).scalar(Int.self) == 1 },
            run: { _, _ in
                throw Unexpected(description: "no luck")
            })
        #expect(record.count == 3)
        try enqueue("x")
        let again = Record()
        try work(attempts: 3, again, until: { try left() == 0 }, run: { _, _ in .done })
        #expect(again.count == 1)
    }

    /// Thirty jobs over eight threads: each once.
    @Test func noJobRunsTwiceAtOnce() throws {
        let record = Record()
        for number in 1...30 { try enqueue("\(number)") }
        try work(threads: 8, record, until: { try left() == 0 }, run: { _, _ in .done })
        #expect(record.count == 30 && Set(record.subjects.withLock { $0 }).count == 30)
    }

    @Test func whatHasHadItsTimeIsThrownAway() throws {
        let cloud = try bench.cloud()
        let (owner, other) = (try cloud.newOwner(), try cloud.newOwner())
        let keys = try ["29 days", "31 days"].map { age in
            let key = try cloud.newKey(of: owner)
            try cloud.admin("update api_keys set expires_at = now() - \(age)::interval where id = \(key.id)::uuid")
            return key
        }
        try cloud.admin(
            "update api_keys set last_used_at = now() - interval '61 days' where owner_id = \(other.id)::uuid and kind = 'login'")
        try cloud.admin("update audit_log set created_at = now() - interval '366 days' where owner_id = \(other.id)::uuid")
        try cloud.admin(
            "insert into password_resets (token_hash, owner_id, expires_at) values ('\\x01', \(owner.id)::uuid, now()), ('\\x02', \(owner.id)::uuid, now() + interval '1 minute')"
        )
        try Housekeeping(bench: try bench.workbench()).run()
        #expect(cloud.call(.get, "/auth/me", key: keys[0].text).code == "KEY_EXPIRED")
        #expect(cloud.call(.get, "/auth/me", key: keys[1].text).code == "INVALID_CREDENTIALS")
        #expect(cloud.call(.get, "/auth/me", key: other.key).code == "INVALID_CREDENTIALS")
        #expect(cloud.call(.get, "/auth/me", key: owner.key).status == 200)
        #expect(try cloud.admin("select count(*) from audit_log where owner_id = \(other.id)::uuid").scalar(Int.self) == 0)
        #expect(try cloud.admin("select count(*) from password_resets where owner_id = \(owner.id)::uuid").scalar(Int.self) == 1)
    }
}
