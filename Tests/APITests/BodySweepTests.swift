// For every route that takes a body: what is wrong with one, in the order of judgement, and that a bad body never outranks a bad key.
import API
import HTTP
import TestSupport
import Testing

struct BodySweepTests {
    let cloud: TestCloud

    init() throws { cloud = try TestCloud(engine: TestCloud.deadEngine()) }

    /// A body that is wrong, and what is answered to it.
    private struct Flaw {
        let status: Int
        let kind: String
        let code: String
        let message: String
        let send: (_ key: String?, _ path: String) -> Answer
    }

    private func flaws(_ probe: Probe) -> [Flaw] {
        let method = probe.route.method
        func malformed(_ message: String, _ send: @escaping (String?, String) -> Answer) -> Flaw {
            Flaw(status: 400, kind: "bad_request", code: "MALFORMED_BODY", message: message, send: send)
        }
        var flaws = [
            Flaw(
                status: 415, kind: "unsupported_media_type", code: "UNSUPPORTED_MEDIA_TYPE", message: "Send the body as application/json"
            ) { [cloud] in cloud.call(method, $1, key: $0, text: "a=1", type: "application/x-www-form-urlencoded") },
            Flaw(
                status: 415, kind: "unsupported_media_type", code: "UNSUPPORTED_MEDIA_TYPE", message: "Send the body as application/json"
            ) { [cloud] in cloud.call(method, $1, key: $0, text: "{}", type: nil) },
            Flaw(
                status: 413, kind: "payload_too_large", code: "BODY_TOO_LARGE",
                message: "The body is larger than \(probe.route.bodyLimit) bytes"
            ) { [cloud] in cloud.call(method, $1, key: $0, body: .tooLarge) },
            malformed("The body is not valid JSON") { [cloud] in cloud.call(method, $1, key: $0, text: #"{"name": "#) },
            malformed("The body must be a JSON object") { [cloud] in cloud.call(method, $1, key: $0, text: "[1]") },
            malformed("Strings must not contain NUL") { [cloud] in cloud.call(method, $1, key: $0, text: #"{"a":"\u0000"}"#) },
            malformed("The body is shorter than its Content-Length") { [cloud] in cloud.call(method, $1, key: $0, body: .truncated) },
        ]
        if probe.route.input == .jsonOrForm { flaws.removeFirst() }
        if probe.needsBody {
            flaws.append(malformed("A JSON body is needed") { [cloud] in cloud.call(method, $1, key: $0) })
        }
        return flaws
    }

    @Test(arguments: Probe.withBody)
    func eachFlawIsToldAndNeverOutranksTheCredential(probe: Probe) throws {
        let owner = try Samples.caller(probe, cloud)
        let weak = probe.route.access.isOpen ? [] : try Samples.weakKeys(probe, owner, cloud)
        for flaw in flaws(probe) {
            for id in ["no-id", owner.id] {
                expect(flaw.send(owner.key, probe.path(id)), flaw.status, error: flaw.kind, flaw.code, flaw.message)
            }
            guard !probe.route.access.isOpen else { continue }
            #expect(flaw.send(nil, probe.path("x")).code == probe.refusal.code)
            #expect(flaw.send("thecloud_bad", probe.path("x")).code == probe.refusal.code)
            for key in weak { #expect(flaw.send(key, probe.path("x")).code == "INSUFFICIENT_PERMISSIONS") }
        }
    }

    /// A body with all members wrong is a 400 that names fields, before any object is looked for.
    @Test(arguments: Probe.withBody)
    func wrongMembersAreNamed(probe: Probe) throws {
        let owner = try Samples.caller(probe, cloud)
        guard case .object(let members)? = try Samples.body(probe, owner) else { return }
        // A message of a topic may be any JSON, so only its absence is wrong.
        let isAny = probe.name == "POST /topics/:id/publish"
        let wrong = JSON.object(members.map { JSON.Member($0.name, isAny && $0.name == "message" ? nil : [[:]]) })
        let answer = cloud.call(probe.route.method, probe.path("no-id"), key: owner.key, json: wrong)
        #expect(answer.status == 400 && answer.code == "VALIDATION_FAILED", "\(answer)")
        #expect(Set(answer.badFields) == Set(members.map(\.name)), "\(answer)")
        guard !probe.route.access.isOpen else { return }
        #expect(cloud.call(probe.route.method, probe.path("no-id"), json: wrong).status == 401)
    }

    @Test(arguments: Probe.withBody)
    func aStrangersIDInABodyIsABadField(probe: Probe) throws {
        let (owner, stranger) = (try Samples.caller(probe, cloud), try Samples.caller(probe, cloud, role: nil))
        let body = try Samples.body(probe, owner) ?? [:]
        for id in [stranger.id, "01890000-0000-7000-8000-000000000000", "no-id"] {
            for (field, change) in Samples.references(probe, stranger: id) {
                guard case .object(let members) = body else { continue }
                let kept = JSON.object(members.filter { member in !change.contains { $0.key == member.name } })
                let answer = cloud.call(probe.route.method, probe.path(owner.id), key: owner.key, json: kept.adding(change))
                #expect(answer.status == 400 && answer.badFields == [field], "\(answer)")
            }
        }
    }

    /// What would grant something is ignored, whatever the route.
    @Test(arguments: Probe.withBody)
    func grantingMembersAreIgnored(probe: Probe) throws {
        let (owner, stranger) = (try Samples.caller(probe, cloud, role: nil), try cloud.newOwner())
        guard probe.name != "PUT /auth/users/:id/role", let body = try Samples.body(probe, owner) else { return }
        let id = try Samples.object(probe, of: owner, cloud) ?? owner.id
        // Whom a client's notification is for is a member of its own there, and judged as a reference.
        let user: JSON = probe.name == "POST /api/v1/notifications" ? nil : .string(stranger.id)
        let answer = cloud.call(
            probe.route.method, probe.path(id), key: owner.key,
            json: body.adding(["role": "owner", "id": .string(stranger.id), "user_id": user, "owner_id": .string(stranger.id)]))
        #expect(answer.status == Samples.status(probe) && !answer.text.contains(stranger.id), "\(answer)")
        guard owner.master == nil else { return }
        #expect(cloud.call(.get, "/auth/me/role", key: try cloud.login(owner.email, owner.password))["data"]?["role"] == "user")
    }
}
