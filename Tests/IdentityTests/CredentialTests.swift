// What counts as a credential before any database is asked, what permissions stand for, and when one key covers another.
import Crypto
import HTTP
import Identity
import Testing

struct CredentialTests {
    private static var bench: Credential.Bench {
        Credential.Bench(keyring: Keyring(secret: [UInt8](repeating: 1, count: 32), previous: nil), now: Timestamp.now)
    }

    private func resolve(_ headers: KeyValuePairs<String, String>) throws -> Credential {
        try Credential.resolve(Headers(headers), by: [APIKey.resolver, SessionToken.resolver], Self.bench)
    }

    @Test func aKeyIsKnownByItsDigest() throws {
        let key = KeyText.make(prefix: "thecloud_")
        #expect(try resolve(["X-API-Key": key]) == .key(hash: SHA256.digest(key)))
        #expect(try resolve(["Authorization": "Bearer \(key)"]) == .key(hash: SHA256.digest(key)))
        let other = KeyText.make(prefix: "thecloud_")
        #expect(try resolve(["Authorization": "Bearer \(other)", "X-API-Key": key]) == .key(hash: SHA256.digest(key)))
    }

    @Test(arguments: ["", "thecloud_", "thecloud_short", "apk_123456789", "Bearer", "sk_user_x"])
    func whatIsNoKeyIsNoCredential(text: String) {
        for headers in [["X-API-Key": text], ["Authorization": "Bearer \(text)"]] as [KeyValuePairs<String, String>] {
            #expect(throws: APIError.invalidCredentials) { try resolve(headers) }
        }
        #expect(throws: APIError.invalidCredentials) { try resolve([:]) }
    }

    @Test func anAccessTokenNamesItsSession() throws {
        let (session, account) = (ID(at: .now()), ID(at: .now()))
        let token = SessionToken.make(session: session, account: account, Self.bench)
        #expect(try resolve(["Authorization": "bearer \(token)"]) == .session(session, account: account))
        #expect(throws: APIError.invalidCredentials) { try resolve(["Authorization": "Bearer \(token)x"]) }
        #expect(throws: APIError.invalidCredentials) { try resolve(["X-API-Key": token]) }
    }

    @Test func theFirstResolverThatClaimsItDecides() throws {
        let mine: Credential.Resolver = { headers, _ throws(APIError) in headers["x-mine"] == nil ? nil : .key(hash: [1]) }
        let key = KeyText.make(prefix: "thecloud_")
        #expect(
            try Credential.resolve(Headers(["x-mine": "1", "x-api-key": key]), by: [mine, APIKey.resolver], Self.bench) == .key(hash: [1]))
        #expect(
            try Credential.resolve(Headers(["x-api-key": key]), by: [mine, APIKey.resolver], Self.bench) == .key(hash: SHA256.digest(key)))
        #expect(throws: APIError.invalidCredentials) {
            try Credential.resolve(Headers(["x-mine": "1", "x-api-key": "bad"]), by: [APIKey.resolver, mine], Self.bench)
        }
    }

    @Test func namesOfPermissions() {
        #expect(Permission.named("instance:*") == [.instanceRead, .instanceCreate, .instanceUpdate, .instanceDelete])
        #expect(Permission.named("*") == Permission.ofPeople && Permission.named("key:read") == [.keyRead])
        for text in ["", ":", "*:*", "instance", "instance:", "inst*", "i:*", ":*", "INSTANCE:READ", "instance:read ", "**"] {
            #expect(Permission.named(text) == nil, "\(text)")
        }
    }

    @Test func whenOneKeyCoversAnother() throws {
        func limits(_ permissions: [String]?, _ blocks: [String]?) -> Principal.Limits {
            .init(permissions: permissions, allowedCIDRs: blocks?.compactMap { CIDR($0) }, expiresAt: nil)
        }
        let table: [(Principal.Limits, Principal.Limits, Bool)] = [
            (limits(nil, nil), limits(nil, nil), true), (limits(nil, nil), limits(["a"], ["10.0.0.0/8"]), true),
            (limits(["a", "b"], nil), limits(["a"], nil), true), (limits(["a"], nil), limits(["a", "b"], nil), false),
            (limits(["a"], nil), limits(nil, nil), false), (limits(nil, ["10.0.0.0/8"]), limits(nil, nil), false),
            (limits(nil, ["10.0.0.0/8"]), limits(nil, ["10.1.0.0/16", "10.2.0.0/16"]), true),
            (limits(nil, ["10.0.0.0/8"]), limits(nil, ["10.1.0.0/16", "11.0.0.0/16"]), false), (limits([], nil), limits([], nil), true),
            (limits(nil, ["10.0.0.0/9", "10.128.0.0/9"]), limits(nil, ["10.0.0.0/8"]), false),
        ]
        for (index, (one, other, isCovered)) in table.enumerated() { #expect(one.cover(other) == isCovered, "line \(index)") }
    }
}
