// The gateway's traffic, through nginx to a target of the test's own: what arrives there, what comes back, and what a hostile target can't do.
import FoundationEssentials
import Glibc
import HTTP
import Outbound
import TestSupport
import Testing

@Suite struct GatewaySessionTests {
    let visitor = Visitor()

    init() throws { try visitor.join() }

    /// Makes a route and waits until its target's name is resolved.
    /// - Returns: the path that leads there.
    private func route(_ target: String, prefix: String = "/auth", of visitor: Visitor? = nil, strips: Bool = true) throws -> String {
        let visitor = visitor ?? self.visitor
        let body: JSON = [
            "name": .string("r" + prefix.replacing("/", with: ".")), "prefix": .string(prefix), "target": .string(target),
            "strip_prefix": .bool(strips),
        ]
        let made = try visitor.call("POST", "/routes", body)
        let id = try #require(made.json["data"]?["id"]?.string, "\(made.json.text)")
        _ = try eventually {
            try visitor.call("GET", "/routes/\(id)").json["data"]?["status"]
        } until: {
            $0 != "PENDING"
        }
        let url = try #require(made.json["data"]?["url"]?.string)
        return try #require(url.firstMatch(of: /\/gw\/.*/)).output.description
    }

    private func target(_ server: LocalServer) -> String { "http://127.0.0.1:\(server.port)" }

    /// A target that tells what it got.
    private static func echo(_ seen: Recorder<LocalServer.Received>, _ headers: String...) -> LocalServer {
        LocalServer.http { request in
            seen.add(request)
            return "HTTP/1.1 201 Made\r\n" + headers.map { $0 + "\r\n" }.joined() + "Content-Length: 5\r\n\r\nhello"
        }
    }

