// What becomes of a cron job's run: what its target sees, retries, failures, and what a killed process had at hand.
import Dispatch
import HTTP
import Outbound
import Postgres
import TestSupport
import Testing

@testable import Jobs

struct CronRunTests: CronTesting {
    let cloud: TestCloud
    let owner: Owner
    let clock = CronClock()

    init() throws {
        cloud = try Self.newCloud()
        owner = try cloud.newOwner()
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
}
