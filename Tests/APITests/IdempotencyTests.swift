// `Idempotency-Key`: the stored answer again, another body, another scope, a request still running, and what the table holds.
import API
import Crypto
import HTTP
import Postgres
import TestSupport
import Testing

struct IdempotencyTests {
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        cloud = try TestCloud()
        owner = try cloud.newOwner()
    }

    @Test func theSameRequestGetsTheSameAnswer() throws {
        let first = create("key 1", #"{"name": "web", "image": "nginx", "ports": "0:80"}"#)
        #expect(first.status == 201 && first.header("Idempotency-Replayed") == nil, "\(first)")
        let other = try TestCloud()
        let again = create("key 1", #"{"name": "web", "image": "nginx", "ports": "0:80"}"#, on: other)
        #expect(again.status == 201 && again.text == first.text)
        #expect(again.header("Idempotency-Replayed") == "true")
        #expect(again.header("Content-Type") == "application/json; charset=utf-8")
        #expect(cloud.call(.get, "/instances", key: owner.key)["data"]?.array?.count == 1)
    }

    @Test func anotherBodyIsRefused() {
        #expect(create("key", #"{"name": "web", "image": "nginx"}"#).status == 201)
        expect(
            create("key", #"{"name": "web", "image": "nginx" }"#), 422,
            error: "unprocessable", "IDEMPOTENCY_KEY_REUSED", "This Idempotency-Key was used with another body")
    }

    @Test func anotherKeyPathOrCredentialIsAnotherRequest() throws {
        let body = #"{"name": "further"}"#
        let key = try cloud.newKey(of: owner)
        let rotated = try cloud.newKey(of: owner)
        let answers = [
            post("/auth/keys", "a", body), post("/auth/keys", "b", body), post("/auth/keys", "a", body, by: key.text),
            post("/auth/keys/\(rotated.id)/rotate", "a", "{}"),
        ]
        #expect(answers.allSatisfy { $0.status < 300 && $0.header("Idempotency-Replayed") == nil })
        #expect(Set(answers.compactMap { $0["key"]?.string }).count == 4)
        let again = post("/auth/keys", "a", body)
        #expect(again["key"] == answers[0]["key"] && again.header("Cache-Control") == "no-store")
    }

    @Test func aFailedRequestIsNotStored() {
        #expect(create("key", #"{"name": "web"}"#).status == 400)
        #expect(create("key", #"{"name": "web", "image": "nginx"}"#).status == 201)
        #expect(create("other", #"{"name": "web", "image": "nginx"}"#).status == 409)
        #expect(create("other", #"{"name": "web-2", "image": "nginx"}"#).status == 201)
    }

    @Test func aRequestThatStillRunsIsToldSo() throws {
        let scope = "\(try cloud.keyID(owner.key)) POST /instances busy"
        let elsewhere = cloud.database.administrator()
        let running = try elsewhere.begin()
        try running.query("select pg_advisory_xact_lock(hashtextextended(\(scope), 0))")
        let answer = create("busy", #"{"name": "web", "image": "nginx"}"#)
        expect(
            answer, 409, error: "conflict", "IDEMPOTENCY_KEY_IN_USE", "A request with this Idempotency-Key is still running")
        #expect(answer.header("Retry-After") == "1")
        try running.commit()
        #expect(create("busy", #"{"name": "web", "image": "nginx"}"#).status == 201)
    }

    /// However many come at once: one instance, one answer.
    @Test func parallelRequestsMakeOneObject() throws {
        let key = owner.key
        let answers = try sideBySide(16, threads: 8) {
            let cloud = try TestCloud()
            return {
                let answer = cloud.call(
                    .post, "/instances", key: key, text: #"{"name": "web", "image": "nginx"}"#, headers: ["Idempotency-Key": "same"])
                return "\(answer.status) \(answer["data"]?["id"]?.string ?? answer.code ?? "")"
            }
        }
        let made = Set(answers.filter { $0.hasPrefix("201 ") })
        #expect(made.count == 1 && Set(answers).subtracting(made).isSubset(of: ["409 IDEMPOTENCY_KEY_IN_USE"]), "\(answers)")
    }

    @Test func afterADayItIsForgotten() throws {
        let first = post("/auth/keys", "k", #"{"name": "further"}"#)
        try cloud.admin(
            "update idempotency_keys set created_at = created_at - interval '24 hours' where owner_id = \(owner.id)::uuid")
        let second = post("/auth/keys", "k", #"{"name": "further"}"#)
        #expect(second.status == 201 && second["key"] != first["key"])
        let third = post("/auth/keys", "k", #"{"name": "further"}"#)
        #expect(third["key"] == second["key"])
    }

    /// Neither what was sent nor what was answered can be read from the table.
    @Test func bodiesAndAnswersAreNotStoredInClear() throws {
        let answer = post("/auth/keys", "k", #"{"name": "canary in the body"}"#)
        let row = try cloud.admin(
            """
            select route || key || encode(request_mac, 'escape') || encode(answer, 'escape'), length(request_mac)
            from idempotency_keys where owner_id = \(owner.id)::uuid
            """)
        var first = try #require(row.first)
        let stored: String = first.next()
        #expect(stored.hasPrefix("POST /auth/keysk"))
        let key = try #require(answer["key"]?.string)
        #expect(!stored.contains("canary") && !stored.contains(key))
        #expect(first.next(Int.self) == 32)
        let plain = SHA256.digest(#"{"name": "canary in the body"}"#)
        let isKeyed = try cloud.admin("select request_mac <> \(plain) from idempotency_keys where owner_id = \(owner.id)::uuid")
        #expect(isKeyed.scalar(Bool.self) == true)
    }

    @Test(arguments: [(0, 400), (1, 201), (255, 201), (256, 400)])
    func lengthOfTheKey(length: Int, status: Int) {
        let answer = create(String(repeating: "k", count: length), #"{"name": "web", "image": "nginx"}"#)
        #expect(answer.status == status && (status == 201 || answer.badFields == ["Idempotency-Key"]), "\(answer)")
        let stranger = cloud.call(.post, "/instances", text: "{}", headers: ["Idempotency-Key": String(repeating: "k", count: length)])
        #expect(stranger.status == 401)
    }

    @Test func withoutTheKeyEveryRequestIsNew() {
        let (first, second) = (post("/auth/keys", nil, #"{"name": "n"}"#), post("/auth/keys", nil, #"{"name": "n"}"#))
        #expect(first.status == 201 && second.status == 201 && first["key"] != second["key"])
    }

    @Test func aRevokedKeyGetsNoStoredAnswer() throws {
        let key = try cloud.newKey(of: owner)
        #expect(post("/auth/keys", "k", #"{"name": "n"}"#, by: key.text).status == 201)
        #expect(cloud.call(.delete, "/auth/keys/\(key.id)", key: owner.key).status == 200)
        #expect(post("/auth/keys", "k", #"{"name": "n"}"#, by: key.text).status == 401)
    }

    private func create(_ key: String, _ body: String, on cloud: TestCloud? = nil) -> Answer {
        (cloud ?? self.cloud).call(.post, "/instances", key: owner.key, text: body, headers: ["Idempotency-Key": key])
    }

    private func post(_ path: String, _ key: String?, _ body: String, by credential: String? = nil) -> Answer {
        cloud.call(.post, path, key: credential ?? owner.key, text: body, headers: key.map { ["Idempotency-Key": $0] } ?? [:])
    }
}
