// POST /auth/login: both documented bodies, wrong passwords, the lock of five, and what login keys are.
import HTTP
import Postgres
import TestSupport
import Testing

struct LoginTests {
    let cloud: TestCloud

    init() throws { cloud = try TestCloud() }

    /// "API Reference" shows user and api_key at the top, "Authentication Guide" below data.
    @Test func bothDocumentedBodies() throws {
        let owner = try cloud.newOwner(name: "User Name")
        let answer = cloud.call(
            .post, "/auth/login",
            text: """
                {
                  "email": "\(owner.email)",
                  "password": "\(owner.password)"
                }
                """)
        let user = """
            {"id": "\(owner.id)", "email": "\(owner.email)", "name": "User Name", "role": "user", "created_at": "$time"}
            """
        expect(answer, 200, #"{"user": \#(user), "api_key": "$key", "data": {"user": \#(user), "api_key": "$key"}}"#)
        #expect(answer["api_key"] == answer["data"]?["api_key"])
        #expect(answer.header("Cache-Control") == "no-store")
    }

    @Test func theAddressIsFoundInAnyCase() throws {
        let owner = try cloud.newOwner()
        _ = try cloud.login(owner.email.uppercased(), owner.password)
    }

    @Test func aWrongPasswordAndAnUnknownAddressAnswerTheSame() throws {
        let owner = try cloud.newOwner()
        for email in [owner.email, TestCloud.newEmail(), "not even an address", "é@example.com"] {
            let answer = cloud.call(.post, "/auth/login", json: ["email": .string(email), "password": "wrong password"])
            expect(answer, 401, error: "unauthorized", "INVALID_CREDENTIALS", "Invalid email or password")
            #expect(answer.response.headers.map(\.name) == ["Content-Type", "WWW-Authenticate"])
        }
    }

    @Test func whatIsMissingIsNamed() {
        let answer = cloud.call(.post, "/auth/login", json: ["password": 12_345_678])
        #expect(answer.status == 400 && answer.badFields == ["email", "password"], "\(answer)")
        #expect(cloud.call(.post, "/auth/login", text: "").status == 400)
        #expect(cloud.call(.post, "/auth/login", json: ["email": "a@example.com", "password": "\u{0}"]).code == "MALFORMED_BODY")
    }

    @Test func fiveWrongPasswordsInARowLockTheAccount() throws {
        let (owner, other) = (try cloud.newOwner(), try cloud.newOwner())
        for _ in 1...5 { #expect(wrongLogin(owner.email).status == 401) }
        let refused = cloud.call(.post, "/auth/login", json: ["email": .string(owner.email), "password": .string(owner.password)])
        expect(refused, 401, error: "unauthorized", "INVALID_CREDENTIALS", "Invalid email or password")
        #expect(cloud.call(.get, "/auth/me", key: owner.key).status == 200, "living keys go on")
        _ = try cloud.login(other.email, other.password)
        try letTimePass(owner, minutes: 14)
        #expect(wrongLogin(owner.email).status == 401)
        #expect(throws: Unexpected.self) { try cloud.login(owner.email, owner.password) }
        try letTimePass(owner, minutes: 1)
        _ = try cloud.login(owner.email, owner.password)
    }

    @Test func aRightPasswordForgetsTheWrongOnes() throws {
        let owner = try cloud.newOwner()
        for _ in 1...3 {
            for _ in 1...4 { #expect(wrongLogin(owner.email).status == 401) }
            _ = try cloud.login(owner.email, owner.password)
        }
    }

    @Test func afterALockTheCountBeginsAnew() throws {
        let owner = try cloud.newOwner()
        for _ in 1...5 { _ = wrongLogin(owner.email) }
        try letTimePass(owner, minutes: 15)
        for _ in 1...4 { _ = wrongLogin(owner.email) }
        _ = try cloud.login(owner.email, owner.password)
    }

    /// Only five of a hundred that come at once are looked at; afterwards even the right one is refused.
    @Test func parallelGuessesCannotOutrunTheCount() throws {
        let owner = try cloud.newOwner()
        let statuses = try sideBySide(100, threads: 8) {
            let cloud = try TestCloud()
            return { cloud.call(.post, "/auth/login", json: ["email": .string(owner.email), "password": "wrong password"]).status }
        }
        #expect(statuses == Array(repeating: 401, count: 100))
        let failures = try cloud.admin("select failures from login_attempts where subject = \(owner.id)").scalar(Int.self)
        #expect(failures == 5)
        #expect(throws: Unexpected.self) { try cloud.login(owner.email, owner.password) }
        let seen = try cloud.admin("select count(*) from audit_log where owner_id = \(owner.id)::uuid and action = 'auth.login_failed'")
        #expect(seen.scalar(Int.self) == 101)
    }

    @Test func theTenNewestLoginKeysLiveOn() throws {
        let owner = try cloud.newOwner()
        let made = try cloud.newKey(of: owner)
        let later = try (1...10).map { _ in try cloud.login(owner.email, owner.password) }
        expect(
            cloud.call(.get, "/auth/me", key: owner.key), 401, error: "unauthorized", "INVALID_CREDENTIALS",
            "Invalid authentication credentials")
        for key in later + [made.text] { #expect(cloud.call(.get, "/auth/me", key: key).status == 200) }
    }

    @Test func aLoginKeyEndsThirtyDaysAfterItsLastUse() throws {
        let owner = try cloud.newOwner()
        func shift(_ interval: String) throws {
            try cloud.admin("update api_keys set last_used_at = now() - \(interval)::interval where owner_id = \(owner.id)::uuid")
        }
        try shift("29 days 23 hours")
        #expect(cloud.call(.get, "/auth/me", key: owner.key).status == 200)
        let age = try cloud.admin("select last_used_at > now() - interval '1 minute' from api_keys where owner_id = \(owner.id)::uuid")
        #expect(age.scalar(Bool.self) == true, "using it starts the thirty days anew")
        try shift("30 days")
        expect(cloud.call(.get, "/auth/me", key: owner.key), 401, error: "unauthorized", "KEY_EXPIRED", "API key has expired")
    }

    @Test func aLoginRehashesAtTheNewCost() throws {
        let owner = try cloud.newOwner()
        let dearer = try TestCloud(["THECLOUD_SCRYPT": "ln=5,r=8,p=1"])
        _ = try dearer.login(owner.email, owner.password)
        let hash = try cloud.admin("select password_hash from users where id = \(owner.id)::uuid").scalar(String.self)
        #expect(hash?.hasPrefix("$scrypt$ln=5,r=8,p=1$") == true)
        _ = try dearer.login(owner.email, owner.password)
    }

    private func wrongLogin(_ email: String) -> Answer {
        cloud.call(.post, "/auth/login", json: ["email": .string(email), "password": "wrong password"])
    }

    private func letTimePass(_ owner: Owner, minutes: Int) throws {
        try cloud.admin(
            "update login_attempts set locked_until = locked_until - \(minutes)::int * interval '1 minute' where subject = \(owner.id)")
    }
}
