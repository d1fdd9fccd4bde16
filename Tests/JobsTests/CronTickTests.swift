// When cron jobs run: each due time once, slow targets beside quick ones, what was missed, what may not overlap.
import Dispatch
import HTTP
import Postgres
import Synchronization
import System
import TestSupport
import Testing

@testable import Jobs

struct CronTickTests: CronTesting {
    let cloud: TestCloud
    let owner: Owner
    let clock = CronClock()

    init() throws {
        cloud = try Self.newCloud()
        owner = try cloud.newOwner()
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

    /// Forty targets hang; what comes due beside them and after them is sent and finished meanwhile.
    @Test func slowTargetsDelayNoOtherJob() throws {
        let gate = DispatchSemaphore(value: 0)
        let sleeper = LocalServer.http { _ in
            gate.wait()
            gate.signal()
            return ok("")
        }
        let server = LocalServer.http { _ in ok("") }
        let slow = try (0..<40).map { try job("slow-\($0)", sleeper) }
        let other = try cloud.newOwner()
        let quick = try (0..<10).map { try job("quick-\($0)", server, of: $0 < 5 ? owner : other) }
        let later = try job("later", server, ["schedule": "0 0 1 1 *"])
        try awaitDue(slow[0])
        try tick()
        try send {
            try eventually("all slow ones are sent") { sleeper.connections == 40 ? true : nil }
            #expect(cloud.call(.post, "/cron/\(later)/run", key: owner.key).status == 202)
            clock.set(max(clock.now, .now()).advanced(seconds: 1))
            try eventually("the others are finished") { try count("status = 'SUCCEEDED'") == 11 ? true : nil }
            #expect(runs(later).first?["status"] == "SUCCEEDED")
            for (number, id) in quick.enumerated() {
                #expect(runs(id, of: number < 5 ? owner : other).map { $0["status"] } == ["SUCCEEDED"])
            }
            #expect(try count("status = 'RUNNING'") == 40)
            gate.signal()
            return true
        }
        #expect(try count("status = 'SUCCEEDED'") == 51, "none was called back")
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

    /// Nobody has counted the rows of tables that were empty a moment ago. Still each run is looked up by its id, however many there are.
    @Test(arguments: [0, 1000, 5000])
    func runsAreLookedUpByIndex(rows: Int) throws {
        for table in ["cron_jobs", "cron_runs"] { try cloud.admin("alter table \(verbatim: table) set (autovacuum_enabled = false)") }
        let lease = ID(at: .now())
        try cloud.admin(
            """
            with jobs as (
                insert into cron_jobs (id, owner_id, name, schedule, target_url, next_run_at)
                select new_id(), \(owner.id)::uuid, 'n' || n, '0 0 1 1 *', 'http://x/', now() from generate_series(1, \(rows)::int) n
                returning owner_id, id)
            insert into cron_runs (id, owner_id, cron_id, due_at, status, lease, leased_until)
            select new_id(), owner_id, id, now(), 'RUNNING', \(lease)::uuid, now() + interval '1 hour' from jobs
            """)
        let dispatcher = CronDispatcher(bench: try workbench(), bell: Bell())
        for statement in [dispatcher.claiming(128, besides: CronShares()), dispatcher.storing] {
            let transaction = try Connection(url: cloud.database.cron).begin()
            try transaction.planAnew()
            let plan: String = try transaction.query("explain (format json, costs off) \(statement)").scalar() ?? ""
            transaction.rollback()
            let used = Set(plan.matches(of: /"Index Name": "([a-z_]+)"/).map { String($0.1) })
            #expect(used.contains("cron_runs_id") && !used.contains("cron_runs_log") && !used.contains("cron_runs_pkey"), "\(plan)")
            #expect(!plan.contains("Seq Scan") && !plan.contains("Materialize") && !plan.contains("Hash"), "\(plan)")
            #expect(rows == 0 || plan.contains(/"Index Cond": "\((r\.)?id = (taken|result)\.id\)"/), "\(plan)")
        }
    }
}
