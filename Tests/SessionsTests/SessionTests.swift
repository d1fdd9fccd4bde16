// The sessions' surface through the door: both documented bodies, what an access token may, and when it ends.
import API
import Crypto
import HTTP
import Postgres
import TestSupport
import Testing

struct SessionTests {
    let cloud: TestCloud

    init() throws { cloud = try TestCloud() }

    private static let shape = """
        {"user": {"id": "$id", "username": "USER", "email": "EMAIL", "full_name": FULL, "created_at": "$time"}, "token": "$text",
        "access_token": "$text", "refresh_token": "$text", "token_type": "bearer", "expires_in": 1800}
        """

    @Test func registrationAndLoginAnswerTheSame() throws {
        let email = TestCloud.newEmail()
        let name = String(email.prefix(12)).uppercased() + ID(at: .now()).description.suffix(6)
        let made = cloud.call(
            .post, "/api/v1/auth/register",
            json: [
                "username": .string(name), "email": .string(email), "password": "correct horse", "password_confirm": "correct horse",
                "full_name": "Full Name",
            ])
        let body = Self.shape.replacing("USER", with: name).replacing("EMAIL", with: email).replacing("FULL", with: #""Full Name""#)
        expect(made, 201, body)
        #expect(made["token"] == made["access_token"] && made.header("Cache-Control") == "no-store")
        let form = "username=\(name.lowercased())&password=correct+horse"
        expect(cloud.call(.post, "/api/v1/auth/login", text: form, type: "application/x-www-form-urlencoded; charset=utf-8"), 200, body)
        for login in ["username", "email"] {
            for text in [name, email] {
                let answer = cloud.call(
                    .post, "/api/v1/auth/login", json: .object([.init(login, .string(text)), .init("password", "correct horse")]))
                expect(answer, 200, body)
            }
        }
        #expect(cloud.call(.post, "/auth/login", json: ["email": .string(email), "password": "correct horse"]).status == 200)
        let user = #"{"id": "$id", "username": "\#(name)", "email": "\#(email)", "full_name": "Full Name", "created_at": "$time"}"#
        for path in ["/api/v1/auth/me", "/api/v1/profile"] { expect(get(path, try token(made)), 200, user) }
    }

    @Test func namesAreTakenInAnyCase() throws {
        let (one, other) = (TestCloud.newEmail(), TestCloud.newEmail())
        let name = String(one.prefix(20))
        func register(_ name: String, _ email: String, _ more: KeyValuePairs<String, JSON> = [:]) -> Answer {
            cloud.call(
                .post, "/api/v1/auth/register",
                json: (["username": .string(name), "email": .string(email), "password": "correct horse"] as JSON).adding(more))
        }
        #expect(register(name, one).status == 201)
        #expect(register(name.uppercased(), other).code == "ALREADY_EXISTS")
        #expect(register(String(other.prefix(20)), one.uppercased()).code == "ALREADY_EXISTS")
        #expect(register("a@b.example", other, ["password_confirm": "incorrect horse"]).badFields == ["username", "password_confirm"])
    }

    @Test func accountsOfTheCloudHaveNoUserName() throws {
        let owner = try cloud.newOwner()
        let body = Self.shape.replacing(#""USER""#, with: "null").replacing("EMAIL", with: owner.email).replacing("FULL", with: "null")
        expect(login(owner), 200, body)
    }

    @Test func fiveWrongPasswordsLockByEitherName() throws {
        let owner = try cloud.newOwner()
        let name = "u" + owner.id.suffix(12)
        try cloud.admin("update users set username = \(name), username_key = \(name) where id = \(owner.id)::uuid")
        for count in 1...5 {
            let who = count.isMultiple(of: 2) ? name : owner.email
            let answer = cloud.call(.post, "/api/v1/auth/login", json: ["username": .string(who), "password": "wrong password"])
            expect(answer, 401, error: "unauthorized", "INVALID_CREDENTIALS", "Invalid email or password")
        }
        #expect(login(owner).status == 401)
        #expect(cloud.call(.get, "/auth/me", key: owner.key).status == 200)
    }

    @Test func aTokenHasTheRightsOfTheRole() throws {
        let owner = try cloud.newOwner()
        let token = try token(login(owner))
        let made = call(.post, "/instances", token, json: ["name": "web", "image": "nginx"])
        #expect(made.status == 201, "\(made)")
        #expect(get("/auth/users", token).code == "INSUFFICIENT_PERMISSIONS")
        let denied = try cloud.admin(
            """
            select count(*) from audit_log a join sessions s on s.id = a.credential_id
            where a.owner_id = \(owner.id)::uuid and a.action = 'access.denied'
            """)
        #expect(denied.scalar(Int.self) == 1)
        try cloud.admin("select operator_grant_role(\(owner.email), 'viewer')")
        #expect(get("/instances", token).status == 200)
        #expect(call(.post, "/instances", token, json: ["name": "web-2", "image": "nginx"]).status == 403)
        try cloud.admin("select operator_grant_role(\(owner.email), 'admin')")
        #expect(get("/auth/users", token).status == 200)
        #expect(get("/auth/me/role", token)["data"]?["role"] == "admin")
        let key = call(.post, "/auth/keys", token, json: ["name": "made by a session"])
        #expect(key.status == 201 && key["expires_at"] == .null, "\(key)")
    }

    @Test func aTokenIsGoodForHalfAnHour() throws {
        let owner = try cloud.newOwner()
        let token = try token(login(owner))
        cloud.advance = 1795
        #expect(get("/api/v1/auth/me", token).status == 200)
        cloud.advance = 1801
        expect(get("/api/v1/auth/me", token), 401, error: "unauthorized", "INVALID_TOKEN", "Invalid or expired token")
        #expect(get("/instances", token).code == "INVALID_CREDENTIALS")
    }

    @Test func aTokenOfAnotherAccountsSessionIsRefused() throws {
        let (owner, other) = (try cloud.newOwner(), try cloud.newOwner())
        _ = login(owner)
        let session = try cloud.admin("select id::text from sessions where owner_id = \(owner.id)::uuid").scalar(String.self) ?? ""
        let now = Timestamp.now().microseconds / 1_000_000
        let crossed = JWT(account: other.id, session: session, issuedAt: now).signed(by: cloud.config.keyring.jwt)
        let right = JWT(account: owner.id, session: session, issuedAt: now).signed(by: cloud.config.keyring.jwt)
        #expect(get("/api/v1/auth/me", crossed).status == 401 && get("/api/v1/auth/me", right).status == 200)
    }

    @Test func logoutEndsTheSessionAtOnce() throws {
        let owner = try cloud.newOwner()
        let (one, other) = (login(owner), login(owner))
        expect(call(.post, "/api/v1/auth/logout", try token(one)), 200, #"{"message": "Logged out"}"#)
        #expect(get("/api/v1/auth/me", try token(one)).code == "INVALID_TOKEN")
        #expect(refresh(one).code == "INVALID_TOKEN")
        #expect(get("/api/v1/auth/me", try token(other)).status == 200)
        let key = try cloud.newKey(of: owner)
        #expect(cloud.call(.post, "/api/v1/auth/logout", key: key.text).code == "CONFLICT")
        #expect(cloud.call(.post, "/api/v1/auth/logout", key: owner.key).status == 200)
        #expect(cloud.call(.get, "/auth/me", key: owner.key).status == 401)
    }

    @Test func sessionsAreListedAndEnded() throws {
        let owner = try cloud.newOwner()
        let (one, other) = (login(owner), login(owner))
        let list = get("/api/v1/auth/sessions", try token(other))
        #expect(list["data"]?.array?.map { $0["current"] } == [.bool(true), .bool(false)], "\(list)")
        let id = try #require(list["data"]?[1]?["id"]?.string)
        #expect(call(.delete, "/api/v1/auth/sessions/\(id)", try token(other)).status == 200)
        #expect(call(.delete, "/api/v1/auth/sessions/\(id)", try token(other)).status == 404)
        #expect(get("/api/v1/auth/me", try token(one)).status == 401)
        let limited = try cloud.newKey(of: owner, ["permissions": ["instance:read"]])
        let refused = cloud.call(.get, "/api/v1/auth/sessions", key: limited.text)
        expect(refused, 403, error: "forbidden", "INSUFFICIENT_PERMISSIONS", "Insufficient permissions")
    }

    @Test func aPasswordResetEndsEverySession() throws {
        let owner = try cloud.newOwner()
        let one = login(owner)
        try cloud.admin(
            """
            insert into password_resets (token_hash, owner_id, expires_at)
            values (\(SHA256.digest("reset_" + owner.id)), \(owner.id)::uuid, now() + interval '1 hour')
            """)
        let reset = cloud.call(
            .post, "/auth/reset-password", json: ["token": .string("reset_" + owner.id), "new_password": "another horse"])
        #expect(reset.status == 200)
        #expect(get("/api/v1/auth/me", try token(one)).status == 401 && refresh(one).status == 401)
    }

    @Test func aRefreshTokenStaysUsable() throws {
        let owner = try cloud.newOwner()
        let one = login(owner)
        for _ in 1...3 {
            let answer = refresh(one)
            expect(answer, 200, #"{"token": "$text", "access_token": "$text", "token_type": "bearer", "expires_in": 1800}"#)
            #expect(answer.header("Cache-Control") == "no-store")
            #expect(get("/api/v1/auth/me", try token(answer)).status == 200)
        }
        try cloud.admin("update sessions set expires_at = now() where owner_id = \(owner.id)::uuid")
        expect(refresh(one), 401, error: "unauthorized", "INVALID_TOKEN", "Invalid or expired token")
        for bad in ["x", "refresh_", try token(one)] {
            #expect(cloud.call(.post, "/api/v1/auth/refresh", json: ["refresh_token": .string(bad)]).code == "INVALID_TOKEN")
        }
    }

    /// The parent of the newest may come again, because an answer can be lost; a grandparent ends the session for everybody.
    @Test func aRotatedTokenThatComesBackEndsTheSession() throws {
        let owner = try cloud.newOwner()
        let first = login(owner)
        let second = refresh(first, rotate: true)
        expect(
            second, 200,
            #"{"token": "$text", "access_token": "$text", "token_type": "bearer", "expires_in": 1800, "refresh_token": "$text"}"#)
        let sibling = refresh(first, rotate: true)
        #expect(sibling.status == 200 && sibling["refresh_token"] != second["refresh_token"])
        let third = refresh(second, rotate: true)
        #expect(third.status == 200 && refresh(sibling).status == 200)
        #expect(refresh(first).code == "INVALID_TOKEN")
        for answer in [second, third] {
            #expect(refresh(answer).status == 401)
            #expect(get("/api/v1/auth/me", try token(answer)).status == 401)
        }
        let told = try cloud.admin(
            "select count(*) from audit_log where owner_id = \(owner.id)::uuid and action = 'auth.refresh_reused'")
        #expect(told.scalar(Int.self) == 1)
    }

    /// The documented clients know one refresh token; many of their tabs may use it at once.
    @Test func parallelRefreshesOfOneTokenAllSucceed() throws {
        for rotates in [false, true] {
            let first = login(try cloud.newOwner())
            let token = first["refresh_token"] ?? .null
            let answers = try sideBySide(20, threads: 10) {
                let cloud = try TestCloud()
                return {
                    let answer = cloud.call(.post, "/api/v1/auth/refresh", json: ["refresh_token": token, "rotate": .bool(rotates)])
                    return (answer.status, answer["access_token"]?.string ?? "", answer["refresh_token"]?.string)
                }
            }
            #expect(answers.map(\.0) == Array(repeating: 200, count: 20))
            for answer in answers { #expect(get("/api/v1/auth/me", answer.1).status == 200) }
            #expect(Set(answers.compactMap(\.2)).count == (rotates ? 20 : 0))
            #expect(refresh(first).status == 200)
        }
    }

    /// Each holds from the next request, on any worker.
    @Test func endsAndChangesHoldElsewhereAtOnce() throws {
        let elsewhere = try TestCloud()
        func status(_ path: String, _ token: String) -> Int {
            elsewhere.call(.get, path, headers: ["Authorization": "Bearer \(token)"]).status
        }
        let owner = try cloud.newOwner()
        let (one, other) = (try token(login(owner)), try token(login(owner)))
        for token in [one, other] { #expect(status("/api/v1/auth/me", token) == 200 && status("/auth/users", token) == 403) }
        #expect(call(.post, "/api/v1/auth/logout", one).status == 200)
        #expect(status("/api/v1/auth/me", one) == 401 && status("/api/v1/auth/me", other) == 200)
        let admin = try cloud.newOwner(role: "owner")
        for (role, expected) in [("admin", 200), ("viewer", 403), ("owner", 200), ("user", 403)] {
            let answer = cloud.call(.put, "/auth/users/\(owner.id)/role", key: admin.key, json: ["role": .string(role)])
            #expect(answer.status == 200, "\(answer)")
            #expect(status("/auth/users", other) == expected, "\(role)")
        }
        let third = login(owner)
        let id = try #require(get("/api/v1/auth/sessions", other)["data"]?[0]?["id"]?.string)
        #expect(call(.delete, "/api/v1/auth/sessions/\(id)", other).status == 200)
        #expect(status("/api/v1/auth/me", try token(third)) == 401)
        try cloud.admin("update sessions set expires_at = now() where owner_id = \(owner.id)::uuid")
        #expect(status("/api/v1/auth/me", other) == 401)
    }

    private func login(_ owner: Owner) -> Answer {
        cloud.call(.post, "/api/v1/auth/login", json: ["email": .string(owner.email), "password": .string(owner.password)])
    }

    private func refresh(_ answer: Answer, rotate: Bool = false) -> Answer {
        cloud.call(.post, "/api/v1/auth/refresh", json: ["refresh_token": answer["refresh_token"] ?? .null, "rotate": .bool(rotate)])
    }

    private func token(_ answer: Answer) throws -> String { try #require(answer["access_token"]?.string, "\(answer)") }

    private func get(_ path: String, _ token: String) -> Answer { call(.get, path, token) }

    private func call(_ method: HTTP.Method, _ path: String, _ token: String, json: JSON? = nil) -> Answer {
        cloud.call(method, path, json: json, headers: ["Authorization": "Bearer \(token)"])
    }
}
