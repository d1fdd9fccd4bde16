// /api/v1/runs through the door: the life of a run, its list, what is refused, and what listeners and the audit log are told.
import Crypto
import HTTP
import Postgres
import TestSupport
import Testing

struct RunTests {
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        cloud = try TestCloud()
        owner = try cloud.newOwner()
    }

    private func literal(
        name: String = "Load", description: String = "null", config: String = "{}", status: String = "pending", result: String = "null",
        tps: String = "null", started: String = "null", finished: String = "null"
    ) -> String {
        """
        {"id": "$id", "name": "\(name)", "description": \(description), "config": \(config), "status": "\(status)", "result": \(result),
        "tps": \(tps), "created_at": "$time", "updated_at": "$time", "started_at": \(started), "finished_at": \(finished)}
        """
    }

    @Test func theLifeOfARun() throws {
        let made = cloud.call(
            .post, "/api/v1/runs", key: owner.key,
            text:
                #"{"name": "Load", "description": "nightly", "config": {"b": [1, 2.5, null, "é\u0001"], "a": {"": true}}, "status": "failed"}"#
        )
        let config = #"{"b": [1, 2.5, null, "é\u0001"], "a": {"": true}}"#
        expect(made, 201, literal(description: #""nightly""#, config: config))
        let path = "/api/v1/runs/\(try #require(made["id"]?.string))"
        expect(cloud.call(.get, path, key: owner.key), 200, made.text)
        expect(
            put(path, ["name": "Load 2", "config": ["c": 1]]), 200,
            literal(name: "Load 2", description: #""nightly""#, config: #"{"c": 1}"#))
        expect(
            put(path, ["description": ""]), 200, literal(name: "Load 2", description: #""""#, config: #"{"c": 1}"#))
        let running = put(path + "/status", ["status": "running"])
        expect(
            running, 200,
            literal(name: "Load 2", description: #""""#, config: #"{"c": 1}"#, status: "running", started: #""$time""#))
        let half = put(path + "/tps", ["max": 1500, "95p": .double(1400.5)])
        expect(
            half, 200,
            literal(
                name: "Load 2", description: #""""#, config: #"{"c": 1}"#, status: "running",
                tps: #"{"max": 1500, "min": null, "average": null, "95p": 1400.5, "99p": null}"#, started: #""$time""#))
        let full = put(path + "/tps", ["min": 0, "average": 700, "99p": 1490, "max": 1501])
        expect(
            full, 200,
            literal(
                name: "Load 2", description: #""""#, config: #"{"c": 1}"#, status: "running",
                tps: #"{"max": 1501, "min": 0, "average": 700, "95p": 1400.5, "99p": 1490}"#, started: #""$time""#))
        let done = put(path + "/status", ["status": "completed", "result": ["ok": true]])
        #expect(done.status == 200 && done["status"] == "completed" && done["result"] == ["ok": true], "\(done)")
        #expect(done["started_at"] == running["started_at"] && done["finished_at"] != .null && done["tps"]?["max"] == 1501)
        expect(cloud.call(.delete, path, key: owner.key), 200, #"{"message": "Run deleted"}"#)
        #expect(cloud.call(.get, path, key: owner.key).status == 404)
        let types = try cloud.admin(
            "select array_agg(type order by id) from events where owner_id = \(owner.id)::uuid and type like 'run.%'"
        ).scalar([String].self)
        #expect(types == ["run.created", "run.running", "run.completed", "run.deleted"])
        let actions = try cloud.admin(
            "select array_agg(action order by id) from audit_log where owner_id = \(owner.id)::uuid and action like 'run.%'"
        ).scalar([String].self)
        #expect(
            actions == [
                "run.created", "run.updated", "run.updated", "run.status_changed", "run.updated", "run.updated", "run.status_changed",
                "run.deleted",
            ])
    }

    @Test func listenersAreToldOfAChange() throws {
        let id = try make("Load")
        _ = move(id, "running", ["result": 1])
        _ = move(id, "failed")
        let row = try cloud.admin(
            "select data::text from events where resource_id = \(id)::uuid and type = 'run.failed' and owner_id = \(owner.id)::uuid")
        let data = try JSON(parsing: Array((row.scalar(String.self) ?? "").utf8))
        let members: KeyValuePairs<String, JSON> = [
            "id": .string(id), "name": "Load", "status": "failed", "previous_status": "running", "result": 1,
        ]
        for (name, value) in members { #expect(data[name] == value, "\(data.text)") }
    }

    /// All pairs: only pending→running and running→completed, failed or cancelled are moves.
    @Test func onlyTheDocumentedMovesAreMoves() throws {
        let all = ["pending", "running", "completed", "failed", "cancelled"]
        let allowed: Set<String> = ["pending running", "running completed", "running failed", "running cancelled"]
        for present in all {
            for next in all {
                let id = try make("Load")
                if present != "pending" { #expect(move(id, "running").status == 200) }
                if present != "pending", present != "running" { #expect(move(id, present).status == 200) }
                let answer = move(id, next)
                if allowed.contains("\(present) \(next)") {
                    #expect(answer.status == 200 && answer["status"]?.string == next, "\(answer)")
                } else {
                    expect(answer, 409, error: "conflict", "CONFLICT", "A run that is \(present) can't become \(next)")
                }
            }
        }
    }

    @Test func ofTwoMovesAtOnceOneWins() throws {
        let id = try make("Load")
        #expect(move(id, "running").status == 200)
        let path = "/api/v1/runs/\(id)/status"
        let key = owner.key
        let statuses = try sideBySide(12, threads: 6) {
            let cloud = try TestCloud()
            return { cloud.call(.put, path, key: key, json: ["status": "completed"]).status }
        }
        #expect(statuses.filter { $0 == 200 }.count == 1 && statuses.filter { $0 == 409 }.count == 11, "\(statuses)")
        let told = try cloud.admin("select count(*) from events where resource_id = \(id)::uuid and type = 'run.completed'")
        #expect(told.scalar(Int.self) == 1)
    }

    @Test func everyBadFieldIsNamedAtOnce() throws {
        let path = "/api/v1/runs/\(try make("Load"))"
        #expect(post(["name": "", "description": 1, "config": []]).badFields == ["name", "description", "config"])
        #expect(post(["description": "x"]).badFields == ["name", "config"])
        #expect(post(["name": "x", "config": nil]).badFields == ["config"])
        #expect(put(path, [:]).badFields == ["name"] && put(path, ["config": "x"]).badFields == ["config"])
        #expect(put(path + "/status", ["status": "RUNNING"]).badFields == ["status"])
        #expect(put(path + "/status", [:]).badFields == ["status"])
        #expect(put(path + "/tps", [:]).badFields == ["average"])
        #expect(
            put(path + "/tps", ["max": -1, "min": "1", "average": true, "95p": [], "99p": .double(-0.5)]).badFields
                == ["max", "min", "average", "95p", "99p"])
        for number in ["1e999", "NaN", "Infinity", "-1e999"] {
            let answer = cloud.call(.put, path + "/tps", key: owner.key, text: #"{"max": \#(number)}"#)
            #expect(answer.status == 400, "\(number): \(answer)")
        }
        #expect(cloud.call(.get, path, key: owner.key)["tps"] == .null)
    }

    @Test func configAndResultHaveALimit() throws {
        func body(_ count: Int) -> JSON { ["name": "Load", "config": ["a": .string(String(repeating: "x", count: count))]] }
        let most = post(body(65536 - 8))
        #expect(most.status == 201 && most["config"]?["a"]?.string?.count == 65528)
        #expect(post(body(65536 - 7)).badFields == ["config"])
        let path = "/api/v1/runs/\(try #require(most["id"]?.string))"
        #expect(
            put(path + "/status", ["status": "running", "result": .string(String(repeating: "x", count: 65535))]).badFields == ["result"])
        #expect(cloud.call(.get, path, key: owner.key)["status"] == "pending")
        // Short to write, long to show: each of these numbers is 309 digits to PostgreSQL.
        let numbers = Array(repeating: "1e308", count: 2000).joined(separator: ",")
        let grown = cloud.call(.post, "/api/v1/runs", key: owner.key, text: #"{"name": "Load", "config": {"a": [\#(numbers)]}}"#)
        #expect(grown.status == 400 && grown.badFields == ["config"], "\(grown)")
        let result = cloud.call(.put, path + "/status", key: owner.key, text: #"{"status": "running", "result": [\#(numbers)]}"#)
        #expect(result.status == 400 && result.badFields == ["result"], "\(result)")
    }

    @Test func listsArePagedSearchedFilteredAndSorted() throws {
        let names = ["alpha", "Beta", "50%_off\\", "gamma", "ÄTHER"]
        let ids = try names.map { try make($0, description: $0 == "gamma" ? "mentions Alpha" : nil) }
        _ = move(ids[1], "running")
        _ = move(ids[3], "running")
        _ = move(ids[3], "failed")
        func list(_ query: String) -> (names: [String], total: Int?) {
            let answer = cloud.call(.get, "/api/v1/runs?" + query, key: owner.key)
            return ((answer["runs"]?.array ?? []).map { $0["name"]?.string ?? "" }, answer["total"]?.int)
        }
        #expect(list("") == (names.reversed(), 5))
        #expect(list("sort_order=asc") == (names, 5))
        #expect(list("page=2&limit=2") == (["50%_off\\", "Beta"], 5))
        #expect(list("page=3&limit=2") == (["alpha"], 5))
        #expect(list("page=4&limit=2") == ([], 5))
        #expect(list("page=1000000&limit=100") == ([], 5))
        #expect(list("search=ALPHA") == (["gamma", "alpha"], 2))
        #expect(list("search=%C3%A4th") == (["ÄTHER"], 1))
        for letter in ["%25", "_", "%5C", "%25_off%5C"] { #expect(list("search=\(letter)") == (["50%_off\\"], 1)) }
        #expect(list("search=") == (names.reversed(), 5))
        #expect(list("search=nothing") == ([], 0))
        #expect(list("status=pending") == (["ÄTHER", "50%_off\\", "alpha"], 3))
        #expect(list("status=failed&search=a") == (["gamma"], 1))
        #expect(list("sort_by=name&sort_order=asc").names == ["50%_off\\", "Beta", "alpha", "gamma", "ÄTHER"])
        #expect(list("sort_by=status&sort_order=asc").names == ["gamma", "alpha", "50%_off\\", "ÄTHER", "Beta"])
        #expect(list("sort_by=updated_at&limit=2").names == ["gamma", "Beta"])
        let one = cloud.call(.get, "/api/v1/runs?search=beta", key: owner.key)
        expect(
            one, 200,
            #"{"runs": [\#(literal(name: "Beta", status: "running", started: #""$time""#))], "total": 1, "page": 1, "limit": 20}"#)
        let nobody = try cloud.newOwner()
        expect(
            cloud.call(.get, "/api/v1/runs?page=2&limit=7", key: nobody.key), 200, #"{"runs": [], "total": 0, "page": 2, "limit": 7}"#)
    }

    @Test func everyBadParameterIsNamedAtOnce() {
        let query = "page=0&limit=101&search=%00&status=PENDING&sort_by=id;drop&sort_order=up"
        let answer = cloud.call(.get, "/api/v1/runs?" + query, key: owner.key)
        expect(
            answer, 400, error: "bad_request", "VALIDATION_FAILED",
            """
            page must be a whole number from 1 to 1000000; limit must be a whole number from 1 to 100; \
            search must be a text of at most 200 characters; status must be one of pending, running, completed, failed, cancelled; \
            sort_by must be one of created_at, updated_at, name, status; sort_order must be one of desc, asc
            """,
            fields: [
                "page": "must be a whole number from 1 to 1000000", "limit": "must be a whole number from 1 to 100",
                "search": "must be a text of at most 200 characters",
                "status": "must be one of pending, running, completed, failed, cancelled",
                "sort_by": "must be one of created_at, updated_at, name, status", "sort_order": "must be one of desc, asc",
            ])
        for query in ["page=-1", "page=x", "page=", "limit=0", "limit=1e1", "status=", "sort_by=", "sort_order=DESC"] {
            #expect(cloud.call(.get, "/api/v1/runs?" + query, key: owner.key).badFields.count == 1, "\(query)")
        }
    }

    @Test func whatAFilterNeeds() throws {
        _ = try make("a")
        #expect(move(try make("b"), "running").status == 200)
        expect(
            cloud.call(.get, "/api/v1/runs/filter-options", key: owner.key), 200,
            """
            {"statuses": ["pending", "running", "completed", "failed", "cancelled"],
            "counts": {"pending": 1, "running": 1, "completed": 0, "failed": 0, "cancelled": 0},
            "sort_by": ["created_at", "updated_at", "name", "status"], "sort_order": ["desc", "asc"]}
            """)
    }

    @Test func aRetriedCreateIsOneRun() {
        for _ in 1...2 {
            let answer = cloud.call(
                .post, "/api/v1/runs", key: owner.key, json: ["name": "Load", "config": [:]], headers: ["Idempotency-Key": "k"])
            #expect(answer.status == 201)
        }
        #expect(cloud.call(.get, "/api/v1/runs", key: owner.key)["total"] == 1)
    }

    private func make(_ name: String, description: String? = nil) throws -> String {
        let answer = post(["name": .string(name), "description": .optional(description), "config": [:]])
        return try #require(answer["id"]?.string, "\(answer)")
    }

    private func move(_ id: String, _ status: String, _ further: KeyValuePairs<String, JSON> = [:]) -> Answer {
        put("/api/v1/runs/\(id)/status", (["status": .string(status)] as JSON).adding(further))
    }

    private func post(_ body: JSON) -> Answer { cloud.call(.post, "/api/v1/runs", key: owner.key, json: body) }

    private func put(_ path: String, _ body: JSON) -> Answer { cloud.call(.put, path, key: owner.key, json: body) }
}
