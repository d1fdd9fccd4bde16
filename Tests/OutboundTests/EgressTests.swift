// Hostile URLs against a listener on loopback that must never see a connection, whatever they are refused for; and that the same listener
// is reached as soon as it is allowed, so that the tests prove something.
import HTTP
import Outbound
import Synchronization
import TestSupport
import Testing

struct EgressTests {
    /// PORT is the listener's.
    private static let hostile = [
        // Loopback and its other spellings.
        "http://127.0.0.1:PORT/", "http://127.1:PORT/", "http://127.0.1:PORT/", "http://2130706433:PORT/", "http://0x7f000001:PORT/",
        "http://0x7f.0.0.1:PORT/", "http://0X7F.1:PORT/", "http://0177.0.0.1:PORT/", "http://017700000001:PORT/",
        "http://127.0.0.01:PORT/", "http://127.000.000.001:PORT/", "http://127.0.0.1.:PORT/", "http://127.0.0.0x1:PORT/",
        "http://127.255.255.254:PORT/", "http://0.0.0.0:PORT/", "http://0:PORT/", "http://4294967297:PORT/", "http://127.0.0.257:PORT/",
        "http://00000000000000000000000000000177.1:PORT/", "HTTP://127.0.0.1:PORT/", "https://127.0.0.1:PORT/",
        // IPv6, and IPv4 inside it.
        "http://[::1]:PORT/", "http://[0:0:0:0:0:0:0:1]:PORT/", "http://[::]:PORT/", "http://[::ffff:127.0.0.1]:PORT/",
        "http://[::ffff:7f00:1]:PORT/", "http://[0:0:0:0:0:ffff:7f00:0001]:PORT/", "http://[::127.0.0.1]:PORT/",
        "http://[64:ff9b::127.0.0.1]:PORT/", "http://[64:ff9b:1::7f00:1]:PORT/", "http://[2002:7f00:1::]:PORT/",
        "http://[2001:0:7f00:1::1]:PORT/", "http://[fe80::1%25lo]:PORT/", "http://[fe80::1%lo]:PORT/", "http://[::1%25lo]:PORT/",
        "http://[fc00::1]:PORT/", "http://[ff02::1]:PORT/", "http://[::ffff:0:127.0.0.1]:PORT/", "http://[127.0.0.1]:PORT/",
        "http://[::1/128]:PORT/", "http://[::1:PORT/", "http://::1:PORT/",
        // Users, and hosts that readers disagree about.
        "http://example.com@127.0.0.1:PORT/", "http://user:password@127.0.0.1:PORT/", "http://127.0.0.1:PORT@example.com/",
        "http://example.com#@127.0.0.1:PORT/", "http://example.com?@127.0.0.1:PORT/", "http://127.0.0.1:PORT\\@example.com/",
        "http://example.com\\@127.0.0.1:PORT/", "http://example.com:80@127.0.0.1:PORT/", "http://127.0.0.1%3aPORT/",
        "http://127.0.0.1%2f@example.com/", "http:///127.0.0.1:PORT/", "http:127.0.0.1:PORT/", "//127.0.0.1:PORT/",
        "http://localhost:PORT/", "http://LOCALHOST.:PORT/", "http://127。0。0。1:PORT/", "http://①②⑦.0.0.1:PORT/",
        "http://127.0.0.1\t:PORT/", " http://127.0.0.1:PORT/", "http://127.0.0.1:PORT/ HTTP/1.1\r\nHost: x", "http://127.0.0.1\u{0}:PORT/",
        // Other schemes.
        "file:///etc/passwd", "gopher://127.0.0.1:PORT/_GET", "dict://127.0.0.1:PORT/x", "ftp://127.0.0.1:PORT/",
        "ws://127.0.0.1:PORT/", "unix:/var/run/docker.sock", "javascript:alert(1)", "",
        // Metadata services, private and other reserved addresses.
        "http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "http://100.100.100.200/", "http://168.63.129.16/",
        "http://10.0.0.1/", "http://172.16.0.1/", "http://192.168.0.1/", "http://100.64.0.1/", "http://224.0.0.1/",
        "http://255.255.255.255/", "http://198.18.0.1/", "http://[2001:db8::1]/", "http://[64:ff9b::a9fe:a9fe]/",
        // Ports.
        "http://127.0.0.1:0/", "http://127.0.0.1:65536/", "http://127.0.0.1:-1/", "http://127.0.0.1:+80/", "http://127.0.0.1:/",
    ]

