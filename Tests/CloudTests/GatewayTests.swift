// Routes of the gateway as a resource, and what nginx is told about requests there. nginx's part is played by `asking:`: the path as it
// decoded and normalised it.
import API
import Crypto
import HTTP
import Identity
import Postgres
import TestSupport
import Testing

struct GatewayTests {
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        cloud = try TestCloud()
        owner = try cloud.newOwner()
    }

    private static let address = "93.184.216.34"

    @discardableResult
    private func route(
        _ prefix: String, _ target: String = "http://\(address)", of owner: Owner? = nil, _ further: KeyValuePairs<String, JSON> = [:]
    )
        throws -> JSON
    {
        let body: JSON = [
            "name": .string("r" + prefix.replacing(/[\/~]/, with: ".")), "prefix": .string(prefix), "target": .string(target),
        ]
        let answer = cloud.call(.post, "/routes", key: (owner ?? self.owner).key, json: body.adding(further))
        #expect(answer.status == 201, "\(answer)")
        return try #require(answer["data"])
    }

    /// `/gw/<id>`
    private func gateway(of owner: Owner? = nil) throws -> String {
        let id = try cloud.admin("select id from gateways where owner_id = \((owner ?? self.owner).id)::uuid").scalar(String.self)
        return "/gw/" + (try #require(id))
    }

    private func ask(_ path: String, method: String = "GET", headers: KeyValuePairs<String, String> = [:]) -> Answer {
        cloud.call(.post, "/_gateway?method=\(method)", headers: headers, asking: path)
    }

    /// Where a request leads, or the status that it gets instead.
    private func target(_ path: String, method: String = "GET") -> String {
        let answer = ask(path, method: method)
        #expect(answer.status == (answer.header("X-Gateway-Verdict") == nil ? 204 : 403), "\(answer)")
        return answer.header("X-Gateway-Verdict") ?? answer.header("X-Gateway-Target") ?? "nothing"
    }

    @Test func theSeedsRouteIsMadeShownListedChangedAndDeleted() throws {
        let body: JSON = ["name": "auth-service", "prefix": "/auth", "target": "http://auth-service:8080", "strip_prefix": true]
        let created = cloud.call(.post, "/routes", key: owner.key, json: body)
        let url = "https://cloud.example" + (try gateway()) + "/auth"
        #expect(url.wholeMatch(of: /https:\/\/cloud.example\/gw\/[a-z2-7]{12}\/auth/) != nil)
        let shown = """
            {"id":"$id","name":"auth-service","prefix":"/auth","target":"http://auth-service:8080","strip_prefix":true,"methods":[],
             "url":"\(url)","status":"PENDING","status_reason":null,"created_at":"$time","updated_at":"$time"}
            """
        expect(created, 201, #"{"data":\#(shown)}"#)
        let path = "/routes/" + (try #require(created["data"]?["id"]?.string))
        expect(cloud.call(.get, path, key: owner.key), 200, #"{"data":\#(shown)}"#)
        expect(cloud.call(.get, "/routes", key: owner.key), 200, #"{"data":[\#(shown)],"meta":{"next_cursor":null}}"#)
        let change: JSON = [
            "name": "web", "prefix": "/", "target": .string("http://\(Self.address):81/v1"), "methods": ["GET"], "strip_prefix": false,
        ]
        expect(
            cloud.call(.put, path, key: owner.key, json: change), 200,
            """
            {"data":{"id":"$id","name":"web","prefix":"/","target":"http://\(Self.address):81/v1","strip_prefix":false,"methods":["GET"],
             "url":"\(url.dropLast(4))","status":"ACTIVE","status_reason":null,"created_at":"$time","updated_at":"$time"}}
            """)
        expect(cloud.call(.delete, path, key: owner.key), 200, #"{"message":"Route deleted"}"#)
        #expect(cloud.call(.get, path, key: owner.key).status == 404)
        let events = try cloud.admin("select type from events where owner_id = \(owner.id)::uuid order by id").map { row in
            var row = row
            return row.next(String.self)
        }
        #expect(events == ["route.created", "route.updated", "route.deleted"])
    }

    @Test func nameAndPrefixAreUniquePerOwner() throws {
        try route("/auth")
        for (name, prefix, what) in [("r.auth", "/other", "of this name"), ("other", "/auth", "with this prefix")] {
            let body: JSON = ["name": .string(name), "prefix": .string(prefix), "target": "http://x"]
            expect(
                cloud.call(.post, "/routes", key: owner.key, json: body), 409, error: "conflict", "ALREADY_EXISTS",
                "You have a route \(what) already")
        }
        let id = try #require(try route("/b")["id"]?.string)
        #expect(cloud.call(.put, "/routes/\(id)", key: owner.key, json: ["prefix": "/auth"]).code == "ALREADY_EXISTS")
        let other = try cloud.newOwner()
        try route("/auth", of: other)
        #expect(try gateway() != gateway(of: other))
    }

    @Test(arguments: [
        "", "auth", "/auth/", "//", "/a//b", "/.", "/..", "/a/../b", "/a/./b", "/a b", "/é", "/a%2Fb", "/a?b", "/a#b", "/a;b", "/a\\b",
        "/" + String(repeating: "x", count: 256),
    ])
    func aPrefixIsANormalPath(prefix: String) {
        let answer = cloud.call(.post, "/routes", key: owner.key, json: ["name": "n", "prefix": .string(prefix), "target": "http://x"])
        #expect(answer.status == 400 && answer.badFields == ["prefix"], "\(answer)")
    }

    @Test(arguments: [
        ("http://x/?", "VALIDATION_FAILED"), ("http://x/a?b=c", "VALIDATION_FAILED"), ("http://x#f", "VALIDATION_FAILED"),
        ("http://x/../a", "VALIDATION_FAILED"), ("http://x/%2e%2E/a", "VALIDATION_FAILED"), ("http://x/%zz", "VALIDATION_FAILED"),
        ("http://x/\"{}", "VALIDATION_FAILED"), ("ftp://x", "VALIDATION_FAILED"), ("http://u:p@x", "VALIDATION_FAILED"),
        ("https://\(address)", "VALIDATION_FAILED"), ("unix:/x", "VALIDATION_FAILED"), ("http://127.0.0.1", "TARGET_FORBIDDEN"),
        ("http://169.254.169.254/latest", "TARGET_FORBIDDEN"), ("http://[::1]:80", "TARGET_FORBIDDEN"),
    ])
    func aTargetIsJudged(target: String, code: String) throws {
        let answer = cloud.call(.post, "/routes", key: owner.key, json: ["name": "n", "prefix": "/n", "target": .string(target)])
        #expect(answer.status == 400 && answer.code == code && answer.badFields == ["target"], "\(answer)")
        let id = try #require(try route("/a")["id"]?.string)
        #expect(cloud.call(.put, "/routes/\(id)", key: owner.key, json: ["target": .string(target)]).code == code)
    }

    @Test func theQuotaHolds() throws {
        let cloud = try TestCloud(["THECLOUD_QUOTA_ROUTES": "1"])
        #expect(cloud.call(.post, "/routes", key: owner.key, json: ["name": "a", "prefix": "/a", "target": "http://x"]).status == 201)
        expect(
            cloud.call(.post, "/routes", key: owner.key, json: ["name": "b", "prefix": "/b", "target": "http://x"]), 403,
            error: "forbidden", "QUOTA_EXCEEDED", "Quota exceeded: at most 1 routes")
    }

    // MARK: - What nginx is told

    @Test func theLongestPrefixWinsWhereASegmentEnds() throws {
        for (number, prefix) in ["/auth", "/auth/admin", "/authx", "/a.b~c", "/deep/er/and/deeper"].enumerated() {
            try route(prefix, "http://\(Self.address):\(number + 1)")
        }
        let gateway = try gateway()
        let host = "http://\(Self.address):"
        for (path, expected) in [
            ("/auth", "1/auth"), ("/auth/", "1/auth/"), ("/auth/x", "1/auth/x"), ("/auth/admi", "1/auth/admi"),
            ("/auth/admin", "2/auth/admin"), ("/auth/admin/", "2/auth/admin/"), ("/auth/adminx", "1/auth/adminx"), ("/authx", "3/authx"),
            ("/authxy", "404"), ("/aut", "404"), ("/Auth", "404"), ("/", "404"), ("", "404"), ("/a.b~c/d", "4/a.b~c/d"), ("/aXb~c", "404"),
            ("/deep/er/and", "404"), ("/deep/er/and/deeper/x", "5/deep/er/and/deeper/x"),
        ] {
            #expect(target(gateway + path) == (expected == "404" ? expected : host + expected), "\(path)")
        }
        try route("/", "http://\(Self.address):9")
        for (path, expected) in [("", "9/"), ("/", "9/"), ("/authxy", "9/authxy"), ("/auth/x", "1/auth/x")] {
            #expect(target(gateway + path) == host + expected)
        }
    }

    /// What was matched is what is sent on: decoded by nginx once, encoded again here.
    @Test func pathsAreEncodedAnew() throws {
        try route("/a", "http://\(Self.address)/base/", of: nil, ["strip_prefix": true])
        try route("/b", "http://\(Self.address)/base")
        let gateway = try gateway()
        let host = "http://\(Self.address):80"
        for (path, expected) in [
            ("/a", "/base/"), ("/a/", "/base/"), ("/a/x y", "/base/x%20y"), ("/b", "/base/b"), ("/a/a", "/base/a"),
            ("/a/100%/%2e%2e/%00", "/base/100%25/%252e%252e/%2500"), ("/a/\r\nHost: x", "/base/%0D%0AHost:%20x"), ("/a/?#", "/base/%3F%23"),
            ("/a/é/\u{1}\u{7F}", "/base/%C3%A9/%01%7F"), ("/a/!$&'()*+,;=:@-._~", "/base/!$&'()*+,;=:@-._~"),
            ("/a/\"<>[]^`{|}", "/base/%22%3C%3E%5B%5D%5E%60%7B%7C%7D"),
            ("/a/..;/x", "400"), ("/a/..;v=1/x", "400"), ("/a/.;/x", "400"), ("/a/x\\..\\y", "400"), ("/a/..\\", "400"),
            ("/a/\u{FFFD}", "400"),
            ("/a/...;/..x/x..", "/base/...;/..x/x.."), ("/a/x;..", "/base/x;.."), ("/a/" + String(repeating: "é", count: 1500), "414"),
        ] {
            #expect(target(gateway + path) == (expected.hasPrefix("/") ? host + expected : expected), "\(path)")
        }
    }

    @Test func methodsAreAllowedOrNot() throws {
        try route("/a", "http://\(Self.address)", of: nil, ["methods": ["GET", "PURGE"]])
        let path = try gateway() + "/a"
        for method in ["GET", "HEAD", "PURGE"] { #expect(target(path, method: method).hasSuffix("/a")) }
        for method in ["POST", "OPTIONS", "get", ""] {
            let answer = ask(path, method: method)
            #expect(answer.header("X-Gateway-Verdict") == "405" && answer.header("X-Gateway-Allow") == "GET, PURGE, HEAD")
        }
        for bad in [["get"], ["GET "], [""], ["GET\r\n"]] {
            let body: JSON = ["name": "n", "prefix": "/n", "target": "http://x", "methods": .strings(bad)]
            #expect(cloud.call(.post, "/routes", key: owner.key, json: body).badFields == ["methods"])
        }
    }

    @Test func unknownGatewaysAndClientsGetNothing() throws {
        try route("/")
        let gateway = try gateway()
        for path in [
            "/gw", "/gw/", "/gw/aaaaaaaaaaaa/", gateway.uppercased() + "/", gateway + "x/", String(gateway.dropLast()), "/x" + gateway, "/",
        ] {
            #expect(target(path) == "404", "\(path)")
        }
        #expect(cloud.call(.post, "/_gateway?method=GET").code == "ROUTE_NOT_FOUND", "clients don't get here")
        #expect(cloud.call(.get, gateway + "/").code == "ROUTE_NOT_FOUND")
    }

    @Test func allThatNginxNeedsIsTold() throws {
        try route("/a", "http://[2606:4700::1111]:8080/v1", of: nil, ["strip_prefix": true])
        let gateway = try gateway()
        let answer = ask(gateway + "/a/x", headers: ["Via": "1.0 a", "Via": "1.1 b"])
        let stack = try #require(try cloud.admin("select right(id::text, 12) from installation").scalar(String.self))
        for (name, value) in [
            ("Target", "http://[2606:4700::1111]:8080/v1/x"), ("Host", "[2606:4700::1111]:8080"), ("Prefix", gateway + "/a"),
            ("Base", "http://[2606:4700::1111]:8080/v1"), ("Folder", "/v1"), ("Via", "1.0 a, 1.1 b, 1.1 thecloud-\(stack)"),
        ] {
            #expect(answer.header("X-Gateway-" + name) == value)
        }
        for via in ["1.1 thecloud-\(stack)", "1.0 x, 1.1 thecloud-\(stack) (y), 1.1 z"] {
            #expect(ask(gateway + "/a/x", headers: ["Via": "1.1 a", "Via": via]).header("X-Gateway-Verdict") == "508")
        }
        let long = String(repeating: "x", count: 2000)
        #expect(ask(gateway + "/a/x", headers: ["Via": long]).header("X-Gateway-Via") == "1.1 thecloud-\(stack)")
    }

    /// Keys and tokens of ours go to no target, in whatever state they are; a target's own do.
    @Test func ourCredentialsAreTold() throws {
        try route("/")
        let gateway = try gateway()
        let login = cloud.call(.post, "/api/v1/auth/login", json: ["username": .string(owner.email), "password": .string(owner.password)])
        let token = try #require(login["access_token"]?.string)
        let old = JWT(account: owner.id, session: owner.id, issuedAt: 1).signed(by: cloud.config.keyring.jwt)
        for text in [
            "Bearer \(owner.key)", "bearer  \(owner.key)", owner.key, "Bearer thecloud_revoked", "Bearer ck_live_x", "Bearer sk_user_x",
            "Bearer chatops_x", "Bearer \(token)", "Bearer \(old)", "Basic x, Bearer \(token)",
        ] {
            #expect(ask(gateway, headers: ["Authorization": text]).header("X-Gateway-Credential") == "ours", "\(text)")
        }
        let foreign = token.split(separator: ".").prefix(2).joined(separator: ".") + ".AAAA"
        for text in ["Bearer mine", "Basic dGhlY2xvdWRfOng=", "Bearer \(foreign)", "Bearer sk_live_x"] {
            #expect(ask(gateway, headers: ["Authorization": text]).header("X-Gateway-Credential") == nil, "\(text)")
        }
    }

    @Test func nothingIsSentWithoutAJudgedAddress() throws {
        let id = try #require(try route("/a", "https://service.example.")["id"]?.string)
        let path = try gateway() + "/a"
        #expect(target(path) == "502")
        for (address, expected) in [("127.0.0.1", "502"), ("10.1.2.3", "502"), (Self.address, "https://\(Self.address):443/a")] {
            try cloud.admin("update routes set address = \(address) where id = \(id)::uuid")
            #expect(target(path) == expected)
        }
        let answer = ask(path)
        #expect(answer.header("X-Gateway-Name") == "service.example" && answer.header("X-Gateway-Host") == "service.example.")
        // The same target again keeps its address, another one has none yet.
        _ = cloud.call(.put, "/routes/\(id)", key: owner.key, json: ["target": "https://service.example.", "name": "x"])
        #expect(target(path) != "502")
        _ = cloud.call(.put, "/routes/\(id)", key: owner.key, json: ["target": "https://other.example"])
        #expect(target(path) == "502")
    }
}
