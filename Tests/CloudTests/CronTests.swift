// /cron through the door: the life of a job, what is refused and how it is said, and what is kept secret.
import HTTP
import Postgres
import TestSupport
import Testing

struct CronTests {
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        cloud = try TestCloud(["THECLOUD_QUOTA_CRON": "3"])
        owner = try cloud.newOwner()
    }

    private func post(_ path: String, _ body: JSON? = nil) -> Answer { cloud.call(.post, path, key: owner.key, json: body) }
    private func put(_ path: String, _ body: JSON) -> Answer { cloud.call(.put, path, key: owner.key, json: body) }
    private func get(_ path: String) -> Answer { cloud.call(.get, path, key: owner.key) }

    private func job(_ more: KeyValuePairs<String, JSON> = [:]) -> JSON {
        let body: JSON = ["name": "daily-cleanup", "schedule": "0 0 * * *", "target_url": "http://my-service/cleanup"]
        guard case .object(let members) = body else { return body }
        return JSON.object(members.filter { member in !more.contains { $0.key == member.name } }).adding(more)
    }

    private func made(_ more: KeyValuePairs<String, JSON> = [:]) throws -> String {
        let answer = post("/cron", job(more))
        return "/cron/" + (try #require(answer["data"]?["id"]?.string, "\(answer)"))
    }

    private func literal(
        _ name: String = "daily-cleanup", schedule: String = "0 0 * * *", timezone: String = "UTC", method: String = "POST",
        headers: String = "{}", payload: String = "null", timeout: Int = 30, retries: Int = 0, overlap: String = "allow",
        missed: String = "skip", isPaused: Bool = false
    ) -> String {
        """
        {"id": "$id", "name": "\(name)", "schedule": "\(schedule)", "timezone": "\(timezone)", "target_url": "http://my-service/cleanup",
        "method": "\(method)", "headers": \(headers), "payload": \(payload), "timeout": \(timeout), "retries": \(retries),
        "overlap": "\(overlap)", "missed": "\(missed)", "status": "\(isPaused ? "PAUSED" : "ACTIVE")",
        "next_run_at": \(isPaused ? "null" : #""$time""#),
        "next_runs": \(isPaused ? "[]" : #"["$time", "$time", "$time", "$time", "$time"]"#), "created_at": "$time", "updated_at": "$time"}
        """
    }

    /// The body of the documentation, as it stands there.
    @Test func theDocumentedJob() throws {
        let answer = cloud.call(
            .post, "/cron", key: owner.key,
            text: #"{"name": "daily-cleanup", "schedule": "0 0 * * *", "target_url": "http://my-service/cleanup"}"#)
        expect(answer, 201, #"{"data": \#(literal())}"#)
        let times = try #require(answer["data"]?["next_runs"]?.array).compactMap { $0.string.flatMap(Timestamp.init(rfc3339:)) }
        #expect(times.first?.description == answer["data"]?["next_run_at"]?.string)
        #expect(times.allSatisfy { $0.microseconds % 86_400_000_000 == 0 })
        #expect(zip(times, times.dropFirst()).allSatisfy { $1.microseconds - $0.microseconds == 86_400_000_000 } && times.count == 5)
        let path = "/cron/" + (try #require(answer["data"]?["id"]?.string))
        expect(get(path), 200, answer.text)
        expect(get("/cron"), 200, #"{"data": [\#(literal())], "meta": {"next_cursor": null}}"#)
        expect(post(path + "/pause"), 200, #"{"message": "Cron job paused", "data": \#(literal(isPaused: true))}"#)
        expect(post(path + "/pause"), 200, #"{"message": "Cron job paused", "data": \#(literal(isPaused: true))}"#)
        expect(post(path + "/resume"), 200, #"{"message": "Cron job resumed", "data": \#(literal())}"#)
        expect(post(path + "/resume"), 200, #"{"message": "Cron job resumed", "data": \#(literal())}"#)
        expect(get(path + "/runs"), 200, #"{"data": [], "meta": {"next_cursor": null}}"#)
        let run = """
            {"id": "$id", "cron_id": "\(path.dropFirst(6))", "trigger": "manual", "due_at": "$time", "status": "SCHEDULED", "attempt": 0,
            "next_attempt_at": "$time", "started_at": null, "finished_at": null, "duration_ms": null, "response_status": null,
            "response_excerpt": null, "error": null, "created_at": "$time"}
            """
        let ran = post(path + "/run")
        expect(ran, 202, #"{"data": \#(run)}"#)
        expect(get(path + "/runs"), 200, #"{"data": [\#(run)], "meta": {"next_cursor": null}}"#)
        expect(cloud.call(.delete, path, key: owner.key), 200, #"{"message": "Cron job deleted"}"#)
        #expect(get(path).status == 404 && get(path + "/runs").status == 404 && post(path + "/run").status == 404)
        let told = try cloud.admin("select string_agg(type, ' ' order by id) from events where owner_id = \(owner.id)::uuid")
        #expect(told.scalar(String.self) == "cron.created cron.paused cron.resumed cron.deleted")
        let audit = try cloud.admin(
            "select string_agg(action, ' ' order by id) from audit_log where owner_id = \(owner.id)::uuid and resource_type = 'cron'")
        #expect(audit.scalar(String.self) == "cron.created cron.paused cron.resumed cron.run cron.deleted")
    }

    @Test func everyMember() throws {
        let all = literal(
            "n", schedule: "@hourly", timezone: "America/New_York", method: "PUT",
            headers: #"{"Authorization": "********", "X-Empty": "********"}"#, payload: #"{"a": [1, 2.5, null, "é"]}"#, timeout: 300,
            retries: 10, overlap: "forbid", missed: "run_once")
        let answer = post(
            "/cron",
            job([
                "name": "n", "schedule": "@hourly", "timezone": "America/New_York", "method": "PUT",
                "headers": ["Authorization": "Bearer s3cr3t-s3cr3t", "X-Empty": ""], "payload": ["a": [1, .double(2.5), nil, "é"]],
                "timeout": 300, "retries": 10, "overlap": "forbid", "missed": "run_once", "status": "PAUSED", "next_run_at": "x",
            ]))
        expect(answer, 201, #"{"data": \#(all)}"#)
        let path = "/cron/" + (try #require(answer["data"]?["id"]?.string))
        // What is not said stays, sealed headers too.
        let sealed = try cloud.admin("select headers_sealed from cron_jobs where owner_id = \(owner.id)::uuid").scalar([UInt8].self)
        expect(put(path, ["timeout": 20]), 200, #"{"data": \#(all.replacing("300,", with: "20,"))}"#)
        #expect(try cloud.admin("select headers_sealed from cron_jobs where owner_id = \(owner.id)::uuid").scalar([UInt8].self) == sealed)
        expect(
            put(path, ["headers": [:], "payload": "", "method": "GET", "timeout": 300]), 200,
            #"{"data": \#(literal("n", schedule: "@hourly", timezone: "America/New_York", method: "GET", timeout: 300, retries: 10, overlap: "forbid", missed: "run_once"))}"#
        )
        #expect(try cloud.admin("select headers_sealed is null from cron_jobs where owner_id = \(owner.id)::uuid").scalar() == true)
        // Neither headers nor the URL stand in what others read.
        let rows = try cloud.admin(
            """
            select (select coalesce(string_agg(detail::text, ' '), '') from audit_log where owner_id = \(owner.id)::uuid)
            || (select coalesce(string_agg(data::text, ' '), '') from events where owner_id = \(owner.id)::uuid)
            || (select string_agg(c::text, ' ') from cron_jobs c where owner_id = \(owner.id)::uuid)
            """)
        let text = try #require(rows.scalar(String.self))
        #expect(!text.contains("s3cr3t") && text.ranges(of: "my-service").count == 1, "\(text)")
    }

    @Test func allThatIsWrongIsNamedAtOnce() {
        let answer = post(
            "/cron",
            [
                "name": "a b", "schedule": "61 * * * *", "timezone": "Mars/Olympus", "target_url": "ftp://x/", "method": "BREW",
                "headers": ["Host": "x"], "timeout": 0, "retries": 11, "overlap": "maybe", "missed": "never",
            ])
        #expect(answer.status == 400 && answer.code == "VALIDATION_FAILED", "\(answer)")
        #expect(
            Set(answer.badFields) == [
                "name", "schedule", "timezone", "target_url", "method", "headers", "timeout", "retries", "overlap", "missed",
            ], "\(answer)")
        #expect(post("/cron", [:]).badFields == ["name", "schedule", "target_url"])
        let path = "/cron/01890000-0000-7000-8000-000000000000"
        expect(
            put(path, [:]), 400, error: "bad_request", "VALIDATION_FAILED", "schedule or another member is required",
            fields: ["schedule": "or another member is required"])
    }

    @Test(arguments: [
        ("often", "must have the five fields minute, hour, day of month, month, day of week, or a name such as @daily"),
        ("0 0 31 2 *", "names no day that ever comes"),
        ("@reboot", "may be named @hourly, @daily, @midnight, @weekly, @monthly, @yearly or @annually"),
        ("* 24 * * *", "hour must be made of *, 0–23, ranges a-b, steps /n and commas"),
    ])
    func badSchedules(schedule: String, message: String) {
        expect(
            post("/cron", job(["schedule": .string(schedule)])), 400, error: "bad_request", "VALIDATION_FAILED", "schedule \(message)",
            fields: ["schedule": message])
    }

    @Test(
        arguments: [
            ["Host": "x"], ["content-length": "1"], ["Transfer-Encoding": "chunked"], ["Connection": "close"], ["Upgrade": "h2c"],
            ["TE": "x"],
            ["Trailer": "x"], ["Keep-Alive": "x"], ["Proxy-Authorization": "x"], ["Expect": "100-continue"], ["User-Agent": "x"],
            ["X-Cloud-Cron-Run": "x"], ["a b": "x"], ["a:b": "x"], ["": "x"], ["é": "x"], ["A": "x\r\nB: y"], ["A": "\u{1}"], ["A": 1],
            ["A": "********"], ["A": "x", "a": "y"], ["A": .string(String(repeating: "x", count: 16384))], "A: x", ["A"],
        ] as [JSON])
    func badHeaders(headers: JSON) {
        let answer = post("/cron", job(["headers": headers]))
        #expect(answer.status == 400 && answer.badFields == ["headers"], "\(answer)")
    }

    @Test func targetsObeyTheEgressRule() {
        let answer = post("/cron", job(["target_url": "http://127.0.0.1/"]))
        #expect(answer.status == 400 && answer.code == "TARGET_FORBIDDEN" && answer.badFields == ["target_url"], "\(answer)")
        for url in ["http://0x7f.1/", "http://user@host/", "file:///etc/passwd", "my-service/cleanup", ""] {
            #expect(post("/cron", job(["target_url": .string(url)])).badFields == ["target_url"])
        }
    }

    @Test func payloads() throws {
        let path = try made(["payload": "plain"])
        #expect(get(path)["data"]?["payload"] == "plain")
        let none: KeyValuePairs = ["payload": "is not sent with GET; choose another method"]
        expect(
            put(path, ["method": "GET"]), 400, error: "bad_request", "VALIDATION_FAILED",
            "payload is not sent with GET; choose another method", fields: none)
        #expect(post("/cron", job(["name": "g", "method": "GET", "payload": [1]])).badFields == ["payload"])
        #expect(put(path, ["payload": .string(String(repeating: "\"", count: 65536))]).status == 200)
        #expect(put(path, ["payload": .string(String(repeating: "x", count: 65537))]).badFields == ["payload"])
        #expect(put(path, ["payload": [.string(String(repeating: "x", count: 65536))]]).badFields == ["payload"])
        for payload in [false, 0, .array([])] as [JSON] {
            #expect(put(path, ["payload": payload])["data"]?["payload"] == payload)
        }
    }

    @Test func namesAreUniqueAndThereIsAQuota() throws {
        _ = try made()
        expect(
            post("/cron", job()), 409, error: "conflict", "ALREADY_EXISTS", "You have a cron job of this name already")
        let other = try made(["name": "b"])
        #expect(put(other, ["name": "daily-cleanup"]).code == "ALREADY_EXISTS")
        _ = try made(["name": "c"])
        expect(
            post("/cron", job(["name": "d"])), 403, error: "forbidden", "QUOTA_EXCEEDED", "Quota exceeded: at most 3 cron jobs")
        #expect(cloud.call(.post, "/cron", key: try cloud.newOwner().key, json: job()).status == 201)
    }

    @Test func aNewScheduleCountsFromNowOn() throws {
        let path = try made(["schedule": "0 0 1 1 *"])
        let far = get(path)["data"]?["next_run_at"]?.string
        #expect(far?.contains("-01-01T00:00:00") == true)
        let answer = put(path, ["timezone": "Asia/Kolkata"])
        #expect(answer["data"]?["next_run_at"]?.string?.contains("-12-31T18:30:00") == true, "\(answer)")
        #expect(put(path, ["schedule": "* * * * *"])["data"]?["next_runs"]?.array?.count == 5)
        let near = try #require(get(path)["data"]?["next_run_at"]?.string.flatMap(Timestamp.init(rfc3339:)))
        #expect(near <= Timestamp.now().advanced(seconds: 61))
        // A paused one stays so, and resuming counts from then on.
        #expect(post(path + "/pause").status == 200)
        expect(
            put(path, ["schedule": "@daily"]), 200,
            #"{"data": \#(literal(schedule: "@daily", timezone: "Asia/Kolkata", isPaused: true))}"#)
        cloud.advance = 10 * 86400
        let resumed = try #require(post(path + "/resume")["data"]?["next_run_at"]?.string.flatMap(Timestamp.init(rfc3339:)))
        #expect(resumed > Timestamp.now().advanced(seconds: 10 * 86400 - 60))
    }

    @Test func anExclusiveJobRunsNoSecondTimeBesideItself() throws {
        let path = try made(["overlap": "forbid"])
        #expect(post(path + "/run").status == 202)
        expect(
            post(path + "/run"), 409, error: "conflict", "CONFLICT", #"A run of this job is not finished, and its overlap is "forbid""#)
        try cloud.admin(
            """
            update cron_runs set status = 'RUNNING', next_attempt_at = null, lease = new_id(), leased_until = now() - interval '1 second'
            where owner_id = \(owner.id)::uuid
            """)
        #expect(post(path + "/run").status == 202, "whoever sent it is dead")
        let free = try made(["name": "free"])
        for _ in 1...3 { #expect(post(free + "/run").status == 202) }
        #expect(get(free + "/runs?limit=2")["data"]?.array?.count == 2)
    }

    @Test func readersRunNothing() throws {
        let path = try made()
        let viewer = try cloud.newKey(of: owner, ["permissions": ["cron:read"]]).text
        #expect(cloud.call(.get, path, key: viewer).status == 200)
        for action in ["run", "pause", "resume"] {
            #expect(cloud.call(.post, path + "/" + action, key: viewer).code == "INSUFFICIENT_PERMISSIONS")
        }
    }
}