    @Test(arguments: hostile)
    func nothingReachesLoopback(url: String) {
        let server = LocalServer.http(everywhere: true) { _ in ok("secret") }
        let url = url.replacing("PORT", with: String(server.port))
        let client = HTTPClient(egress: EgressRule())
        let error = #expect(throws: OutboundError.self) { try client.send(OutboundRequest(url: url, timeout: 2000)) }
        if case .untrusted = error { Issue.record("a connection was made for \(url)") }
        if case .broken = error { Issue.record("a connection was made for \(url)") }
        if error == .timedOut { Issue.record("a connection was tried for \(url)") }
        #expect(server.connections == 0)
    }

    /// At creation all of them are refused too, but names: what they lead to is not known then.
    @Test(
        arguments: hostile.filter { !$0.lowercased().contains("localhost") && !$0.contains("example.com#") && !$0.contains("example.com?") }
    )
    func theTextAloneIsRefused(url: String) {
        let url = url.replacing("PORT", with: "8080")
        guard let target = try? Target(url) else { return }
        #expect(!EgressRule().admits(target), "\(url)")
    }

    @Test(arguments: [
        "http://my-service/cleanup", "https://example.com", "https://example.com?a=b", "http://localhost:3000/hook",
        "https://a.b.c.:8443/#x",
        "http://a_b/", "http://8.8.8.8/", "https://[2606:4700::1111]:8443/x?y=http://127.0.0.1/", "http://1.2.3.4.example.com/",
        "HTTPS://EXAMPLE.com/@user", "http://xn--bcher-kva.example/%00",
    ])
    func usualTargetsAreTaken(url: String) throws { #expect(EgressRule().admits(try Target(url))) }

    @Test func whatIsWrongIsSaid() {
        for (url, words) in [
            ("http://a b/", "blanks"), ("ftp://x/", "http or https"), ("http://u:p@x/", "user name"), ("http://0x7f.1/", "four decimal"),
            ("http://x:99999/", "port"), ("http:///x", "host"), ("http://-x/", "host"), ("http://x..y/", "host"),
            ("http://\(String(repeating: "x", count: 3000))", "2048"),
        ] {
            let error = #expect(throws: Target.Malformed.self) { try Target(url) }
            #expect(error?.description.contains(words) == true, "\(url): \(error?.description ?? "")")
        }
    }

    private static let loopback = [block("127.0.0.0/8"), block("::1/128")]
    private static func block(_ text: String) -> CIDR { CIDR(text)! }

    @Test(arguments: ["http://127.0.0.1:PORT/", "http://[::ffff:127.0.0.1]:PORT/", "http://[::1]:PORT/", "http://localhost:PORT/"])
    func whatIsAllowedIsReached(url: String) throws {
        let server = LocalServer.http(everywhere: true) { ok($0.line) }
        let url = url.replacing("PORT", with: String(server.port))
        let answer = try HTTPClient(egress: EgressRule(allow: Self.loopback)).send(OutboundRequest(url: url, timeout: 2000))
        #expect(answer.status == 200 && server.connections == 1)
        let other = EgressRule(allow: [Self.block("10.0.0.0/8")])
        #expect(throws: OutboundError.forbidden) { try HTTPClient(egress: other).send(OutboundRequest(url: url, timeout: 2000)) }
        #expect(server.connections == 1)
    }

    @Test func redirectsAreNotFollowed() throws {
        let inner = LocalServer.http { _ in ok("secret") }
        let outer = LocalServer.http { _ in ok("", status: "302 Found", "Location: http://localhost:\(inner.port)/") }
        let rule = EgressRule(allow: [Self.block("127.0.0.1/32")])
        let answer = try HTTPClient(egress: rule).send(OutboundRequest(url: "http://127.0.0.1:\(outer.port)/", timeout: 2000))
        #expect(answer.status == 302 && inner.connections == 0)
    }

    /// A name server that says something public at first and loopback later: each request is judged by the answer that it connects to.
    @Test func rebindingLeadsNowhere() throws {
        let server = LocalServer.http { _ in ok("secret") }
        let answers = Mutex([[Self.block("240.0.0.1")], [Self.block("127.0.0.1")], [Self.block("127.0.0.1")]])
        // 240.0.0.1 stands for a public address here, because the kernel refuses it at once instead of waiting for nobody.
        let rule = EgressRule(allow: [Self.block("240.0.0.1")]) { _ in answers.withLock { $0.removeFirst() } }
        let client = HTTPClient(egress: rule)
        let request = OutboundRequest(url: "http://rebind.example:\(server.port)/", timeout: 1000, connectTimeout: 500)
        let first = #expect(throws: OutboundError.self) { try client.send(request) }
        #expect(first != .forbidden, "the first answer is fine, and is where the connection went")
        #expect(answers.withLock { $0.count } == 2, "one look-up for one request")
        #expect(throws: OutboundError.forbidden) { try client.send(request) }
        let tolerant = EgressRule(allow: Self.loopback) { _ in answers.withLock { $0.removeFirst() } }
        #expect(try HTTPClient(egress: tolerant).send(request).status == 200)
        #expect(server.connections == 1)
    }

    @Test func oneBadAddressAmongGoodOnesIsEnough() {
        let server = LocalServer.http { _ in ok("secret") }
        let rule = EgressRule { _ in [Self.block("8.8.8.8"), Self.block("::1")] }
        #expect(throws: OutboundError.forbidden) {
            try HTTPClient(egress: rule).send(OutboundRequest(url: "http://two.example:\(server.port)/", timeout: 1000))
        }
        #expect(server.connections == 0)
    }

