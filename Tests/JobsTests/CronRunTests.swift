// Cron jobs in databases of their own, so that several schedulers and dispatchers can be at work: each due time once, slow targets beside quick
// ones, what was missed, what may not overlap, retries, and what a killed process had at hand. The clock is the test's.
import API
import Crypto
import Dispatch
import HTTP
import Outbound
import Postgres
import Synchronization
import System
import TestSupport
import Testing

@testable import Jobs

struct CronRunTests {
    private static let settings = ["THECLOUD_EGRESS_ALLOW": "127.0.0.0/8"]
    private static let number = Atomic(0)

    let cloud: TestCloud
    let owner: Owner
    private let clock = Clock()

    init() throws {
        let number = Self.number.add(1, ordering: .relaxed).newValue
        cloud = try TestCloud(Self.settings, database: .fresh("cron\(number)"))
        owner = try cloud.newOwner()
    }

    private final class Clock: Sendable {
        private let time = Mutex(Timestamp.now())
        var now: Timestamp { time.withLock { $0 } }
        func set(_ now: Timestamp) { time.withLock { $0 = now } }
        func advance(_ seconds: Int) { time.withLock { $0 = $0.advanced(seconds: seconds) } }
    }

    private func workbench() throws -> Workbench {
        var bench = Workbench(
            config: try TestCloud.config(Self.settings, url: cloud.database.cron), connection: Connection(url: cloud.database.cron),
            engine: try #require(TestCloud.deadEngine()), names: EngineNames(stack: ID(at: .now())))
        bench.now = { [clock] in clock.now }
        return bench
    }

    /// Makes a job; its id.
    private func job(_ name: String = "job", _ server: LocalServer, of owner: Owner? = nil, _ more: KeyValuePairs<String, JSON> = [:])
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

    private func runs(_ id: String, of owner: Owner? = nil) -> [JSON] {
        cloud.call(.get, "/cron/\(id)/runs?limit=100", key: (owner ?? self.owner).key)["data"]?.array ?? []
    }

    private func next(_ id: String) throws -> Timestamp {
        try #require(try cloud.admin("select next_run_at from cron_jobs where id = \(id)::uuid").scalar(Timestamp.self))
    }

    /// Turns the clock to a little after the job's next due time.
    @discardableResult
    private func awaitDue(_ id: String) throws -> Timestamp {
        let due = try next(id)
        clock.set(due.advanced(seconds: 1))
        return due
    }

    private func tick(_ bench: Workbench? = nil) throws {
        let scheduler = CronScheduler(bench: try bench ?? workbench())
        while try scheduler.tick() {}
    }

    /// Has so many dispatchers at work until something holds.
    private func send(_ count: Int = 1, until isDone: () throws -> Bool) throws {
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

    private final class Latch: Sendable {
        private let value = Atomic(false)
        var isSet: Bool { value.load(ordering: .acquiring) }
        func set() { value.store(true, ordering: .releasing) }
    }

    /// Given to one thread for good.
    private final class Handed: @unchecked Sendable {
        let value: Workbench
        init(_ value: Workbench) { self.value = value }
    }

    @Test func whatTheTargetSees() throws {
        let seen = Recorder<LocalServer.Received>()
        let server = LocalServer.http { request in
            seen.add(request)
            return ok(String(repeating: "é", count: 1000), status: "202 Accepted")
        }
        let id = try job("job?x=1", server, ["name": "job", "headers": ["Authorization": "Bearer s", "X-Empty": ""], "payload": ["n": 1]])
        let due = try awaitDue(id)
        try tick()
        try tick()
        try send { runs(id).first?["status"] == "SUCCEEDED" }
        let request = try #require(seen.values.first)
        let run = try #require(runs(id).first)
        #expect(seen.values.count == 1 && runs(id).count == 1)
        #expect(request.line == "POST /job?x=1 HTTP/1.1" && request.body == Array(#"{"n":1}"#.utf8))
        #expect(request.header("content-type") == "application/json" && request.header("user-agent") == "TheCloud-Cron/1.0")
        #expect(request.header("authorization") == "Bearer s" && request.header("x-empty") == "")
        #expect(request.header("x-cloud-cron-job") == id && request.header("x-cloud-cron-run") == run["id"]?.string)
        #expect(request.header("x-cloud-cron-due") == due.description && run["due_at"]?.string == due.description)
        #expect(run["attempt"] == 1 && run["response_status"] == 202 && run["trigger"] == "schedule" && run["error"] == .null)
        #expect(run["response_excerpt"]?.string == String(repeating: "é", count: 512) && run["duration_ms"]?.int != nil)
        #expect(try next(id) == due.advanced(seconds: 60))
        let told = try cloud.admin("select data::text from events where type = 'cron.run_succeeded' and resource_id = \(id)::uuid")
        let data = try JSON(parsing: Array(try #require(told.scalar(String.self)).utf8))
        #expect(data["id"] == run["id"] && data["due_at"]?.string == due.description && data["status"] == "SUCCEEDED", "\(data.text)")
    }

    @Test(arguments: [("GET", nil, nil), ("PUT", "plain", "text/plain; charset=utf-8"), ("DELETE", nil, nil), ("PATCH", "é", "text/csv")])
    func methodsAndPayloads(method: String, payload: String?, type: String?) throws {
        let seen = Recorder<LocalServer.Received>()
        let server = LocalServer.http { request in
            seen.add(request)
            return ok("")
        }
        let headers: JSON = type == "text/csv" ? ["content-TYPE": "text/csv"] : [:]
        let id = try job("job", server, ["method": .string(method), "payload": .optional(payload), "headers": headers])
        try awaitDue(id)
        try tick()
        try send { runs(id).first?["status"] == "SUCCEEDED" }
        let request = try #require(seen.values.first)
        #expect(request.line == "\(method) /job HTTP/1.1" && request.body == Array((payload ?? "").utf8))
        #expect(request.header("content-type") == type)
    }

    /// Four schedulers and four dispatchers on one database, over many jobs and ten minutes.
    @Test func eachDueTimeRunsExactlyOnce() throws {
        let seen = Recorder<String>()
        let server = LocalServer.http { request in
            seen.add("\(request.header("x-cloud-cron-job") ?? "") \(request.header("x-cloud-cron-due") ?? "")")
            return ok("")
        }
        let ids = try (0..<20).map { try job("job-\($0)", server) }
        let benches = try (0..<4).map { _ in Handed(try workbench()) }
        for _ in 1...10 {
            try awaitDue(ids[0])
            let threads = benches.map { bench in
                WorkerThread {
                    for _ in 1...5 { _ = try? CronScheduler(bench: bench.value).tick() }
                }
            }
            for thread in threads { thread.join() }
        }
        try send(4) { try cloud.admin("select count(*) from cron_runs where status = 'SUCCEEDED'").scalar(Int.self) == 200 }
        #expect(try cloud.admin("select count(*) from cron_runs").scalar(Int.self) == 200)
        #expect(seen.values.count == 200 && Set(seen.values).count == 200)
    }

    @Test func slowTargetsDelayNoOtherJob() throws {
        let gate = DispatchSemaphore(value: 0)
        let sleeper = LocalServer.http { _ in
            gate.wait()
            gate.signal()
            return ok("")
        }
        let server = LocalServer.http { _ in ok("") }
        let slow = try (0..<30).map { try job("slow-\($0)", sleeper) }
        let other = try cloud.newOwner()
        let quick = try (0..<10).map { try job("quick-\($0)", server, of: $0 < 5 ? owner : other) }
        try awaitDue(slow[0])
        try tick()
        try send {
            guard sleeper.connections == 30, (runs(quick[0]) + runs(quick[9], of: other)).allSatisfy({ $0["status"] == "SUCCEEDED" }) else {
                return false
            }
            let finished = try cloud.admin("select count(*) from cron_runs where status = 'SUCCEEDED'").scalar(Int.self)
            guard finished == 10 else { return false }
            #expect(try cloud.admin("select count(*) from cron_runs where status = 'RUNNING'").scalar(Int.self) == 30)
            gate.signal()
            return true
        }
        #expect(try cloud.admin("select count(*) from cron_runs where status = 'SUCCEEDED'").scalar(Int.self) == 40, "none was called back")
    }

    @Test func whatMayNotOverlapIsSkipped() throws {
        let gate = DispatchSemaphore(value: 0)
        let server = LocalServer.http { _ in
            gate.wait()
            return ok("")
        }
        let (exclusive, free) = (try job("forbid", server, ["overlap": "forbid"]), try job("allow", server))
        try send {
            try awaitDue(exclusive)
            try tick()
            try eventually("both are sent") { server.connections == 2 ? true : nil }
            try awaitDue(exclusive)
            try tick()
            try eventually("one more is sent") { server.connections == 3 ? true : nil }
            #expect(runs(exclusive).map { $0["status"] } == ["SKIPPED", "RUNNING"])
            #expect(runs(exclusive).first?["error"] == "the run before was not finished")
            #expect(runs(free).map { $0["status"] } == ["RUNNING", "RUNNING"])
            #expect(cloud.call(.post, "/cron/\(exclusive)/run", key: owner.key).code == "CONFLICT")
            for _ in 1...4 { gate.signal() }
            try eventually("all is done") { try count("status = 'SUCCEEDED'") == 3 ? true : nil }
            // It is free again.
            try awaitDue(exclusive)
            try tick()
            gate.signal()
            try eventually("the next") { runs(exclusive).first?["status"] == "SUCCEEDED" ? true : nil }
            return true
        }
    }

    private func count(_ condition: SQL) throws -> Int {
        try cloud.admin("select count(*) from cron_runs where \(condition)").scalar() ?? -1
    }

    /// A run whose sender died is sent again, and until then it holds up nothing for ever: the next one waits for it, beside it none is sent.
    @Test func aKilledSendersRunGoesOn() throws {
        let seen = Recorder<String>()
        let server = LocalServer.http { request in
            seen.add(request.header("x-cloud-cron-run") ?? "")
            return ok("")
        }
        let id = try job("job", server, ["overlap": "forbid"])
        try awaitDue(id)
        try tick()
        // As a killed process leaves it.
        let dead: SQL = "update cron_runs set status = 'RUNNING', attempt = 1, next_attempt_at = null, lease = new_id(), started_at = now()"
        try cloud.admin("\(dead), leased_until = now() + interval '1 hour' where cron_id = \(id)::uuid")
        try awaitDue(id)
        try tick()
        #expect(runs(id).map { $0["status"] } == ["SKIPPED", "RUNNING"], "its lease may still be kept")
        try cloud.admin("update cron_runs set leased_until = now() - interval '1 second' where status = 'RUNNING'")
        try awaitDue(id)
        try tick()
        #expect(runs(id).map { $0["status"] } == ["SCHEDULED", "SKIPPED", "RUNNING"])
        let order = runs(id).reversed().filter { $0["status"] != "SKIPPED" }.compactMap { $0["id"]?.string }
        try send(4) { try count("status = 'SUCCEEDED'") == 2 }
        #expect(seen.values == order)
        #expect(runs(id).allSatisfy { $0["status"] == "SKIPPED" || $0["attempt"] == 1 }, "a crash costs no attempt")
    }

    /// What a process that lost its lease brings in is not stored over what came after.
    @Test func resultsCountUnderTheirLeaseOnly() throws {
        let gate = DispatchSemaphore(value: 0)
        let server = LocalServer.http { _ in
            gate.wait()
            return ok("")
        }
        let id = try job("job", server)
        try awaitDue(id)
        try tick()
        try send {
            try eventually("it is sent") { server.connections == 1 ? true : nil }
            try cloud.admin("update cron_runs set lease = new_id(), leased_until = now() + interval '1 hour'")
            gate.signal()
            return true
        }
        #expect(runs(id).map { $0["status"] } == ["RUNNING"])
        #expect(try cloud.admin("select count(*) from events where type like 'cron.run%'").scalar(Int.self) == 0)
    }

    /// Told to stop, a process ends its requests and gives them back.
    @Test func whatIsCutGoesBack() throws {
        let server = LocalServer { peer in peer.awaitEnd() }
        let id = try job("job", server)
        try awaitDue(id)
        try tick()
        let (bell, bench) = (Bell(), try workbench())
        let senders = CronSenders(config: bench.config, now: bench.now, bell: bell)
        let attempt = CronAttempt(
            run: ID(at: .now()), job: ID(at: .now()), owner: ID(at: .now()), due: clock.now, attempt: 1,
            url: "http://127.0.0.1:\(server.port)/", method: "POST", sealedHeaders: nil, payload: nil, timeout: 300, retries: 0)
        senders.send([attempt])
        try eventually("it is sent") { server.connections == 1 ? true : nil }
        senders.cut()
        let result = try eventually("it is cut") { senders.take().first }
        #expect(result.1.verdict == .interrupted)
        senders.close()
    }

    /// Three hours without a scheduler.
    @Test(arguments: ["skip", "run_once"])
    func whatWasMissed(policy: String) throws {
        let server = LocalServer.http { _ in ok("") }
        let hourly = try job("hourly", server, ["schedule": "0 * * * *", "missed": .string(policy)])
        let frequent = try job("frequent", server, ["schedule": "* * * * *", "missed": .string(policy)])
        let due = try next(hourly)
        clock.set(due.advanced(seconds: 3 * 3600 + 1800 + 20))
        try tick()
        let latest = due.advanced(seconds: 3 * 3600)
        #expect(runs(hourly).map { $0["due_at"]?.string } == [latest.description])
        #expect(runs(hourly).first?["status"]?.string == (policy == "skip" ? "MISSED" : "SCHEDULED"))
        #expect(runs(hourly).first?["error"] == (policy == "skip" ? "nothing ran the jobs at that time" : .null))
        #expect(try next(hourly) == due.advanced(seconds: 4 * 3600))
        // What came due 20 s ago is on time, and for run_once it stands for all before.
        let onTime = due.advanced(seconds: 3 * 3600 + 1800)
        let frequentRuns = runs(frequent).map { "\($0["status"]?.string ?? "") \($0["due_at"]?.string ?? "")" }
        #expect(frequentRuns.first == "SCHEDULED \(onTime)")
        #expect(frequentRuns.dropFirst() == (policy == "skip" ? ["MISSED \(onTime.advanced(seconds: -60))"] : []))
        #expect(try next(frequent) == onTime.advanced(seconds: 60))
        try tick()
        #expect(runs(hourly).count == 1 && runs(frequent).count == frequentRuns.count)
        try send { try count("status = 'SCHEDULED' or status = 'RUNNING'") == 0 }
        #expect(server.connections == (policy == "skip" ? 1 : 2))
    }

    @Test func pauseResumeAndRunNow() throws {
        let server = LocalServer.http { _ in ok("") }
        let id = try job("job", server)
        #expect(cloud.call(.post, "/cron/\(id)/pause", key: owner.key).status == 200)
        clock.advance(7200)
        try tick()
        #expect(runs(id).isEmpty)
        #expect(cloud.call(.post, "/cron/\(id)/run", key: owner.key).status == 202)
        try send { runs(id).first?["status"] == "SUCCEEDED" }
        cloud.advance = 7200
        #expect(cloud.call(.post, "/cron/\(id)/resume", key: owner.key).status == 200)
        try tick()
        #expect(runs(id).count == 1, "nothing of what was due meanwhile")
        try awaitDue(id)
        try tick()
        #expect(runs(id).map { $0["trigger"] } == ["schedule", "manual"])
    }

    @Test func retriesAreOneRun() throws {
        let seen = Recorder<String>()
        let server = LocalServer.http { request in
            seen.add(request.header("x-cloud-cron-run") ?? "")
            return ok("nope", status: "503 Busy")
        }
        let id = try job("job", server, ["retries": 2, "schedule": "0 0 1 1 *"])
        #expect(cloud.call(.post, "/cron/\(id)/run", key: owner.key).status == 202)
        clock.set(Timestamp.now().advanced(seconds: 1))
        for (attempt, pause) in [(1, 4...6), (2, 9...11)] {
            try send { runs(id).first?["status"] == "SCHEDULED" && runs(id).first?["attempt"]?.int == attempt }
            let run = try #require(runs(id).first)
            let next = try #require(run["next_attempt_at"]?.string.flatMap(Timestamp.init(rfc3339:)))
            #expect(pause.contains((next.microseconds - clock.now.microseconds) / 1_000_000), "\(run.text)")
            #expect(run["error"] == "the target answered 503" && run["response_status"] == 503 && run["finished_at"] == .null)
            clock.set(next)
        }
        try send { runs(id).first?["status"] == "FAILED" }
        let run = try #require(runs(id).first)
        #expect(run["attempt"] == 3 && run["response_excerpt"] == "nope" && runs(id).count == 1)
        #expect(seen.values.count == 3 && Set(seen.values) == [run["id"]?.string ?? ""])
        #expect(try cloud.admin("select count(*) from events where type = 'cron.run_failed'").scalar(Int.self) == 1)
    }

    @Test func failuresSayWhy() throws {
        let inner = LocalServer.http { _ in ok("") }
        let server = LocalServer.http { _ in ok("", status: "302 Found", "Location: http://127.0.0.1:\(inner.port)/") }
        let (redirect, closed) = (try job("redirect", server), try job("closed", server, ["target_url": "http://127.0.0.1:1/"]))
        let (unknown, metadata) = (
            try job("unknown", server, ["target_url": "http://my-service.invalid/cleanup"]),
            try job("metadata", server, ["target_url": "http://10.1.2.3.example/"])
        )
        // Of a name that leads to where nothing is sent.
        try cloud.admin("update cron_jobs set target_url = 'http://169.254.169.254/latest' where id = \(metadata)::uuid")
        try awaitDue(redirect)
        try tick()
        try send { try count("status = 'FAILED'") == 4 }
        #expect(runs(redirect).first?["error"] == "the target answered 302; redirects are not followed" && inner.connections == 0)
        for id in [closed, unknown] {
            #expect(runs(id).first?["error"] != .null && runs(id).first?["response_status"] == .null, "\(runs(id))")
        }
        #expect(runs(metadata).first?["error"]?.string?.hasPrefix("TARGET_FORBIDDEN") == true)
    }

    @Test func aDeletedJobsRunIsGone() throws {
        let gate = DispatchSemaphore(value: 0)
        let server = LocalServer.http { _ in
            gate.wait()
            return ok("")
        }
        let id = try job("job", server)
        try awaitDue(id)
        try tick()
        try send {
            try eventually("it is sent") { server.connections == 1 ? true : nil }
            #expect(cloud.call(.delete, "/cron/\(id)", key: owner.key).status == 200)
            gate.signal()
            return true
        }
        #expect(try count("true") == 0)
    }

    @Test func oldRunsAreThrownAwayAndHeadersSealedAnew() throws {
        let server = LocalServer.http { _ in ok("") }
        let id = try job("job", server)
        for _ in 1...2 { #expect(cloud.call(.post, "/cron/\(id)/run", key: owner.key).status == 202) }
        try cloud.admin("update cron_runs set created_at = now() - interval '31 days'")
        try cloud.admin(
            """
            update cron_runs set status = 'SUCCEEDED', finished_at = now(), next_attempt_at = null
            where id = (select id from cron_runs order by id limit 1)
            """)
        try Housekeeping(bench: try workbench()).run()
        #expect(runs(id).map { $0["status"] } == ["SCHEDULED"], "what is not finished is kept")
    }

    /// A tick costs what the due ones cost: with 100 of 20 000 due, it goes by the index.
    @Test func aTickReadsWhatIsDue() throws {
        let server = LocalServer.http { _ in ok("") }
        _ = try job("job", server, ["schedule": "0 0 1 1 *"])
        try cloud.admin(
            """
            insert into cron_jobs (id, owner_id, name, schedule, target_url, next_run_at)
            select new_id(), \(owner.id)::uuid, 'n' || n, '* * * * *', 'http://x/', now() + case when n % 200 = 0 then -1 else 600 end
            * interval '1 second' from generate_series(1, 20000) n
            """)
        try cloud.admin("analyze cron_jobs")
        let rows = try cloud.admin(
            """
            explain (analyze, timing off, summary off, costs off) select id from cron_jobs where next_run_at <= now()
            order by next_run_at limit 500 for update skip locked
            """)
        let plan = rows.map { row in
            var row = row
            return row.next(String.self)
        }.joined(separator: "\n")
        #expect(plan.contains("Index Scan using cron_jobs_next") && !plan.contains("Seq Scan") && !plan.contains("Sort"), "\(plan)")
        clock.set(.now())
        try tick()
        #expect(try count("true") == 100)
    }
}
