// For every route of the table: who gets in, what a stranger sees, which methods there are, and that every refusal has the one error body.
import API
import Crypto
import HTTP
import Identity
import Postgres
import TestSupport
import Testing

struct SweepTests {
    let cloud: TestCloud

    init() throws { cloud = try TestCloud(engine: TestCloud.deadEngine()) }

    @Test func theTableIsThere() { #expect(Probe.all.count >= 25) }

    /// The samples are what they say: without this the refusals below would prove nothing.
    @Test(arguments: Probe.all)
    func theRightRequestIsAnswered(probe: Probe) throws {
        let owner = try Samples.caller(probe, cloud)
        let id = try Samples.object(probe, of: owner, cloud) ?? owner.id
        if probe.name == "PUT /auth/users/:id/role" { _ = try cloud.newOwner(role: "owner") }
        let target = probe.path(id) + (try Samples.query(probe, owner, cloud))
        let answer = cloud.call(probe.route.method, target, key: owner.key, json: try Samples.body(probe, owner))
        #expect(answer.status == Samples.status(probe), "\(answer)")
        #expect(answer.header("Content-Type") == "application/json; charset=utf-8")
        let url = answer["data"]?["connection_url"]?.string ?? "********"
        let isSecret =
            !url.contains("********")
            || ["key", "api_key", "token", "master_api_key", "scoped_api_key", "secret"].contains {
                answer[$0] != nil || answer["data"]?[$0] != nil
            }
        #expect(answer.header("Cache-Control") == (isSecret ? "no-store" : nil))
    }

    /// No key, and every kind of a bad one, are the same 401.
    @Test(arguments: Probe.closed)
    func withoutALivingKeyNobodyGetsIn(probe: Probe) throws {
        let owner = try Samples.caller(probe, cloud, role: nil)
        let body = try Samples.body(probe, owner)
        for key in [
            nil, "ck_live_", "sk_user_x", KeyText.make(prefix: "ck_live_"), KeyText.make(prefix: "sk_user_"), "", "apk_123456789",
            "thecloud_", owner.key + "x", String(owner.key.dropLast()), KeyText.make(prefix: "thecloud_"),
            "\u{0}", "é",
        ] {
            expect(
                cloud.call(probe.route.method, probe.path(owner.id), key: key, json: body), 401,
                error: "unauthorized", probe.refusal.code, probe.refusal.message)
        }
        try cloud.admin("update api_keys set expires_at = now() where owner_id = \(owner.id)::uuid")
        expect(
            cloud.call(probe.route.method, probe.path(owner.id), key: owner.key, json: body), 401,
            error: "unauthorized", probe.expiry.code, probe.expiry.message)
    }

    /// A person's key of other permissions, and a client's or its user's where theirs don't reach: nothing gets in and nothing is changed.
    @Test(arguments: Probe.closed)
    func withoutThePermissionNobodyGetsIn(probe: Probe) throws {
        let owner = try Samples.caller(probe, cloud)
        let id = try Samples.object(probe, of: owner, cloud) ?? owner.id
        let keys = try Samples.weakKeys(probe, owner, cloud)
        #expect(!keys.isEmpty)
        let body = try Samples.body(probe, owner)
        for key in keys {
            expect(
                cloud.call(probe.route.method, probe.path(id), key: key, json: body), 403,
                error: "forbidden", "INSUFFICIENT_PERMISSIONS", probe.denial)
        }
        if probe.route.path.hasSuffix(":id"), probe.route.method == .delete {
            #expect(cloud.call(.delete, probe.path(id), key: owner.key).status == Samples.status(probe))
        }
    }

    /// What belongs to somebody else, what never was and what is no id at all can't be told apart.
    @Test(arguments: Probe.withID)
    func strangersObjectsAreNotFound(probe: Probe) throws {
        let (owner, stranger) = (try Samples.caller(probe, cloud), try Samples.caller(probe, cloud, role: nil))
        let foreign = try Samples.object(probe, of: stranger, cloud)
        let unknown = "01890000-0000-7000-8000-000000000000"
        let malformed = ["0", "x", "-", "null", "..", "*", unknown + "0", "g" + unknown.dropFirst(), "'; select 1", "é", "\u{0}"]
        for id in [foreign, unknown].compactMap({ $0 }) + [unknown.uppercased()] + malformed {
            expect(
                cloud.call(probe.route.method, probe.path(id), key: owner.key, json: try Samples.body(probe, owner)), 404,
                error: "not_found", "NOT_FOUND", "No such object")
        }
        // Of several ids, the first is the object's own.
        guard let foreign = foreign?.split(separator: " ").first.map(String.init) else { return }
        let kind = probe.route.path.prefix { $0 != ":" }
        if Probe.all.contains(where: { $0.route.method == .get && $0.route.path.hasPrefix(kind + ":") }) {
            #expect(cloud.call(.get, kind + foreign, key: stranger.key).status == 200, "the stranger's object is as it was")
        } else {
            #expect(cloud.call(.get, Samples.list(of: String(kind.dropLast())), key: stranger.key).text.contains(foreign))
        }
    }

    @Test(arguments: Probe.all)
    func otherMethodsAreRefusedBeforeAnythingElse(probe: Probe) {
        let here = Probe.all.filter { $0.route.path == probe.route.path }.map(\.route.method.rawValue)
        let allowed = Set(here + (here.contains("GET") ? ["HEAD"] : [])).sorted()
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] where !allowed.contains(method) {
            let answer = cloud.call(.init(rawValue: method), probe.path("x"), key: "bad", body: .tooLarge)
            expect(
                answer, 405, error: "method_not_allowed", "METHOD_NOT_ALLOWED", "Allowed here: \(allowed.joined(separator: ", "))")
            #expect(answer.header("Allow") == allowed.joined(separator: ", "))
        }
    }

    @Test(arguments: Probe.readable)
    func headIsLikeGet(probe: Probe) throws {
        let owner = try Samples.caller(probe, cloud)
        let path = probe.path(try Samples.object(probe, of: owner, cloud) ?? owner.id) + (try Samples.query(probe, owner, cloud))
        let (got, headed) = (cloud.call(.get, path, key: owner.key), cloud.call(.head, path, key: owner.key))
        #expect(got.status == headed.status && got.response.headers.map(\.name) == headed.response.headers.map(\.name))
        #expect(cloud.call(.head, path).status == cloud.call(.get, path).status)
    }

    @Test(arguments: ["/", "", "/instances/", "//instances", "/auth", "/auth/keys/x/y/z", "/Instances", "/instances/x/logs/", "/.."])
    func unknownPathsAreNotFoundForEverybody(path: String) throws {
        for key in [nil, try cloud.newOwner().key] {
            for method in [HTTP.Method.get, .post, .delete] {
                let answer = cloud.call(method, path, key: key)
                #expect(answer.status == 404, "\(path): \(answer)")
            }
        }
        expect(
            cloud.call(.get, "/nothing"), 404, error: "not_found", "ROUTE_NOT_FOUND", "No such path; see /openapi.yaml")
    }
}