    /// libcurl has ideas of its own about `localhost`: the socket is judged, not the name.
    @Test func libcurlsOwnLookUpsLeadNowhere() {
        let server = LocalServer.http { _ in ok("secret") }
        let rule = EgressRule(allow: [Self.block("240.0.0.1")]) { _ in [Self.block("240.0.0.1")] }
        for name in ["localhost", "LocalHost", "a.localhost", "localhost."] {
            #expect(throws: OutboundError.self) {
                try HTTPClient(egress: rule).send(
                    OutboundRequest(url: "http://\(name):\(server.port)/", timeout: 1000, connectTimeout: 500))
            }
        }
        #expect(server.connections == 0)
    }

    @Test func namesKeepTheirHost() throws {
        let server = LocalServer.http { ok($0.header("host") ?? "") }
        let rule = EgressRule(allow: Self.loopback) { _ in [Self.block("127.0.0.1")] }
        let answer = try HTTPClient(egress: rule).send(OutboundRequest(url: "http://hook.example:\(server.port)/", timeout: 2000))
        #expect(answer.body == Array("hook.example:\(server.port)".utf8))
    }

    @Test func aLongBodyIsCut() throws {
        let server = LocalServer.http { _ in ok(String(repeating: "x", count: 300_000)) }
        let request = OutboundRequest(url: "http://127.0.0.1:\(server.port)/", timeout: 2000, responseLimit: 1000, isCut: true)
        let answer = try HTTPClient(egress: EgressRule(allow: Self.loopback)).send(request)
        #expect(answer.status == 200 && answer.body.count == 1000)
    }

    @Test(arguments: [
        ("120", 120), ("0", 0), ("Sun, 06 Nov 1994 08:49:37 GMT", 37), ("Sunday, 06-Nov-94 08:49:37 GMT", 37),
        ("Sun Nov  6 08:49:37 1994", 37),
        ("Sun, 06 Nov 1994 08:48:37 GMT", 0), ("99999999999999999999999", Int.max), ("soon", nil), ("-5", nil),
    ])
    func retryAfter(text: String, seconds: Int?) throws {
        let server = LocalServer.http { _ in ok("", status: "503 Service Unavailable", "Retry-After: \(text)") }
        let answer = try HTTPClient().send(OutboundRequest(url: "http://127.0.0.1:\(server.port)/"))
        #expect(answer.retryAfter(now: 784_111_740) == seconds)
    }
}
