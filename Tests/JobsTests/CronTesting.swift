// Cron jobs in databases of their own, so that several schedulers and dispatchers can be at work. The clock is the test's.
import API
import HTTP
import Postgres
import Synchronization
import System
import TestSupport
import Testing

@testable import Jobs

/// A suite about the cron jobs of one owner in a database of its own.
protocol CronTesting {
    var cloud: TestCloud { get }
    var owner: Owner { get }
    var clock: CronClock { get }
}

extension CronTesting {
    /// The surface over a new database.
    static func newCloud() throws -> TestCloud {
        let number = CronClock.databases.add(1, ordering: .relaxed).newValue
        return try TestCloud(CronClock.settings, database: .fresh("cron\(number)"))
    }

    func workbench() throws -> Workbench {
        var bench = Workbench(
            config: try TestCloud.config(CronClock.settings, url: cloud.database.cron), connection: Connection(url: cloud.database.cron),
            engine: try #require(TestCloud.deadEngine()), names: EngineNames(stack: ID(at: .now())))
        bench.now = { [clock] in clock.now }
        return bench
    }

    /// Makes a job; its id.
    func job(_ name: String = "job", _ server: LocalServer, of owner: Owner? = nil, _ more: KeyValuePairs<String, JSON> = [:])
        throws
        -> String
    {
        let body: JSON = [
            "name": .string(name), "target_url": .string("http://127.0.0.1:\(server.port)/\(name)"), "schedule": "* * * * *",
        ]
        guard case .object(let members) = body else { return "" }
        let json = JSON.object(members.filter { member in !more.contains { $0.key == member.name } }).adding(more)
        let answer = cloud.call(.post, "/cron", key: (owner ?? self.owner).key, json: json)
        return try #require(answer["data"]?["id"]?.string, "\(answer)")
    }

    func runs(_ id: String, of owner: Owner? = nil) -> [JSON] {
        cloud.call(.get, "/cron/\(id)/runs?limit=100", key: (owner ?? self.owner).key)["data"]?.array ?? []
    }

    func next(_ id: String) throws -> Timestamp {
        try #require(try cloud.admin("select next_run_at from cron_jobs where id = \(id)::uuid").scalar(Timestamp.self))
    }

    /// Turns the clock to a little after the job's next due time.
    @discardableResult
    func awaitDue(_ id: String) throws -> Timestamp {
        let due = try next(id)
        clock.set(due.advanced(seconds: 1))
        return due
    }

    func tick(_ bench: Workbench? = nil) throws {
        let scheduler = CronScheduler(bench: try bench ?? workbench())
        while try scheduler.tick() {}
    }

    /// Has so many dispatchers at work until something holds.
    func send(_ count: Int = 1, until isDone: () throws -> Bool) throws {
        let isOver = Atomic(false)
        // A closure that outlives nothing: the threads are joined below.
        try withExtendedLifetime(isOver) {
            let latch = Latch()
            let benches = try (0..<count).map { _ in Handed(try workbench()) }
            let threads = benches.map { bench in
                WorkerThread { CronDispatcher(bench: bench.value, bell: Bell()).run { latch.isSet } }
            }
            defer {
                latch.set()
                for thread in threads { thread.join() }
            }
            try eventually("the runs", holds: isDone)
        }
    }

    func count(_ condition: SQL) throws -> Int {
        try cloud.admin("select count(*) from cron_runs where \(condition)").scalar() ?? -1
    }
}

/// The time of one test.
final class CronClock: Sendable {
    fileprivate static let settings = ["THECLOUD_EGRESS_ALLOW": "127.0.0.0/8"]
    fileprivate static let databases = Atomic(0)

    private let time = Mutex(Timestamp.now())
    var now: Timestamp { time.withLock { $0 } }
    func set(_ now: Timestamp) { time.withLock { $0 = now } }
    func advance(_ seconds: Int) { time.withLock { $0 = $0.advanced(seconds: seconds) } }
}

private final class Latch: Sendable {
    private let value = Atomic(false)
    var isSet: Bool { value.load(ordering: .acquiring) }
    func set() { value.store(true, ordering: .releasing) }
}

/// Given to one thread for good.
final class Handed: @unchecked Sendable {
    let value: Workbench
    init(_ value: Workbench) { self.value = value }
}
