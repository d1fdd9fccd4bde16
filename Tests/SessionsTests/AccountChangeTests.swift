// Changing the own password and profile: what must be proved, what ends and what lives on, on every worker.
import Crypto
import HTTP
import Postgres
import TestSupport
import Testing

struct AccountChangeTests {
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        cloud = try TestCloud()
        owner = try cloud.newOwner()
    }

    private func session(_ password: String? = nil) throws -> (token: String, refresh: String) {
        let answer = cloud.call(
            .post, "/api/v1/auth/login", json: ["username": .string(owner.email), "password": .string(password ?? owner.password)])
        return (try #require(answer["token"]?.string, "\(answer)"), try #require(answer["refresh_token"]?.string))
    }

    private func call(_ method: HTTP.Method, _ path: String, _ token: String, _ json: JSON? = nil, on cloud: TestCloud? = nil) -> Answer {
        (cloud ?? self.cloud).call(method, path, json: json, headers: ["Authorization": "Bearer \(token)"])
    }

    private func change(_ token: String, _ current: String, _ new: String = "another horse") -> Answer {
        call(.post, "/api/v1/auth/change-password", token, ["current_password": .string(current), "new_password": .string(new)])
    }

    private func expectWrongPassword(_ answer: Answer, sourceLocation: SourceLocation = #_sourceLocation) {
        expect(
            answer, 400, error: "bad_request", "VALIDATION_FAILED", "current_password is not the present password",
            fields: ["current_password": "is not the present password"], sourceLocation: sourceLocation)
    }

    @Test func aNewPasswordEndsAllOtherLogins() throws {
        let (mine, other) = (try session(), try session())
        let made = try cloud.newKey(of: owner)
        let elsewhere = try TestCloud()
        for token in [mine.token, other.token, owner.key] { #expect(call(.get, "/api/v1/auth/me", token, on: elsewhere).status == 200) }
        try plantReset()
        expect(change(mine.token, owner.password), 200, #"{"message": "Password changed"}"#)
        #expect(call(.get, "/api/v1/auth/me", other.token, on: elsewhere).code == "INVALID_TOKEN")
        #expect(call(.get, "/api/v1/auth/me", owner.key, on: elsewhere).status == 401)
        #expect(elsewhere.call(.post, "/api/v1/auth/refresh", json: ["refresh_token": .string(other.refresh)]).status == 401)
        for token in [mine.token, made.text] { #expect(call(.get, "/api/v1/auth/me", token, on: elsewhere).status == 200) }
        #expect(elsewhere.call(.post, "/api/v1/auth/refresh", json: ["refresh_token": .string(mine.refresh)]).status == 200)
        #expect(throws: Unexpected.self) { try elsewhere.login(owner.email, owner.password) }
        _ = try elsewhere.login(owner.email, "another horse")
        #expect(spendReset().badFields == ["token"], "a mail from before is void")
        #expect(try audited("auth.password_changed") == 1)
    }

    @Test func aLoginKeyThatAsksLivesOn() throws {
        let other = try session()
        #expect(change(owner.key, owner.password).status == 200)
        #expect(call(.get, "/api/v1/auth/me", owner.key).status == 200 && call(.get, "/api/v1/auth/me", other.token).status == 401)
    }

    /// The same answer, whether the password is wrong or the account locked; the login is locked with it.
    @Test func wrongPasswordsCountAndLock() throws {
        let mine = try session()
        for _ in 1...5 { expectWrongPassword(change(mine.token, "wrong password")) }
        expectWrongPassword(change(mine.token, owner.password))
        #expect(throws: Unexpected.self) { try cloud.login(owner.email, owner.password) }
        #expect(call(.get, "/api/v1/auth/me", mine.token).status == 200)
        #expect(try audited("auth.login_failed") == 7)
        try cloud.admin("update login_attempts set locked_until = now() where subject = \(owner.id)")
        #expect(change(mine.token, owner.password).status == 200)
        _ = try cloud.login(owner.email, "another horse")
    }

    @Test func parallelGuessesCannotOutrunTheCount() throws {
        let token = try session().token
        let statuses = try sideBySide(30, threads: 6) {
            let cloud = try TestCloud()
            return {
                cloud.call(
                    .post, "/api/v1/auth/change-password", json: ["current_password": "wrong", "new_password": "another horse"],
                    headers: ["Authorization": "Bearer \(token)"]
                ).status
            }
        }
        #expect(statuses == Array(repeating: 400, count: 30))
        let failures = try cloud.admin("select failures from login_attempts where subject = \(owner.id)").scalar(Int.self)
        #expect(failures == 5)
    }

    @Test func everyBadFieldIsNamedAtOnce() throws {
        let token = try session().token
        let path = "/api/v1/auth/change-password"
        #expect(call(.post, path, token, [:]).badFields == ["current_password", "new_password"])
        let short: JSON = ["current_password": "x", "new_password": "short", "new_password_confirm": 1]
        #expect(call(.post, path, token, short).badFields == ["new_password", "new_password_confirm"])
        let other: JSON = ["current_password": "x", "new_password": "another horse", "new_password_confirm": "another house"]
        #expect(call(.post, path, token, other).badFields == ["new_password_confirm"])
        #expect(call(.put, "/api/v1/auth/me", token, [:]).badFields == ["username"])
        #expect(call(.put, "/api/v1/auth/me", token, ["current_password": "x"]).badFields == ["username"])
        let bad: JSON = ["username": "a@b", "email": "a", "full_name": "\u{7}", "current_password": ""]
        #expect(call(.put, "/api/v1/auth/me", token, bad).badFields == ["username", "email", "full_name", "current_password"])
        #expect(try cloud.admin("select count(*) from login_attempts where subject = \(owner.id)").scalar(Int.self) == 0)
    }

    /// Nothing is stored for it, so a key for that changes nothing.
    @Test func anIdempotencyKeyIsNoHarm() throws {
        let token = try session().token
        for (current, new, status) in [
            ("correct horse", "another horse", 200), ("another horse", "third horse", 200), ("x", "y horses", 400),
        ] {
            let answer = cloud.call(
                .post, "/api/v1/auth/change-password", json: ["current_password": .string(current), "new_password": .string(new)],
                headers: ["Authorization": "Bearer \(token)", "Idempotency-Key": "k"])
            #expect(answer.status == status, "\(answer)")
        }
    }

    @Test func aKeyWithLimitsOfItsOwnChangesNoAccount() throws {
        for limits: JSON in [["permissions": ["instance:read"]], ["allowed_cidrs": ["192.0.2.0/24"]]] {
            let key = try cloud.newKey(of: owner, limits)
            let refusals = [
                change(key.text, owner.password), call(.put, "/api/v1/auth/me", key.text, ["full_name": "Somebody"]),
                call(.put, "/api/v1/profile", key.text, ["full_name": "Somebody"]),
            ]
            for answer in refusals {
                expect(answer, 403, error: "forbidden", "INSUFFICIENT_PERMISSIONS", "Insufficient permissions")
            }
        }
    }

    @Test func namesFollow() throws {
        let (token, name) = (try session().token, "n" + owner.id.suffix(12))
        func expectMe(_ answer: Answer, _ username: String, _ fullName: String) {
            let user = """
                {"id": "\(owner.id)", "username": \(username), "email": "\(owner.email)", "full_name": \(fullName), "created_at": "$time"}
                """
            expect(answer, 200, user)
            expect(call(.get, "/api/v1/profile", token), 200, user)
        }
        func shown() -> JSON? { cloud.call(.get, "/auth/me", key: owner.key)["data"]?["name"] }
        expectMe(call(.put, "/api/v1/auth/me", token, ["username": .string(name)]), "\"\(name)\"", "null")
        #expect(shown() == "Test Owner", "an account of /auth keeps its name")
        expectMe(call(.put, "/api/v1/profile", token, ["full_name": "Full Name"]), "\"\(name)\"", #""Full Name""#)
        #expect(shown() == "Full Name")
        expectMe(call(.put, "/api/v1/auth/me", token, ["username": .string(name + "x")]), "\"\(name)x\"", #""Full Name""#)
        #expect(shown() == "Full Name")
        let login = cloud.call(
            .post, "/api/v1/auth/login", json: ["username": .string((name + "X").uppercased()), "password": .string(owner.password)])
        #expect(login.status == 200)
        #expect(try audited("user.updated") == 3)
    }

    @Test func withoutAFullNameTheNameIsTheUserName() throws {
        let email = TestCloud.newEmail()
        let name = String(email.prefix(20))
        let made = cloud.call(
            .post, "/api/v1/auth/register", json: ["username": .string(name), "email": .string(email), "password": "correct horse"])
        let token = try #require(made["token"]?.string, "\(made)")
        #expect(call(.put, "/api/v1/auth/me", token, ["username": .string(name + "2")]).status == 200)
        #expect(call(.get, "/auth/me", token)["data"]?["name"]?.string == name + "2")
    }

    @Test func takenNamesAreConflicts() throws {
        let (token, other) = (try session().token, try cloud.newOwner())
        let name = "n" + other.id.suffix(12)
        #expect(cloud.call(.put, "/api/v1/auth/me", key: other.key, json: ["username": .string(name)]).status == 200)
        let taken = call(.put, "/api/v1/auth/me", token, ["username": .string(name.uppercased())])
        expect(taken, 409, error: "conflict", "ALREADY_EXISTS", "An account with this user name exists already")
        let body: JSON = ["email": .string(other.email.uppercased()), "current_password": .string(owner.password)]
        for _ in 1...6 {
            expect(
                call(.put, "/api/v1/auth/me", token, body), 409,
                error: "conflict", "ALREADY_EXISTS", "An account with this e-mail address exists already")
        }
        _ = try cloud.login(owner.email, owner.password)
    }

    @Test func anotherAddressNeedsThePassword() throws {
        let (mine, other) = (try session(), try session())
        let (token, email) = (mine.token, TestCloud.newEmail())
        let missing = call(.put, "/api/v1/auth/me", token, ["email": .string(email)])
        expect(
            missing, 400, error: "bad_request", "VALIDATION_FAILED", "current_password is required for another e-mail address",
            fields: ["current_password": "is required for another e-mail address"])
        expectWrongPassword(call(.put, "/api/v1/auth/me", token, ["email": .string(email), "current_password": "wrong"]))
        #expect(call(.get, "/api/v1/auth/me", token)["email"]?.string == owner.email)
        try plantReset()
        let spelt = call(.put, "/api/v1/profile", token, ["email": .string(owner.email.uppercased())])
        #expect(spelt.status == 200 && spelt["email"]?.string == owner.email.uppercased(), "only its case is new: \(spelt)")
        let changed = call(
            .put, "/api/v1/auth/me", token, ["email": .string(email.uppercased()), "current_password": .string(owner.password)])
        #expect(changed.status == 200 && changed["email"]?.string == email.uppercased(), "\(changed)")
        #expect(throws: Unexpected.self) { try cloud.login(owner.email, owner.password) }
        _ = try cloud.login(email, owner.password)
        #expect(call(.get, "/api/v1/auth/me", other.token).status == 200, "sessions live on")
        #expect(spendReset().badFields == ["token"], "a mail to the address before is void")
        let before = try cloud.admin(
            "select detail ->> 'previous_email' from audit_log where owner_id = \(owner.id)::uuid and action = 'user.updated' order by id desc limit 1"
        ).scalar(String.self)
        #expect(before == owner.email.uppercased())
    }

    @Test func fiveWrongPasswordsForAnAddressLock() throws {
        let token = try session().token
        func change(_ password: String) -> Answer {
            call(.put, "/api/v1/auth/me", token, ["email": .string(TestCloud.newEmail()), "current_password": .string(password)])
        }
        for _ in 1...5 { expectWrongPassword(change("wrong password")) }
        expectWrongPassword(change(owner.password))
    }

    /// Whoever may not have an account here may not be its new address; where registration is closed, people who are in may move.
    @Test func aRuleForDomainsHoldsForANewAddress() throws {
        let token = try session().token
        let body: JSON = ["email": .string("x" + TestCloud.newEmail()), "current_password": .string(owner.password)]
        let limited = try TestCloud(["THECLOUD_REGISTRATION": "example.org"])
        #expect(call(.put, "/api/v1/auth/me", token, body, on: limited).code == "REGISTRATION_CLOSED")
        #expect(call(.put, "/api/v1/auth/me", token, ["full_name": "Somebody"], on: limited).status == 200)
        #expect(call(.put, "/api/v1/auth/me", token, body, on: try TestCloud(["THECLOUD_REGISTRATION": "closed"])).status == 200)
    }

    @Test func accountsAndCredentialsAreTheSameOnBothSurfaces() throws {
        let email = TestCloud.newEmail()
        let name = String(email.prefix(20))
        #expect(
            cloud.call(
                .post, "/api/v1/auth/register", json: ["username": .string(name), "email": .string(email), "password": "correct horse"]
            ).status == 201)
        let key = try cloud.login(email, "correct horse")
        let token = try session().token
        for credential in [key, token, owner.key] {
            #expect(call(.get, "/api/v1/auth/me", credential).status == 200 && call(.get, "/auth/me", credential).status == 200)
            let run = call(.post, "/api/v1/runs", credential, ["name": "Load", "config": [:]])
            #expect(run.status == 201, "\(run)")
            #expect(call(.post, "/instances", credential, ["name": .string("n\(name.suffix(9))"), "image": "nginx"]).status < 500)
        }
        #expect(cloud.call(.get, "/api/v1/runs", key: owner.key)["total"] == 2, "a token and a key of one account see the same")
        let reader = try cloud.newKey(of: owner, ["permissions": ["run:read"]])
        #expect(call(.get, "/api/v1/runs", reader.text)["total"] == 2 && call(.get, "/instances", reader.text).status == 403)
        try cloud.admin("select operator_grant_role(\(owner.email), 'viewer')")
        let elsewhere = try TestCloud()
        #expect(
            call(.get, "/api/v1/runs", token, on: elsewhere).status == 200 && call(.get, "/instances", token, on: elsewhere).status == 200)
        let refused = call(.post, "/api/v1/runs", token, ["name": "Load", "config": [:]], on: elsewhere)
        expect(refused, 403, error: "forbidden", "INSUFFICIENT_PERMISSIONS", "Insufficient permissions")
        #expect(call(.post, "/instances", token, ["name": "web", "image": "nginx"], on: elsewhere).status == 403)
    }

    /// A client and its people are at home in Chat alone.
    @Test func keysOfChatOpenNothingHere() throws {
        let keys = (scoped: KeyText.make(prefix: "sk_user_"), master: KeyText.make(prefix: "ck_live_"))
        let client = try cloud.admin("insert into users (id, name, role) values (new_id(), 'Chat', 'client') returning id::text").scalar(
            String.self)
        let member = try cloud.admin(
            """
            insert into members (id, owner_id, email, email_key, username) values (new_id(), \(client)::uuid, 'a@b', 'a@b', 'a')
            returning id::text
            """
        ).scalar(String.self)
        try cloud.admin(
            """
            insert into api_keys (id, owner_id, kind, name, prefix, key_hash, member_id)
            values (new_id(), \(client)::uuid, 'scoped', 'a', 'sk_user_', \(KeyText.digest(keys.scoped)), \(member)::uuid),
            (new_id(), \(client)::uuid, 'master', 'a', 'ck_live_', \(KeyText.digest(keys.master)), null)
            """)
        for key in [keys.scoped, keys.master] {
            expect(
                call(.get, "/api/v1/runs", key), 403, error: "forbidden", "INSUFFICIENT_PERMISSIONS", "Insufficient permissions")
            expect(
                call(.get, "/instances", key), 403,
                error: "forbidden", "INSUFFICIENT_PERMISSIONS", "Insufficient permissions for this operation")
            for (method, path): (HTTP.Method, String) in [
                (.get, "/api/v1/auth/me"), (.put, "/api/v1/auth/me"), (.post, "/api/v1/auth/change-password"), (.post, "/api/v1/runs"),
                (.get, "/api/v1/auth/sessions"), (.post, "/api/v1/auth/logout"),
            ] {
                let body: JSON? =
                    method == .get ? nil : ["full_name": "x", "name": "x", "config": [:], "current_password": "x", "new_password": "x"]
                #expect(call(method, path, key, body).code == "INSUFFICIENT_PERMISSIONS", "\(path)")
            }
        }
    }

    private func plantReset() throws {
        try cloud.admin(
            """
            insert into password_resets (token_hash, owner_id, expires_at)
            values (\(SHA256.digest("reset_" + owner.id)), \(owner.id)::uuid, now() + interval '1 hour')
            """)
    }

    private func spendReset() -> Answer {
        cloud.call(.post, "/auth/reset-password", json: ["token": .string("reset_" + owner.id), "new_password": "fourth horse"])
    }

    private func audited(_ action: String) throws -> Int? {
        try cloud.admin("select count(*) from audit_log where owner_id = \(owner.id)::uuid and action = \(action)").scalar()
    }
}
