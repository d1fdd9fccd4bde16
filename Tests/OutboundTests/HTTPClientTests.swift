// The client against servers that behave and servers that don't.
import Outbound
import TestSupport
import Testing

struct HTTPClientTests {
    /// What a server sees of the request.
    private func seen(_ request: OutboundRequest) throws -> LocalServer.Received {
        let recorder = Recorder<LocalServer.Received>()
        let server = LocalServer.http { request in
            recorder.add(request)
            return ok("")
        }
        var request = request
        request.url = "http://127.0.0.1:\(server.port)\(request.url)"
        #expect(try HTTPClient().send(request).status == 200)
        return try #require(recorder.values.first)
    }

    @Test func answerIsTakenWhole() throws {
        let server = LocalServer.http { _ in
            "HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\n" + ok("hällo", status: "404 Not Found", "X-Name:  a b ", "X-Name: c", "X-Empty:")
        }
        let answer = try HTTPClient().send(OutboundRequest(url: "http://127.0.0.1:\(server.port)/"))
        #expect(answer.status == 404)
        #expect(answer.header("x-name") == "a b")
        #expect(answer.header("x-empty") == "")
        #expect(answer.header("x-early") == nil)
        #expect(answer.body == Array("hällo".utf8))
    }

    @Test func nothingIsAddedToARequest() throws {
        let request = try seen(
            OutboundRequest(
                method: "POST", url: "/a?b=%20c", headers: [("X-Empty", ""), ("X-Blank", "  "), ("X-A", "1")], body: [0, 1, 255]))
        #expect(request.line == "POST /a?b=%20c HTTP/1.1")
        #expect(request.body == [0, 1, 255])
        let names = request.headers.map { $0.prefix { $0 != ":" }.lowercased() }
        #expect(Set(names) == ["host", "accept", "content-length", "x-empty", "x-blank", "x-a"])
        #expect(request.headers.contains("X-Empty:"))
    }

    @Test(arguments: [("POST", true), ("PUT", true), ("PATCH", true), ("GET", false), ("DELETE", false), ("REPORT", false)])
    func methodsAndEmptyBodies(method: String, announcesLength: Bool) throws {
        let request = try seen(OutboundRequest(method: method, url: "/"))
        #expect(request.line == "\(method) / HTTP/1.1")
        #expect(request.headers.contains("Content-Length: 0") == announcesLength)
        #expect(try seen(OutboundRequest(method: method, url: "/", body: [1])).body == [1])
    }

    @Test func headHasNoBody() throws {
        let server = LocalServer.http { _ in "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n" }
        let answer = try HTTPClient().send(OutboundRequest(method: "HEAD", url: "http://127.0.0.1:\(server.port)/", timeout: 3000))
        #expect(answer.body == [])
    }

    @Test func connectionIsReused() throws {
        let server = LocalServer.http { ok($0.line) }
        let client = HTTPClient()
        for path in ["/1", "/2", "/3"] {
            let answer = try client.send(
                OutboundRequest(method: "POST", url: "http://127.0.0.1:\(server.port)\(path)", body: Array("x".utf8)))
            #expect(answer.body == Array("POST \(path) HTTP/1.1".utf8))
        }
        #expect(server.connections == 1)
    }

    @Test func deadConnectionIsReplaced() throws {
        let server = LocalServer { peer in
            if LocalServer.received(peer) != nil { peer.write(ok("once")) }
        }
        let client = HTTPClient()
        for _ in 0..<3 { #expect(try client.send(OutboundRequest(url: "http://127.0.0.1:\(server.port)/")).body == Array("once".utf8)) }
        #expect(server.connections == 3)
    }

    @Test func redirectsAreAnswers() throws {
        let recorder = Recorder<String>()
        let server = LocalServer.http { request in
            recorder.add(request.line)
            return ok("", status: "302 Found", "Location: /other")
        }
        let answer = try HTTPClient().send(OutboundRequest(url: "http://127.0.0.1:\(server.port)/"))
        #expect(answer.status == 302)
        #expect(answer.header("location") == "/other")
        #expect(recorder.values == ["GET / HTTP/1.1"])
    }

    @Test func unixSocket() throws {
        let folder = Folder()
        let path = folder.path + "/s"
        let server = LocalServer.http(unixSocket: path) { ok($0.headers.joined(separator: ",")) }
        let answer = try withExtendedLifetime(server) {
            try HTTPClient().send(OutboundRequest(url: "http://docker/x", unixSocket: path))
        }
        #expect(String(decoding: answer.body, as: UTF8.self).contains("Host: docker"))
        #expect(throws: OutboundError.self) {
            try HTTPClient().send(OutboundRequest(url: "http://docker/", unixSocket: folder.path + "/none"))
        }
    }

