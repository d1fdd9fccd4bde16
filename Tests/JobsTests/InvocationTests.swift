// Functions asked through the door and run in real sandboxes: what comes back, the places that there are, what survives a process's end, and
// what is cleared away after it.
import API
import Crypto
import Docker
import Foundation
import HTTP
import Postgres
import Synchronization
import TestSupport
import Testing

@testable import Jobs

/// One installation for all of them; each test has an owner of its own.
private let lab: Result<Bench, any Error> = Result {
    try StandInImages.prepare(["node:20-alpine", "python:3.12-alpine"])
    return try Bench("functions")
}

struct InvocationTests {
    let bench: Bench
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        bench = try lab.get()
        cloud = try TestCloud(["THECLOUD_QUOTA_INVOCATIONS": "2"], database: bench.database, engine: Engine())
        owner = try cloud.newOwner()
    }

    private func function(_ source: String, runtime: String = "python312", _ more: KeyValuePairs<String, JSON> = [:]) throws -> String {
        let file = runtime == "python312" ? "index.py" : "index.js"
        let body: JSON = [
            "name": "f", "runtime": .string(runtime), "code_zip": .string(Base64.standard.padded(ZipMaker([file: source]).bytes)),
            "timeout": 60,
        ]
        guard case .object(let members) = body else { return "" }
        let answer = cloud.call(
            .post, "/functions", key: owner.key,
            json: JSON.object(members.filter { member in !more.contains { $0.key == member.name } }).adding(more))
        return "/functions/" + (try #require(answer["data"]?["id"]?.string, "\(answer)"))
    }

    private func invoke(_ path: String, _ body: JSON = [:], on other: TestCloud? = nil, _ headers: KeyValuePairs<String, String> = [:])
        -> Answer
    {
        (other ?? cloud).call(.post, path + "/invoke", key: owner.key, json: body, headers: headers)
    }

    /// thecloud-cron's part, with a home of its own.
    private func workbench(_ home: SandboxHome) throws -> Workbench {
        var workbench = try bench.workbench()
        workbench.sandboxes = home
        return workbench
    }

    private func status(_ path: String, _ id: String) -> String? {
        cloud.call(.get, "\(path)/invocations/\(id)", key: owner.key)["data"]?["status"]?.string
    }

    @Test func itsResultComesBack() throws {
        let path = try function(
            "exports.handler = async ({ foo }) => { console.log('got', foo); return { z: foo + process.env.TAIL, a: 1 }; };",
            runtime: "nodejs20",
            ["env": ["TAIL": "!"]])
        let answer = invoke(path, ["payload": ["foo": "bar"], "async": false], ["Idempotency-Key": "one"])
        expect(
            answer, 200,
            """
            {"data": {"id": "$id", "function_id": "\(path.dropFirst(11))", "status": "SUCCEEDED", "async": false, "attempt": 1,
            "result": {"z": "bar!", "a": 1}, "error": null, "logs": "got bar\\n", "is_truncated": false,
            "duration_ms": \(answer["data"]?["duration_ms"]?.int ?? -1), "cold_start": true, "created_at": "$time", "started_at": "$time",
            "finished_at": "$time"}}
            """)
        #expect(answer.text.contains(#""result":{"z":"bar!","a":1}"#), "the order of members stays")
        let again = invoke(path, ["payload": ["foo": "bar"], "async": false], ["Idempotency-Key": "one"])
        #expect(again.text == answer.text && again.header("Idempotency-Replayed") == "true")
        #expect(invoke(path, ["payload": ["foo": "b"]])["data"]?["cold_start"] == false)
        let logs = cloud.call(.get, path + "/logs", key: owner.key)["data"]?.array ?? []
        #expect(logs.map { $0["logs"]?.string } == ["got b\n", "got bar\n"])
        let told = try cloud.admin(
            "select data->>'status' from events where owner_id = \(owner.id)::uuid and type = 'function.succeeded' order by id limit 1")
        #expect(told.scalar(String.self) == "SUCCEEDED")
        // Another environment, another sandbox.
        #expect(cloud.call(.put, path, key: owner.key, json: ["env": ["TAIL": "?"]]).status == 200)
        let changed = invoke(path, ["payload": ["foo": "bar"]])
        #expect(changed["data"]?["result"]?["z"] == "bar?" && changed["data"]?["cold_start"] == true)
    }

    @Test func failuresAreAnswers() throws {
        let failing = invoke(try function("def handler(payload): raise ValueError('no ' + payload['a'])"), ["payload": ["a": "good"]])
        #expect(failing.status == 200 && failing["data"]?["status"] == "FAILED", "\(failing)")
        #expect(failing["data"]?["error"] == "ValueError: no good" && failing["data"]?["result"] == .null)
        #expect(failing["data"]?["logs"]?.string?.contains("line 1, in handler") == true)
        let looping = invoke(try function("def handler(payload):\n    while True: pass", ["name": "loop", "timeout": 1]))
        #expect(looping.status == 200 && looping["data"]?["status"] == "TIMED_OUT", "\(looping)")
        #expect(looping["data"]?["error"] == "the function did not end in time")
    }

    /// Two places, one child, many connections: those without a place wait in order, and none fails.
    @Test func twentyAtOnceShareTheirPlaces() throws {
        let path = try function("import time\ndef handler(payload):\n    time.sleep(0.05)\n    return payload")
        let most = Atomic(0)
        let isOver = Atomic(false)
        let (database, id) = (bench.database, owner.id)
        let watch = Thread {
            let connection = database.administrator()
            while !isOver.load(ordering: .relaxed) {
                let running: Int? = try? connection.begin().commit(
                    "select count(*)::int from invocations where owner_id = \(id)::uuid and status = 'RUNNING'"
                ).scalar()
                most.max(running ?? 0, ordering: .relaxed)
            }
        }
        watch.start()
        let (home, key) = (try #require(cloud.sandboxes), owner.key)
        let answers = try sideBySide(20, threads: 20) {
            let other = try TestCloud(["THECLOUD_QUOTA_INVOCATIONS": "2"], database: database, engine: Engine(), sandboxes: home)
            return { other.call(.post, path + "/invoke", key: key, json: ["payload": 17]) }
        }
        isOver.store(true, ordering: .relaxed)
        #expect(answers.allSatisfy { $0["data"]?["status"] == "SUCCEEDED" && $0["data"]?["result"] == 17 }, "\(answers)")
        #expect((1...2).contains(most.load(ordering: .relaxed)))
        #expect(answers.count { $0["data"]?["cold_start"] == true } <= 4, "sandboxes are used again")
    }

    @Test func anAsynchronousOneIsTriedThreeTimes() throws {
        let path = try function("def handler(payload):\n    print('try')\n    raise ValueError('never')")
        let id = try #require(invoke(path, ["async": true])["data"]?["id"]?.string)
        let home = SandboxHome(bench.config)
        defer { home.close() }
        let workbench = try workbench(home)
        for attempt in 1...3 {
            let outcome = try InvocationJob.job.run(workbench, id)
            #expect((outcome == .done) == (attempt == 3))
            #expect(status(path, id) == (attempt == 3 ? "FAILED" : "PENDING"))
        }
        #expect(try InvocationJob.job.run(workbench, id) == .done)
        let found = cloud.call(.get, "\(path)/invocations/\(id)", key: owner.key)["data"]
        #expect(found?["attempt"] == 3 && found?["error"] == "ValueError: never" && found?["logs"]?.string?.contains("try\n") == true)
        #expect(try cloud.admin("select payload is null from invocations where id = \(id)::uuid").scalar(Bool.self) == true)
    }

    /// What a killed process had begun is begun anew elsewhere, and costs no attempt.
    @Test func anAsynchronousOneSurvivesItsProcess() throws {
        let path = try function("def handler(payload): return payload['n'] * 2")
        let id = try #require(invoke(path, ["payload": ["n": 21], "async": true])["data"]?["id"]?.string)
        let (dead, home) = (SandboxHome(bench.config), SandboxHome(bench.config))
        defer { home.close() }
        let workbench = try workbench(home)
        for _ in 1...4 {
            let invocation = try #require(ID(id))
            let rows = try workbench.connection.begin().commit(Invocation.begin(invocation, in: dead, bench.config))
            guard case .begun = Invocation.turn(invocation, rows) else { throw Unexpected(description: "it does not begin") }
        }
        #expect(status(path, id) == "RUNNING")
        #expect(try InvocationJob.job.run(workbench, id) == .done)
        let found = cloud.call(.get, "\(path)/invocations/\(id)", key: owner.key)["data"]
        #expect(found?["status"] == "SUCCEEDED" && found?["result"] == 42 && found?["attempt"] == 5)
    }

    @Test func aDeletedFunctionsSandboxesGo() throws {
        let path = try function("def handler(payload): return 1")
        #expect(invoke(path)["data"]?["status"] == "SUCCEEDED")
        let engine = try #require(Engine())
        var labels = bench.names.labels(kind: "sandbox")
        labels["thecloud.owner"] = owner.id
        #expect(try engine.containers(labels: labels).count == 1)
        #expect(cloud.call(.delete, path, key: owner.key).status == 200)
        try eventually("the sandbox is gone") { try engine.containers(labels: labels).isEmpty }
    }

    /// A key that ends while its function runs gets no answer; what was run is taken down all the same.
    @Test func aCredentialMayEndMeanwhile() throws {
        let path = try function("def handler(payload): return 1")
        let key = try cloud.newKey(of: owner)
        #expect(cloud.call(.post, path + "/invoke", key: key.text)["data"]?["status"] == "SUCCEEDED")
        let name = "end_key_\(key.id.suffix(12))"
        try cloud.admin(
            """
            create function \(verbatim: name)() returns trigger language plpgsql security definer
            as $$ begin delete from api_keys where id = '\(verbatim: key.id)'; return null; end $$
            """)
        try cloud.admin(
            """
            create trigger \(verbatim: name) after update on invocations for each row
            when (new.status = 'RUNNING' and new.owner_id = '\(verbatim: owner.id)') execute function \(verbatim: name)()
            """)
        let answer = cloud.call(.post, path + "/invoke", key: key.text)
        #expect(answer.status == 401, "\(answer)")
        let found = cloud.call(.get, path + "/invocations", key: owner.key)["data"]?.array ?? []
        #expect(found.map { $0["status"] } == ["SUCCEEDED", "SUCCEEDED"])
    }
}
