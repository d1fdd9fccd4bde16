// A key limited to some permissions, address blocks or time can't mint, rotate or revoke its way to more.
import HTTP
import Postgres
import TestSupport
import Testing

struct RestrictedKeyTests {
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        cloud = try TestCloud()
        owner = try cloud.newOwner()
    }

    @Test func byDefaultAKeyMintsItsOwnSet() throws {
        let key = try cloud.newKey(
            of: owner,
            ["permissions": ["key:create", "key:read"], "allowed_cidrs": ["192.0.2.0/28"], "expires_at": "2099-01-01T00:00:00Z"])
        let child = cloud.call(.post, "/auth/keys", key: key.text, json: ["name": "child"])
        #expect(child.status == 201 && child["permissions"] == ["key:read", "key:create"], "\(child)")
        #expect(child["allowed_cidrs"] == ["192.0.2.0/28"])
        #expect(child["expires_at"] == "2099-01-01T00:00:00.000000Z")
    }

    @Test(
        arguments: [
            ["name": "n", "permissions": ["instance:read"]], ["name": "n", "permissions": ["*"]], ["name": "n", "permissions": ["key:*"]],
            ["name": "n", "allowed_cidrs": ["0.0.0.0/0"]], ["name": "n", "allowed_cidrs": ["192.0.2.0/27"]],
            ["name": "n", "allowed_cidrs": ["192.0.2.0/28", "198.51.100.0/24"]], ["name": "n", "allowed_cidrs": ["::/0"]],
        ] as [JSON])
    func aKeyMintsNoMoreThanItself(wish: JSON) throws {
        let key = try cloud.newKey(of: owner, ["permissions": ["key:create", "key:read"], "allowed_cidrs": ["192.0.2.0/28"]])
        expect(
            cloud.call(.post, "/auth/keys", key: key.text, json: wish), 403,
            error: "forbidden", "INSUFFICIENT_PERMISSIONS", "Insufficient permissions for this operation")
    }

    @Test func aKeyOutlivesNotTheOneThatMadeIt() throws {
        let key = try cloud.newKey(of: owner, ["expires_at": "2050-01-01T00:00:00Z"])
        let longer = cloud.call(.post, "/auth/keys", key: key.text, json: ["name": "n", "expires_at": "2060-01-01T00:00:00Z"])
        #expect(longer.status == 201 && longer["expires_at"] == "2050-01-01T00:00:00.000000Z", "\(longer)")
        let shorter = cloud.call(.post, "/auth/keys", key: key.text, json: ["name": "n", "expires_at": "2040-01-01T00:00:00Z"])
        #expect(shorter["expires_at"] == "2040-01-01T00:00:00.000000Z")
    }

    /// Rotating itself again and again, with a grace that would overlap, leads nowhere beyond its own end.
    @Test func rotatingItselfProlongsNothing() throws {
        let key = try cloud.newKey(of: owner, ["permissions": ["key:rotate"], "expires_at": "2050-01-01T00:00:00Z"])
        let first = cloud.call(.post, "/auth/keys/\(key.id)/rotate", key: key.text, json: ["grace_seconds": 600])
        #expect(first.status == 200 && first["expires_at"] == "2050-01-01T00:00:00.000000Z", "\(first)")
        let again = cloud.call(.post, "/auth/keys/\(key.id)/rotate", key: key.text, json: ["grace_seconds": 600])
        let end = try #require(again["expires_at"]?.string)
        #expect(again.status == 200 && end < "2050-01-01T00:00:00Z", "a key in its grace makes none that outlives it")
    }

    @Test func aKeyNeitherRotatesNorRevokesAStrongerOne() throws {
        let weak = try cloud.newKey(of: owner, ["permissions": ["key:*", "instance:read"], "allowed_cidrs": ["192.0.2.0/24"]])
        let stronger = [
            try cloud.newKey(of: owner), try cloud.newKey(of: owner, ["permissions": ["instance:*"], "allowed_cidrs": ["192.0.2.0/24"]]),
            try cloud.newKey(of: owner, ["permissions": ["instance:read"]]),
            try cloud.newKey(of: owner, ["permissions": ["instance:read"], "allowed_cidrs": ["192.0.0.0/16"]]),
        ]
        for key in stronger {
            #expect(cloud.call(.post, "/auth/keys/\(key.id)/rotate", key: weak.text).status == 403)
            #expect(cloud.call(.post, "/auth/keys/\(key.id)/regenerate", key: weak.text).status == 403)
            #expect(cloud.call(.delete, "/auth/keys/\(key.id)", key: weak.text).status == 403)
            #expect(cloud.call(.get, "/auth/me", key: key.text).status == 200)
        }
        let within = try cloud.newKey(of: owner, ["permissions": ["instance:read"], "allowed_cidrs": ["192.0.2.128/25"]])
        #expect(cloud.call(.delete, "/auth/keys/\(within.id)", key: weak.text).status == 200)
    }

    @Test func everyKeyMayRevokeItself() throws {
        let key = try cloud.newKey(of: owner, ["permissions": ["instance:read"]])
        let other = try cloud.newKey(of: owner, ["permissions": ["instance:read"]])
        #expect(cloud.call(.delete, "/auth/keys/\(other.id)", key: key.text).status == 403)
        expect(cloud.call(.delete, "/auth/keys/\(key.id)", key: key.text), 200, #"{"message": "API key revoked"}"#)
        #expect(cloud.call(.get, "/auth/me", key: key.text).status == 401)
    }

    @Test func noKeyHasMoreThanItsAccountsRole() throws {
        let answer = cloud.call(.post, "/auth/keys", key: owner.key, json: ["name": "n", "permissions": ["auth:read"]])
        #expect(answer.status == 403)
        let everything = cloud.call(.post, "/auth/keys", key: owner.key, json: ["name": "n", "permissions": ["*"]])
        #expect(everything.status == 403)
    }

    /// An unlimited key follows its account's role; one that says what it may does not grow with it.
    @Test func rightsAreKeyAndRoleAtOnce() throws {
        let limited = try cloud.newKey(of: owner, ["permissions": ["instance:read", "instance:create"]])
        try cloud.admin("select operator_grant_role(\(owner.email), 'viewer')")
        expect(
            cloud.call(.get, "/auth/me/role", key: limited.text), 200,
            #"{"data": {"role": "viewer", "permissions": ["instance:read"]}}"#)
        try cloud.admin("select operator_grant_role(\(owner.email), 'admin')")
        #expect(cloud.call(.get, "/auth/users", key: limited.text).status == 403)
        #expect(cloud.call(.get, "/auth/users", key: owner.key).status == 200)
    }

    @Test func aDenialIsWrittenDownThoughTheRequestFailed() throws {
        let key = try cloud.newKey(of: owner, ["permissions": ["instance:read"]])
        #expect(cloud.call(.post, "/instances", key: key.text, json: [:]).status == 403)
        let entry = cloud.call(.get, "/auth/audit?limit=1", key: owner.key)["data"]?[0]
        #expect(entry?["action"] == "access.denied" && entry?["credential_id"]?.string == key.id)
        #expect(entry?["detail"] == ["route": "POST /instances"])
    }
}