    @Test func `method, path, query, body and the target's own headers arrive; ours and the client's forwarding headers don't`() throws {
        let seen = Recorder<LocalServer.Received>()
        let server = Self.echo(seen, "X-Own: 1", "ETag: \"x\"", "Access-Control-Allow-Origin: *")
        let path = try route(target(server) + "/base")
        let stranger = Visitor()
        let key = try #require(visitor.key)
        let answer = try stranger.call(
            "PATCH", path + "/x%20y/z?b=%2F&a=%zz+&", raw: Array("body".utf8),
            headers: [
                ("Authorization", "Bearer mine"), ("X-API-Key", key), ("Cookie", "a=b"), ("X-Real-IP", "203.0.113.1"),
                ("Forwarded", "for=203.0.113.1"), ("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Port", "1"), ("Connection", "close"),
                ("X-Original-URL", "/admin"), ("Content-Type", "text/plain"), ("X-Request-ID", "gw-1"),
            ])
        #expect(answer.status == 201 && answer.raw.body == Array("hello".utf8))
        for (name, value) in [("x-own", "1"), ("etag", "\"x\""), ("access-control-allow-origin", "*"), ("x-request-id", "gw-1")] {
            #expect(answer.raw.header(name) == value)
        }
        let request = try #require(seen.values.first)
        #expect(request.line == "PATCH /base/x%20y/z?b=%2F&a=%zz+& HTTP/1.1" && request.body == Array("body".utf8))
        let host = try #require(Stack.url.split(separator: "/").last)
        for (name, value) in [
            ("Host", "127.0.0.1:\(server.port)"), ("Authorization", "Bearer mine"), ("Cookie", "a=b"),
            ("X-Forwarded-For", stranger.address),
            ("X-Forwarded-Host", String(host)), ("X-Forwarded-Proto", "http"), ("X-Forwarded-Prefix", path),
            ("X-Real-IP", stranger.address),
            ("Forwarded", "for=\(stranger.address);host=\"\(host)\";proto=http"), ("X-Request-ID", "gw-1"),
        ] {
            #expect(request.headers.filter { $0.lowercased().hasPrefix(name.lowercased() + ":") } == ["\(name): \(value)"])
        }
        #expect(request.header("via")?.hasPrefix("1.1 thecloud-") == true)
        for name in ["X-API-Key", "X-Forwarded-Port", "X-Original-URL"] { #expect(request.header(name) == nil) }
        for credential in ["Bearer \(key)", "Bearer thecloud_revoked", "bearer ck_live_x"] {
            _ = try stranger.call("GET", path, headers: [("Authorization", credential)])
            #expect(seen.values.last?.header("authorization") == nil)
        }
    }

    @Test func `two owners have the same prefix, each their own target`() throws {
        let other = Visitor()
        try other.join()
        let servers = ["one", "two"].map { name in LocalServer.http { _ in ok(name) } }
        let paths = [try route(target(servers[0])), try route(target(servers[1]), of: other)]
        #expect(paths[0] != paths[1] && paths.allSatisfy { $0.hasSuffix("/auth") })
        for (path, name) in zip(paths, ["one", "two"]) {
            #expect(try Visitor().call("GET", path).raw.body == Array(name.utf8))
        }
    }

    @Test func `20 MB pass both ways and no worker grows`() throws {
        let size = 20 << 20
        let seen = Recorder<Int>()
        let server = LocalServer { peer in
            while let request = LocalServer.received(peer) {
                seen.add(request.body.count)
                let chunk = String(repeating: "x", count: 1 << 20)
                guard peer.write("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n") else { return }
                for _ in 0..<20 where !peer.write(chunk) { return }
            }
        }
        let path = try route(target(server))
        let before = try Self.workers()
        #expect(!before.isEmpty)
        let answer = try HTTPClient().send(
            OutboundRequest(
                method: "POST", url: Stack.url + path, body: [UInt8](repeating: 0x78, count: size), timeout: 60_000, responseLimit: 32 << 20
            ))
        #expect(answer.status == 200 && answer.body.count == size && seen.values == [size])
        for (pid, memory) in try Self.workers() {
            if let earlier = before[pid] { #expect(memory - earlier < 8 << 10, "worker \(pid) grew from \(earlier) to \(memory) KiB") }
        }
    }

    /// Resident KiB of this stack's worker processes.
    private static func workers() throws -> [Int: Int] {
        var found: [Int: Int] = [:]
        for pid in try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap({ Int($0) }) {
            guard let command = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline"),
                String(decoding: command, as: UTF8.self).hasPrefix(Stack.folder + "/bin/thecloud-worker"),
                let status = FileManager.default.contents(atPath: "/proc/\(pid)/status")
            else { continue }
            found[pid] = String(decoding: status, as: UTF8.self).firstMatch(of: /VmRSS:\s+([0-9]+)/).flatMap { Int($0.1) }
        }
        return found
    }

    /// The second event is sent only after the client has had the first.
    @Test func `server-sent events come as they are sent`() throws {
        let got = Recorder<String>()
        let server = LocalServer { peer in
            guard LocalServer.received(peer) != nil else { return }
            peer.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
            for _ in 0..<400 where got.values.isEmpty { usleep(25_000) }
            peer.write(got.values.isEmpty ? "data: nobody read\n\n" : "data: 2\n\n")
        }
        let path = try route(target(server))
        var text = ""
        _ = try HTTPClient().stream(OutboundRequest(url: Stack.url + path, timeout: 20_000)) { bytes in
            text += String(decoding: bytes, as: UTF8.self)
            got.add(text)
            return true
        }
        #expect(text == "data: 1\n\ndata: 2\n\n")
    }

    @Test func `a WebSocket is upgraded and speaks`() throws {
        let server = LocalServer { peer in
            guard let request = LocalServer.received(peer), request.header("upgrade") == "websocket" else { return }
            peer.write(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    + "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
            // Opcode, length, a mask of zeros; the answer is the same without a mask.
            let head = peer.bytes(6)
            let payload = peer.bytes(Int(head[1] & 0x7F))
            peer.write([head[0], UInt8(payload.count)] + payload)
            peer.awaitEnd()
        }
        let path = try route(target(server))
        let socket = try WebSocket(path)
        socket.send(["n": 1])
        #expect(socket.text() == #"{"n":1}"#)
    }

    @Test func `what can't be reached is a 502, what has no route a 404, and both are our one error body`() throws {
        let down = try route("http://127.0.0.1:1", prefix: "/down")
        let untrusted = try route("https://localhost:\(try #require(Stack.httpsURL.split(separator: ":").last))", prefix: "/tls")
        let unresolved = try route("http://auth-service:8080", prefix: "/unresolved")
        for path in [down, untrusted, unresolved] {
            let answer = try Visitor().call("POST", path + "/x", ["a": 1])
            #expect(answer.status == 502 && answer.json["error_code"] == "BAD_GATEWAY" && answer.json["error"] == "bad_gateway")
            #expect(answer.json["request_id"]?.string == answer.raw.header("x-request-id"))
        }
        let gateway = down.dropLast("/down".count)
        for path in [
            "/gw/aaaaaaaaaaaa/x", gateway + "/nothing", gateway + "/downx", down + "/%2e%2e/x", down + "/..%2fx", down + "%2f..", "/gw/x",
        ] {
            let answer = try Visitor().call("POST", String(path), ["a": 1])
            #expect(answer.status == 404 && answer.json["error_code"] == "ROUTE_NOT_FOUND", "\(path)")
        }
        #expect(try Visitor().call("GET", down + "/..;/x").json["error_code"] == "BAD_REQUEST")
        #expect(try Visitor().call("GET", "/_gateway").status == 404)
    }

    @Test func `methods that are not allowed are a 405 that names the others`() throws {
        let server = LocalServer.http { _ in ok("hello") }
        let body: JSON = ["name": "m", "prefix": "/m", "target": .string(target(server)), "methods": ["GET", "PUT"]]
        let url = try #require(try visitor.call("POST", "/routes", body).json["data"]?["url"]?.string)
        let path = try #require(url.firstMatch(of: /\/gw\/.*/)).output.description
        #expect(try Visitor().call("GET", path).status == 200)
        let refused = try Visitor().call("DELETE", path)
        #expect(refused.status == 405 && refused.json["error_code"] == "METHOD_NOT_ALLOWED")
        #expect(refused.raw.header("allow") == "GET, PUT, HEAD")
    }

    @Test func `a request that comes round is stopped`() throws {
        let path = try route(Stack.url, prefix: "/loop")
        let answer = try Visitor().call("GET", path + path + "/health/live")
        #expect(answer.status == 508 && answer.json["error_code"] == "LOOP_DETECTED")
        #expect(try Visitor().call("GET", path + "/health/live").status == 200)
    }

    @Test func `redirects to the target come back to the gateway, others pass`() throws {
        let location = Recorder<String>()
        let server = LocalServer.http { _ in ok("", status: "302 Found", "Location: " + (location.values.last ?? "")) }
        let path = try route(target(server) + "/base")
        for (sent, expected) in [
            (target(server) + "/base/in?x=1", path + "/in?x=1"), ("/base/in", path + "/in"), ("in", "in"), ("/other", "/other"),
            ("//evil.example/", "//evil.example/"), ("https://example.com/base/", "https://example.com/base/"),
            ("http://127.0.0.1:\(server.port)0/base/in", "http://127.0.0.1:\(server.port)0/base/in"),
        ] {
            location.add(sent)
            let answer = try Visitor().call("GET", path)
            #expect(answer.status == 302 && answer.raw.header("location") == expected)
        }
    }

    @Test func `a hostile answer steers nothing and stays out of our origin`() throws {
        let headers = [
            "X-Accel-Redirect: /_error", "X-Accel-Limit-Rate: 1", "X-Accel-Buffering: yes", "X-Accel-Charset: utf-7", "X-Accel-Expires: 60",
            "Set-Cookie: a=b; Path=/", "Set-Cookie: c=d;\tPath=/", "Strict-Transport-Security: max-age=1", "Clear-Site-Data: \"*\"",
            "Alt-Svc: h3=\":1\"", "Service-Worker-Allowed: /", "Content-Security-Policy: default-src *", "X-Content-Type-Options: no",
            "Content-Type: text/html",
        ]
        let server = LocalServer.http { _ in
            "HTTP/1.1 500 Own\r\n" + headers.map { $0 + "\r\n" }.joined() + "Content-Length: 5\r\n\r\nhello"
        }
        let answer = try Visitor().call("GET", try route(target(server)))
        #expect(answer.status == 500 && answer.raw.body == Array("hello".utf8), "a target's own errors pass")
        for header in headers.dropLast(3) {
            #expect(answer.raw.header(header.prefix { $0 != ":" }.lowercased()) == nil, "\(header)")
        }
        #expect(answer.raw.header("content-security-policy")?.hasPrefix("sandbox ") == true)
        #expect(answer.raw.header("content-security-policy")?.contains("allow-same-origin") == false)
        #expect(answer.raw.header("x-content-type-options") == "nosniff")
    }

    /// nginx passes on what is no HTTP as it is, without a header of ours: a browser must find neither headers nor HTML in it.
    @Test func `what is no HTTP answer is made harmless`() throws {
        for noise in ["\nHTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<script>", "icy 200 OK\r\n\r\n<p>", "<html>\u{0}"] {
            let server = LocalServer { peer in
                guard LocalServer.received(peer) != nil else { return }
                peer.write(noise)
            }
            let path = try route(target(server), prefix: "/n\(server.port)")
            let got = raw(path).lowercased()
            #expect(!got.isEmpty && got.allSatisfy { !"<hc".contains($0) }, "\(got)")
        }
    }

    /// nginx takes an interim answer for the last one, and passes on what follows as it is: that must not be an answer of the target's choice.
    @Test(arguments: ["100 Continue", "102 Processing", "103 Early Hints", "101 Switching Protocols", "199 Own"])
    func `nothing can hide behind an interim answer`(status: String) throws {
        let server = LocalServer { peer in
            guard LocalServer.received(peer) != nil else { return }
            peer.write(
                "HTTP/1.1 \(status)\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/html\r\nSet-Cookie: a=b; Path=/\r\n"
                    + "Content-Length: 8\r\n\r\n<script>HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")
        }
        let got = raw(try route(target(server))).lowercased()
        // What comes behind the first head, which is nginx's.
        let rest = got.split(separator: "\r\n\r\n", maxSplits: 1).dropFirst().joined()
        #expect(got.hasPrefix("http/1.1 \(status.prefix(3))"), "\(got)")
        #expect(rest.allSatisfy { !"<hc".contains($0) }, "\(rest)")
    }

    @Test func `headers of the target's connection stay there, and those that a client's connection names don't go out`() throws {
        let seen = Recorder<LocalServer.Received>()
        let server = Self.echo(seen, "Upgrade: h2,h2c", "Proxy-Connection: keep-alive", "TE: trailers", "Trailer: x")
        let path = try route(target(server))
        let answer = try Visitor().call("GET", path, headers: [("X-Forwarded-User", "root"), ("X-Remote-Addr", "203.0.113.1")])
        #expect(answer.status == 201)
        for name in ["upgrade", "proxy-connection", "te", "trailer"] { #expect(answer.raw.header(name) == nil, "\(name)") }
        for name in ["x-forwarded-user", "x-remote-addr"] { #expect(seen.values.last?.header(name) == nil, "\(name)") }
        let named = try Visitor().call("GET", path, headers: [("Connection", "close, X-Own"), ("X-Own", "1")])
        #expect(named.status == 400 && named.json["error_code"] == "BAD_REQUEST" && seen.values.count == 1)
        _ = try Visitor().call("GET", path, headers: [("Connection", "close, TE"), ("Authorization", "Bearer refresh_0")])
        #expect(seen.values.count == 2 && seen.values.last?.header("authorization") == nil)
    }

    @Test func `what nginx refuses below the gateway is our one error body too`() throws {
        let path = try route(target(LocalServer.http { _ in ok("hello") }))
        let broken = raw(path, "POST", ["Transfer-Encoding: chunked"], body: "zz\r\n")
        #expect(broken.hasPrefix("HTTP/1.1 400 ") && broken.contains("\"error_code\":\"BAD_REQUEST\""), "\(broken)")
        let bare = try Visitor().call("GET", "/gw")
        #expect(bare.status == 404 && bare.json["error_code"] == "ROUTE_NOT_FOUND")
    }

    /// All that comes back, byte for byte.
    private func raw(_ path: String, _ method: String = "GET", _ headers: [String] = [], body: String = "") -> String {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(Stack.url.split(separator: ":").last ?? "")?.bigEndian ?? 0
        inet_pton(AF_INET, "127.0.0.1", &address.sin_addr)
        let connected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        let head = (["\(method) \(path) HTTP/1.1", "Host: x", "Connection: close"] + headers).joined(separator: "\r\n")
        let request = Array("\(head)\r\n\r\n\(body)".utf8)
        guard connected == 0, send(descriptor, request, request.count, 0) == request.count else { return "<not connected>" }
        var all: [UInt8] = []
        var room = [UInt8](repeating: 0, count: 65536)
        while case let count = recv(descriptor, &room, room.count, 0), count > 0 { all += room.prefix(count) }
        return String(decoding: all, as: UTF8.self)
    }
}
