// /auth/keys: making, listing, revoking and rotating, and how a key is presented.
import Crypto
import HTTP
import Postgres
import TestSupport
import Testing

struct KeyTests {
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        cloud = try TestCloud()
        owner = try cloud.newOwner()
    }

    @Test func theDocumentedBodies() throws {
        let made = cloud.call(.post, "/auth/keys", key: owner.key, text: #"{"name": "Production Key"}"#)
        let members = """
            "id": "$id", "user_id": "\(owner.id)", "name": "Production Key", "prefix": "$prefix", "created_at": "$time",
            "last_used": "$time", "expires_at": null, "permissions": null, "allowed_cidrs": null
            """
        expect(made, 201, #"{\#(members), "key": "$key", "data": {\#(members), "key": "$key"}}"#)
        #expect(made["key"] == made["data"]?["key"])
        #expect(made.header("Cache-Control") == "no-store")
        let list = cloud.call(.get, "/auth/keys", key: owner.key)
        let login = members.replacing("Production Key", with: "login").replacing(#""expires_at": null"#, with: #""expires_at": "$time""#)
        expect(list, 200, #"{"data": [{\#(members)}, {\#(login)}], "meta": {"next_cursor": null}}"#)
        #expect(!list.text.contains(try #require(made["key"]?.string)) && !list.text.contains(owner.key))
        #expect(list["data"]?[0]?["prefix"]?.string == made["key"]?.string.map { String($0.prefix(13)) })
    }

    @Test func onlyTheDigestIsStored() throws {
        let key = try cloud.newKey(of: owner)
        let row = try cloud.admin("select row_to_json(k)::text from api_keys k where id = \(key.id)::uuid").scalar(String.self) ?? ""
        #expect(!row.contains(key.text) && !row.contains(key.text.dropFirst(9).prefix(12)))
    }

    @Test func aKeyIsTakenAsBearerToken() {
        #expect(cloud.call(.get, "/auth/me", headers: ["Authorization": "Bearer \(owner.key)"]).status == 200)
        #expect(cloud.call(.get, "/auth/me", headers: ["Authorization": "bearer \(owner.key)"]).status == 200)
        #expect(cloud.call(.get, "/auth/me", headers: ["Authorization": "Basic \(owner.key)"]).status == 401)
        #expect(cloud.call(.get, "/auth/me", key: "", headers: ["Authorization": "Bearer \(owner.key)"]).status == 401)
    }

    /// Nothing listens where this one would ask.
    @Test func aWrongChecksumIsRefusedWithoutTheDatabase() throws {
        let dead = try TestCloud(url: "postgresql:///nowhere?host=/nonexistent")
        let last = owner.key.last == "0" ? "1" : "0"
        let mistyped = String(owner.key.dropLast()) + last
        expect(
            dead.call(.get, "/auth/me", key: mistyped), 401, error: "unauthorized", "INVALID_CREDENTIALS",
            "Invalid authentication credentials")
        let answer = dead.call(.get, "/auth/me", key: owner.key)
        expect(answer, 503, error: "unavailable", "UNAVAILABLE", "The service is briefly unavailable; try again")
        #expect(answer.header("Retry-After") == "2")
    }

    @Test func everyBadFieldIsNamedAtOnce() {
        let answer = cloud.call(
            .post, "/auth/keys", key: owner.key,
            json: [
                "name": "\u{7}", "permissions": ["instance:fly"], "allowed_cidrs": ["10.0.0.1/8"], "expires_at": "2001-01-01T00:00:00Z",
            ])
        expect(
            answer, 400, error: "bad_request", "VALIDATION_FAILED",
            """
            name must be 1–100 printable characters; permissions must be a list of permissions such as instance:read, or instance:*; \
            allowed_cidrs must be a list of 1–20 items, each of which must be an address block such as 192.0.2.0/24, without host bits; \
            expires_at must lie ahead
            """,
            fields: [
                "name": "must be 1–100 printable characters",
                "permissions": "must be a list of permissions such as instance:read, or instance:*",
                "allowed_cidrs":
                    "must be a list of 1–20 items, each of which must be an address block such as 192.0.2.0/24, without host bits",
                "expires_at": "must lie ahead",
            ])
    }

    @Test func aRevokedKeyFailsWithTheNextRequestOnEveryConnection() throws {
        let key = try cloud.newKey(of: owner)
        let other = try TestCloud()
        #expect(other.call(.get, "/auth/me", key: key.text).status == 200)
        expect(cloud.call(.delete, "/auth/keys/\(key.id)", key: owner.key), 200, #"{"message": "API key revoked"}"#)
        #expect(other.call(.get, "/auth/me", key: key.text).code == "INVALID_CREDENTIALS")
        expect(cloud.call(.delete, "/auth/keys/\(key.id)", key: owner.key), 404, error: "not_found", "NOT_FOUND", "No such object")
    }

    @Test(arguments: ["rotate", "regenerate"])
    func rotationEndsTheOldKeyAtOnce(verb: String) throws {
        let key = try cloud.newKey(of: owner, ["permissions": ["instance:read", "key:*"], "allowed_cidrs": ["192.0.2.0/24"]])
        let answer = cloud.call(.post, "/auth/keys/\(key.id)/\(verb)", key: owner.key)
        let members = """
            "id": "$id", "user_id": "\(owner.id)", "name": "further", "prefix": "$prefix", "key": "$key", "created_at": "$time",
            "last_used": "$time", "expires_at": null, "allowed_cidrs": ["192.0.2.0/24"],
            "permissions": ["instance:read", "key:read", "key:create", "key:rotate", "key:delete"]
            """
        expect(answer, 200, #"{\#(members), "data": {\#(members)}}"#)
        #expect(answer.header("Cache-Control") == "no-store")
        #expect(answer["id"]?.string != key.id)
        #expect(cloud.call(.get, "/auth/me", key: key.text).status == 401)
        #expect(cloud.call(.get, "/auth/me", key: answer["key"]?.string).status == 200)
    }

    @Test func rotationWithGraceLetsTheOldKeyLiveAWhile() throws {
        let key = try cloud.newKey(of: owner)
        let answer = cloud.call(.post, "/auth/keys/\(key.id)/rotate", key: owner.key, json: ["grace_seconds": 3600])
        #expect(answer.status == 200 && answer["expires_at"] == .null, "\(answer)")
        #expect(cloud.call(.get, "/auth/me", key: key.text).status == 200)
        try cloud.admin("update api_keys set expires_at = expires_at - interval '1 hour' where id = \(key.id)::uuid")
        #expect(cloud.call(.get, "/auth/me", key: key.text).code == "KEY_EXPIRED")
        #expect(cloud.call(.get, "/auth/me", key: answer["key"]?.string).status == 200)
    }

    @Test func graceNeverProlongsAKey() throws {
        let key = try cloud.newKey(of: owner, ["expires_at": "2040-01-01T00:00:00Z"])
        try cloud.admin("update api_keys set expires_at = now() + interval '1 minute' where id = \(key.id)::uuid")
        #expect(cloud.call(.post, "/auth/keys/\(key.id)/rotate", key: owner.key, json: ["grace_seconds": 86400]).status == 200)
        let isSoon = try cloud.admin("select expires_at <= now() + interval '1 minute' from api_keys where id = \(key.id)::uuid")
        #expect(isSoon.scalar(Bool.self) == true)
        let bad = cloud.call(.post, "/auth/keys/\(key.id)/rotate", key: owner.key, json: ["grace_seconds": 86401])
        #expect(bad.status == 400 && bad.badFields == ["grace_seconds"])
    }

    @Test func anExpiredKeyIsToldSo() throws {
        let key = try cloud.newKey(of: owner, ["expires_at": "2099-12-31T23:59:59+01:00"])
        #expect(cloud.call(.get, "/auth/keys", key: owner.key)["data"]?[0]?["expires_at"] == "2099-12-31T22:59:59.000000Z")
        #expect(cloud.call(.get, "/auth/me", key: key.text).status == 200)
        try cloud.admin("update api_keys set expires_at = now() where id = \(key.id)::uuid")
        expect(cloud.call(.get, "/auth/me", key: key.text), 401, error: "unauthorized", "KEY_EXPIRED", "API key has expired")
    }

    @Test func allowedBlocksHoldForBothFamilies() throws {
        let key = try cloud.newKey(of: owner, ["allowed_cidrs": ["198.51.100.0/24", "2001:db8::/32"]])
        for (address, status) in ["198.51.100.7": 200, "198.51.101.7": 403, "2001:db8::1": 200, "2001:db9::1": 403] {
            #expect(cloud.call(.get, "/auth/me", key: key.text, from: address).status == status, "\(address)")
        }
    }

    @Test func revokingIsWrittenDown() throws {
        let key = try cloud.newKey(of: owner)
        _ = cloud.call(.delete, "/auth/keys/\(key.id)", key: owner.key, from: "2001:db8::5")
        let entry = cloud.call(.get, "/auth/audit?limit=1", key: owner.key)
        expect(
            entry, 200,
            """
            {"data": [{"id": "$id", "action": "key.revoked", "user_id": "\(owner.id)", "actor_id": "\(owner.id)",
              "credential_id": "\(try cloud.keyID(owner.key))", "resource_type": "key", "resource_id": "\(key.id)",
              "address": "2001:db8::5", "request_id": "$text", "detail": {"name": "further", "prefix": "$prefix"},
              "created_at": "$time"}], "meta": {"next_cursor": "$text"}}
            """)
    }
}