    @Test func sizeLimit() throws {
        let server = LocalServer.http { _ in ok(String(repeating: "x", count: 1000)) }
        let client = HTTPClient()
        let url = "http://127.0.0.1:\(server.port)/"
        #expect(try client.send(OutboundRequest(url: url, responseLimit: 1000)).body.count == 1000)
        #expect(throws: OutboundError.tooLarge(limit: 999)) { try client.send(OutboundRequest(url: url, responseLimit: 999)) }
        #expect(try client.send(OutboundRequest(url: url)).body.count == 1000)
    }

    @Test func endlessHeadersAreRefused() throws {
        let server = LocalServer { peer in
            guard peer.line() != nil, peer.write("HTTP/1.1 200 OK\r\n") else { return }
            while peer.write("X-Filler: \(String(repeating: "x", count: 1000))\r\n") {}
        }
        #expect(throws: OutboundError.tooLarge(limit: 65536)) {
            try HTTPClient().send(OutboundRequest(url: "http://127.0.0.1:\(server.port)/"))
        }
    }

    @Test func timeout() throws {
        let server = LocalServer { $0.awaitEnd() }
        let start = ContinuousClock.now
        #expect(throws: OutboundError.timedOut) {
            try HTTPClient().send(OutboundRequest(url: "http://127.0.0.1:\(server.port)/", timeout: 200))
        }
        #expect(ContinuousClock.now - start < .seconds(2))
    }

    @Test func brokenAnswers() throws {
        for answer in ["", "nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"] {
            let server = LocalServer { peer in
                if LocalServer.received(peer) != nil { peer.write(answer) }
            }
            let error = #expect(throws: OutboundError.self) {
                try HTTPClient().send(OutboundRequest(url: "http://127.0.0.1:\(server.port)/"))
            }
            #expect(error?.kind == "broken")
        }
    }

    @Test func unreachable() {
        for url in ["http://127.0.0.1:1/", "http://no-such-name.invalid/"] {
            let error = #expect(throws: OutboundError.self) { try HTTPClient().send(OutboundRequest(url: url)) }
            #expect(error?.kind == "unreachable")
        }
    }

    @Test(arguments: [
        OutboundRequest(url: "file:///etc/passwd"), OutboundRequest(url: "ftp://127.0.0.1/"), OutboundRequest(url: "/relative"),
        OutboundRequest(url: "http://127.0.0.1:1/a b"), OutboundRequest(url: "http://127.0.0.1:1/\r\nX: y"),
        OutboundRequest(url: "http://"),
        OutboundRequest(method: "GET / HTTP/1.1\r\nX: y\r\n", url: "http://127.0.0.1:1/"),
        OutboundRequest(method: "", url: "http://127.0.0.1:1/"),
        OutboundRequest(url: "http://127.0.0.1:1/", headers: [("X", "a\r\nY: b")]),
        OutboundRequest(url: "http://127.0.0.1:1/", headers: [("X\r\nY", "a")]),
        OutboundRequest(url: "http://127.0.0.1:1/", headers: [("", "a")]),
        OutboundRequest(url: "http://127.0.0.1:1/", headers: [("content-Length", "1")]),
        OutboundRequest(url: "http://127.0.0.1:1/", headers: [("Transfer-Encoding", "chunked")]),
        OutboundRequest(url: "http://127.0.0.1:1/" + String(repeating: "x", count: 70000)),
        OutboundRequest(url: "http://127.0.0.1:1/", timeout: 1 << 40),
        OutboundRequest(url: "http://127.0.0.1:1/", timeout: 0), OutboundRequest(url: "http://127.0.0.1:1/", unixSocket: ""),
    ])
    func badRequestsStayHere(request: OutboundRequest) {
        let error = #expect(throws: OutboundError.self) { try HTTPClient().send(request) }
        #expect(error?.kind == "invalidRequest")
    }
}

extension OutboundError {
    /// The case without its text.
    fileprivate var kind: String {
        switch self {
        case .invalidRequest: "invalidRequest"
        case .forbidden: "forbidden"
        case .unreachable: "unreachable"
        case .untrusted: "untrusted"
        case .timedOut: "timedOut"
        case .tooLarge: "tooLarge"
        case .cancelled: "cancelled"
        case .broken: "broken"
        }
    }
}
