// /caches as a client sees them. The engine is not asked: what cron would write is written by hand here.
import Crypto
import Docker
import HTTP
import Postgres
import TestSupport
import Testing

struct CacheTests {
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        cloud = try TestCloud(["THECLOUD_PUBLIC_HOST": "cloud.example"], engine: TestCloud.deadEngine())
        owner = try cloud.newOwner()
    }

    private func create(_ name: String, on cloud: TestCloud? = nil) throws -> String {
        let answer = (cloud ?? self.cloud).call(.post, "/caches", key: owner.key, json: ["name": .string(name), "memory_mb": 16])
        return try #require(answer["data"]?["id"]?.string, "\(answer)")
    }

    @Test func theDocumentedBody() throws {
        let answer = cloud.call(.post, "/caches", key: owner.key, text: #"{"name": "my-cache", "memory_mb": 128}"#)
        let port = try #require(answer["data"]?["port"]?.int)
        #expect((20000...32767).contains(port))
        func cache(_ password: String, _ more: String = "") -> String {
            """
            {"id": "$id", "name": "my-cache", "memory_mb": 128, "status": "CREATING", "status_reason": null, "host": "cloud.example",
             "port": \(port), "connection_url": "redis://:\(password)@cloud.example:\(port)/0"\(more), "created_at": "$time",
             "updated_at": "$time"}
            """
        }
        expect(answer, 201, #"{"data": \#(cache("********"))}"#)
        #expect(answer.header("Cache-Control") == nil)
        let id = try #require(answer["data"]?["id"]?.string)
        let details = cloud.call(.get, "/caches/\(id)", key: owner.key)
        let url = details["data"]?["connection_url"]?.string ?? ""
        let password = try #require(url.wholeMatch(of: /redis:\/\/:([0-9A-Za-z]{27,})@cloud\.example:\d+\/0/)?.1)
        expect(details, 200, #"{"data": \#(cache(String(password), #", "stats": null"#))}"#)
        #expect(details.header("Cache-Control") == "no-store")
        let list = cloud.call(.get, "/caches", key: owner.key)
        expect(list, 200, #"{"data": [\#(cache("********"))], "meta": {"next_cursor": null}}"#)
        #expect(try cloud.admin("select wanted from jobs where kind = 'cache' and subject = \(id)").scalar(Int.self) == 1)
        let held = try cloud.admin("select host_port from host_ports where cache_id = \(id)::uuid").scalar(Int.self)
        #expect(held == port)
    }

    @Test func thePasswordStandsNowhereInClear() throws {
        let id = try create("c")
        let url = cloud.call(.get, "/caches/\(id)", key: owner.key)["data"]?["connection_url"]?.string ?? ""
        let password = String(try #require(url.firstMatch(of: /:([0-9A-Za-z]{27,})@/)?.1))
        for table in ["caches", "events", "audit_log", "jobs"] {
            let rows = try cloud.admin("select coalesce(string_agg(t::text, ' '), '') from \(verbatim: table) t").scalar(String.self) ?? ""
            #expect(!rows.contains(password), "\(table)")
        }
        let other = cloud.call(.get, "/caches/\(try create("d"))", key: owner.key)["data"]?["connection_url"]?.string
        #expect(other != url && other?.contains(password) == false)
    }

    @Test func everyBadFieldIsNamedAtOnce() {
        for memory in [0, 15, 16385] {
            let bad = cloud.call(.post, "/caches", key: owner.key, json: ["name": "a b", "memory_mb": .int(memory)])
            #expect(bad.status == 400 && bad.badFields == ["name", "memory_mb"], "\(bad)")
        }
        #expect(cloud.call(.post, "/caches", key: owner.key, json: [:]).badFields == ["name", "memory_mb"])
    }

    @Test func namesAreUniqueAndQuotasHold() throws {
        _ = try create("c")
        expect(
            cloud.call(.post, "/caches", key: owner.key, json: ["name": "c", "memory_mb": 16]), 409,
            error: "conflict", "ALREADY_EXISTS", "You have a cache of this name already")
        let small = try TestCloud(["THECLOUD_QUOTA_CACHES": "2"])
        _ = try create("d", on: small)
        expect(
            small.call(.post, "/caches", key: owner.key, json: ["name": "e", "memory_mb": 16]), 403,
            error: "forbidden", "QUOTA_EXCEEDED", "Quota exceeded: at most 2 caches")
    }

    @Test func deletion() throws {
        let id = try create("c")
        expect(cloud.call(.delete, "/caches/\(id)", key: owner.key), 200, #"{"message": "Cache is being terminated"}"#)
        #expect(cloud.call(.get, "/caches/\(id)", key: owner.key)["data"]?["status"] == "TERMINATING")
        #expect(cloud.call(.delete, "/caches/\(id)", key: owner.key).status == 200, "asking twice does no harm")
        try cloud.admin("delete from caches where id = \(id)::uuid")
        #expect(cloud.call(.get, "/caches/\(id)", key: owner.key).status == 404)
        #expect(try cloud.admin("select 1 from host_ports where cache_id = \(id)::uuid").isEmpty, "its port is free")
    }

    /// Where nobody can be asked, the details are there all the same.
    @Test func withoutAnEngine() throws {
        let id = try create("c")
        expect(cloud.call(.get, "/caches/\(id)/stats", key: owner.key), 409, error: "conflict", "CONFLICT", "The cache is not running")
        try cloud.admin("update caches set status = 'RUNNING' where id = \(id)::uuid")
        #expect(cloud.call(.get, "/caches/\(id)/stats", key: owner.key).status == 503)
        let details = cloud.call(.get, "/caches/\(id)", key: owner.key)
        #expect(details.status == 200 && details["data"]?["status"] == "RUNNING" && details["data"]?["stats"] == .null)
    }
}
