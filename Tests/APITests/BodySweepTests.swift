// For every route that takes a body: what is wrong with one, in the order of judgement, and that a bad body never outranks a bad key.
import API
import HTTP
import Identity
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
                status: 413, kind: "payload_too_large", code: "BODY_TOO_LARGE", message: "The body is larger than 1048576 bytes"
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
        let owner = try cloud.newOwner(role: "owner")
        let unrelated = try #require(Permission.ofPeople.first { $0 != probe.route.access.permission })
        let weak = try cloud.newKey(of: owner, ["permissions": [.string(unrelated.rawValue)]])
        for flaw in flaws(probe) {
            for id in ["no-id", owner.id] {
                expect(flaw.send(owner.key, probe.path(id)), flaw.status, error: flaw.kind, flaw.code, flaw.message)
            }
            guard !probe.route.access.isOpen else { continue }
            #expect(flaw.send(nil, probe.path("x")).code == probe.refusal.code)
            #expect(flaw.send("thecloud_bad", probe.path("x")).code == probe.refusal.code)
            guard probe.route.access.permission != nil else { continue }
            #expect(flaw.send(weak.text, probe.path("x")).code == "INSUFFICIENT_PERMISSIONS")
        }
    }

    /// A body with all members wrong is a 400 that names fields, before any object is looked for.
    @Test(arguments: Probe.withBody)
    func wrongMembersAreNamed(probe: Probe) throws {
        let owner = try cloud.newOwner(role: "owner")
        guard case .object(let members)? = try Samples.body(probe, owner) else { return }
        let wrong = JSON.object(members.map { JSON.Member($0.name, [[:]]) })
        let answer = cloud.call(probe.route.method, probe.path("no-id"), key: owner.key, json: wrong)
        #expect(answer.status == 400 && answer.code == "VALIDATION_FAILED", "\(answer)")
        #expect(Set(answer.badFields) == Set(members.map(\.name)), "\(answer)")
        guard !probe.route.access.isOpen else { return }
        #expect(cloud.call(probe.route.method, probe.path("no-id"), json: wrong).status == 401)
    }

    @Test(arguments: Probe.withBody)
    func aStrangersIDInABodyIsABadField(probe: Probe) throws {
        let (owner, stranger) = (try cloud.newOwner(role: "owner"), try cloud.newOwner())
        let body = try Samples.body(probe, owner) ?? [:]
        for id in [stranger.id, "01890000-0000-7000-8000-000000000000", "no-id"] {
            for (field, change) in Samples.references(probe, stranger: id) {
                let answer = cloud.call(probe.route.method, probe.path(owner.id), key: owner.key, json: body.adding(change))
                #expect(answer.status == 400 && answer.badFields == [field], "\(answer)")
            }
        }
    }

    /// What would grant something is ignored, whatever the route.
    @Test(arguments: Probe.withBody)
    func grantingMembersAreIgnored(probe: Probe) throws {
        let (owner, stranger) = (try cloud.newOwner(), try cloud.newOwner())
        guard probe.name != "PUT /auth/users/:id/role", let body = try Samples.body(probe, owner) else { return }
        let id = try Samples.object(probe, of: owner, cloud) ?? owner.id
        let answer = cloud.call(
            probe.route.method, probe.path(id), key: owner.key,
            json: body.adding([
                "role": "owner", "id": .string(stranger.id), "user_id": .string(stranger.id), "owner_id": .string(stranger.id),
            ]))
        #expect(answer.status == Samples.status(probe) && !answer.text.contains(stranger.id), "\(answer)")
        #expect(cloud.call(.get, "/auth/me/role", key: try cloud.login(owner.email, owner.password))["data"]?["role"] == "user")
    }
}
