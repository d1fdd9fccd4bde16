// An instance after its creation: moves between states, renaming, deletion, lists page by page. What is on the engine is written by hand here.
import HTTP
import Postgres
import TestSupport
import Testing

struct InstanceLifeTests {
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        cloud = try TestCloud()
        owner = try cloud.newOwner()
    }

    /// STARTING→RUNNING⇄STOPPED, RUNNING⇄PAUSED; ERROR may be tried again or given up; TERMINATING goes nowhere.
    @Test(arguments: [
        ("RUNNING", "RUNNING", "RUNNING", 200), ("RUNNING", "RUNNING", "STOPPED", 200), ("RUNNING", "RUNNING", "PAUSED", 200),
        ("STOPPED", "STOPPED", "RUNNING", 200), ("STOPPED", "STOPPED", "STOPPED", 200), ("STOPPED", "STOPPED", "PAUSED", 409),
        ("PAUSED", "PAUSED", "RUNNING", 200), ("PAUSED", "PAUSED", "PAUSED", 200), ("PAUSED", "PAUSED", "STOPPED", 409),
        ("RUNNING", "STARTING", "RUNNING", 200), ("RUNNING", "STARTING", "STOPPED", 200), ("RUNNING", "STARTING", "PAUSED", 409),
        ("RUNNING", "ERROR", "RUNNING", 200), ("RUNNING", "ERROR", "STOPPED", 200), ("RUNNING", "ERROR", "PAUSED", 409),
        ("DELETED", "TERMINATING", "RUNNING", 409), ("DELETED", "TERMINATING", "STOPPED", 409),
        ("STOPPED", "RUNNING", "RUNNING", 200), ("STOPPED", "RUNNING", "PAUSED", 409),
    ])
    func moves(desired: String, status: String, wish: String, answered: Int) throws {
        let id = try create("web")
        try put(id, desired, status)
        try cloud.admin("delete from jobs where kind = 'instance' and subject = \(id)")
        let answer = cloud.call(.put, "/instances/\(id)", key: owner.key, json: ["status": .string(wish)])
        #expect(answer.status == answered, "\(answer)")
        let present = try cloud.admin("select desired from instances where id = \(id)::uuid").scalar(String.self)
        #expect(present == (answered == 200 ? wish : desired))
        let jobs = try cloud.admin("select count(*) from jobs where kind = 'instance' and subject = \(id)").scalar(Int.self)
        #expect(jobs == (answered == 200 ? 1 : 0))
        if answered == 409 { #expect(answer.code == "CONFLICT") }
    }

    @Test func whatAnImpossibleMoveSays() throws {
        let id = try create("web")
        try put(id, "STOPPED", "STOPPED")
        expect(
            cloud.call(.put, "/instances/\(id)", key: owner.key, json: ["status": "PAUSED"]), 409,
            error: "conflict", "CONFLICT", "An instance that is STOPPED can't become PAUSED")
    }

    @Test func anErrorIsTriedAgain() throws {
        let id = try create("web")
        try cloud.admin("update instances set status = 'ERROR', status_reason = 'broken', restarts = 6 where id = \(id)::uuid")
        #expect(cloud.call(.get, "/instances/\(id)", key: owner.key)["data"]?["status_reason"] == "broken")
        let answer = cloud.call(.put, "/instances/\(id)", key: owner.key, json: ["status": "RUNNING"])
        #expect(answer["data"]?["status"] == "STARTING" && answer["data"]?["status_reason"] == .null)
        #expect(try cloud.admin("select restarts from instances where id = \(id)::uuid").scalar(Int.self) == 0)
    }

    @Test func renaming() throws {
        let (id, _) = (try create("web"), try create("taken"))
        let answer = cloud.call(.put, "/instances/\(id)", key: owner.key, json: ["name": "web-2"])
        #expect(answer.status == 200 && answer["data"]?["name"] == "web-2" && answer["data"]?["status"] == "STARTING")
        expect(
            cloud.call(.put, "/instances/\(id)", key: owner.key, json: ["name": "taken"]), 409,
            error: "conflict", "ALREADY_EXISTS", "You have an instance of this name already")
        let bad = cloud.call(.put, "/instances/\(id)", key: owner.key, json: ["name": "", "status": "TERMINATING"])
        #expect(bad.status == 400 && bad.badFields == ["name", "status"])
        #expect(cloud.call(.put, "/instances/\(id)", key: owner.key, json: ["image": "other"]).badFields == ["status"])
    }

    @Test(arguments: ["STARTING", "RUNNING", "STOPPED", "PAUSED", "ERROR"])
    func deletionWorksInAnyState(status: String) throws {
        let id = try create("web")
        try put(id, status == "STARTING" || status == "ERROR" ? "RUNNING" : status, status)
        expect(cloud.call(.delete, "/instances/\(id)", key: owner.key), 200, #"{"message": "Instance is being terminated"}"#)
        #expect(cloud.call(.get, "/instances/\(id)", key: owner.key)["data"]?["status"] == "TERMINATING")
        #expect(cloud.call(.delete, "/instances/\(id)", key: owner.key).status == 200, "asking twice does no harm")
        expect(
            cloud.call(.put, "/instances/\(id)", key: owner.key, json: ["name": "late"]), 409, error: "conflict", "CONFLICT",
            "The instance is being terminated")
        let wanted = try cloud.admin("select wanted from jobs where kind = 'instance' and subject = \(id)").scalar(Int.self)
        #expect(wanted == 3)
        try cloud.admin("delete from instances where id = \(id)::uuid")
        for method in [HTTP.Method.get, .delete] {
            expect(cloud.call(method, "/instances/\(id)", key: owner.key), 404, error: "not_found", "NOT_FOUND", "No such object")
        }
    }

    @Test func changesAreWrittenDown() throws {
        let id = try create("web")
        _ = cloud.call(.put, "/instances/\(id)", key: owner.key, json: ["status": "STOPPED"])
        _ = cloud.call(.delete, "/instances/\(id)", key: owner.key)
        let entries = cloud.call(.get, "/auth/audit?limit=3", key: owner.key)["data"]?.array ?? []
        #expect(entries.map { $0["action"]?.string } == ["instance.deleted", "instance.updated", "instance.created"])
        #expect(entries.allSatisfy { $0["resource_id"]?.string == id && $0["resource_type"] == "instance" })
        #expect(entries.map { $0["detail"]?["status"] } == [nil, "STOPPED", nil])
    }

    @Test func listsPageByPageNewestFirst() throws {
        let ids = try (0..<5).map { try create("web-\($0)") }.reversed()
        var (seen, cursor, pages) = ([String](), "", 0)
        repeat {
            let page = cloud.call(.get, "/instances?limit=2\(cursor.isEmpty ? "" : "&cursor=\(cursor)")", key: owner.key)
            seen += (page["data"]?.array ?? []).compactMap { $0["id"]?.string }
            cursor = page["meta"]?["next_cursor"]?.string ?? ""
            pages += 1
        } while !cursor.isEmpty && pages < 9
        #expect(seen == Array(ids) && pages == 3)
        #expect(cloud.call(.get, "/instances?limit=5", key: owner.key)["meta"]?["next_cursor"] == .null)
    }

    @Test(arguments: [
        "limit=0": ["limit"], "limit=101": ["limit"], "limit=x": ["limit"], "limit=": ["limit"], "cursor=": ["cursor"],
        "cursor=c_x": ["cursor"], "limit=1e1&cursor=0": ["limit", "cursor"], "limit=-1&limit=5": ["limit"],
    ])
    func badPaging(query: String, fields: [String]) {
        let answer = cloud.call(.get, "/instances?\(query)", key: owner.key)
        #expect(answer.status == 400 && answer.badFields == fields, "\(answer)")
    }

    /// A cursor is no way to others' objects: it only says where to go on.
    @Test func aForeignCursorShowsNothingForeign() throws {
        let other = try cloud.newOwner()
        let mine = try create("mine")
        let theirs =
            cloud.call(.post, "/instances", key: other.key, json: ["name": "theirs", "image": "nginx"])["data"]?["id"]?.string ?? ""
        let page = cloud.call(.get, "/instances?cursor=c_\(theirs)", key: owner.key)
        #expect(page["data"]?.array?.map { $0["id"]?.string } == [mine])
    }

    /// The engine is asked by the long pool only; here there is none, so what is foreign must be refused before.
    @Test(arguments: ["logs", "stats"])
    func logsAndStatisticsOfStrangersAreNotFound(what: String) throws {
        let other = try cloud.newOwner()
        let id = try create("web")
        expect(
            cloud.call(.get, "/instances/\(id)/\(what)", key: other.key), 404, error: "not_found", "NOT_FOUND", "No such object")
        let bad = cloud.call(.get, "/instances/\(id)/logs?tail=0", key: owner.key)
        #expect(bad.status == 400 && bad.badFields == ["tail"])
    }

    private func create(_ name: String) throws -> String {
        let answer = cloud.call(.post, "/instances", key: owner.key, json: ["name": .string(name), "image": "nginx"])
        return try #require(answer["data"]?["id"]?.string, "\(answer)")
    }

    private func put(_ id: String, _ desired: String, _ status: String) throws {
        try cloud.admin("update instances set desired = \(desired), status = \(status) where id = \(id)::uuid")
    }
}
