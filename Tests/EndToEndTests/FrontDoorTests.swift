// What only nginx and the whole pool can show: TLS, limits, rate, request ids, one error body, keys that die on every worker at once, real mail.
import FoundationEssentials
import HTTP
import Outbound
import Testing

@Suite struct FrontDoorTests {
    let visitor = Visitor()

    private static let members: Set<String> = [
        "error", "message", "code", "detail", "error_code", "status_code", "request_id", "errors",
    ]

    private func names(_ json: JSON) -> Set<String> {
        guard case .object(let members) = json else { return [] }
        return Set(members.map(\.name))
    }

    @Test func `ready, with database and engine connected`() throws {
        let answer = try visitor.call("GET", "/health/ready")
        #expect(answer.status == 200)
        #expect(answer.json["status"] == "UP")
        #expect(answer.json["checks"]?["database"] == "CONNECTED")
        #expect(answer.json["checks"]?["docker"] == "CONNECTED")
    }

    @Test func `HTTPS answers with the certificate of the state folder`() throws {
        let client = HTTPClient(caFile: Stack.folder + "/nginx/tls/certificate.pem")
        let answer = try client.send(OutboundRequest(url: Stack.httpsURL + "/health/live"))
        #expect(String(decoding: answer.body, as: UTF8.self) == #"{"status":"ok"}"#)
    }

    @Test func `the API description is served`() throws {
        let answer = try visitor.call("GET", "/openapi.yaml")
        #expect(answer.raw.header("content-type") == "application/yaml")
        let text = String(decoding: answer.raw.body, as: UTF8.self)
        #expect(text.contains("\nopenapi: 3.1"))
    }

    @Test func `the sixth registration within a minute is 429, whatever headers the client sends`() throws {
        let statuses = try (0..<7).map { attempt in
            try visitor.call(
                "POST", "/auth/register", ["email": "x", "password": "x", "name": ""],
                headers: [("X-Real-IP", "203.0.113.\(attempt)"), ("Forwarded", "for=203.0.113.\(attempt)")])
        }
        #expect(statuses.map(\.status) == [400, 400, 400, 400, 400, 429, 429])
        let refused = try #require(statuses.last)
        #expect(refused.json["error_code"] == "RATE_LIMITED")
        #expect(refused.raw.header("retry-after") == "12")
        #expect(names(refused.json) == Self.members)
    }

    @Test func `a request id is taken, returned, and stands in the error body; an insane one is replaced`() throws {
        let answer = try visitor.call("GET", "/nope", headers: [("X-Request-ID", "my-id_1.2")])
        #expect(answer.raw.header("x-request-id") == "my-id_1.2")
        #expect(answer.json["request_id"] == "my-id_1.2")
        #expect(names(answer.json) == Self.members)
        let replaced = try visitor.call("GET", "/nope", headers: [("X-Request-ID", "<script>")])
        let made = try #require(replaced.json["request_id"]?.string)
        #expect(made.count == 32)
        #expect(made.allSatisfy { $0.isHexDigit })
    }

    @Test func `a body over 1 MiB is 413 with our error body`() throws {
        let answer = try visitor.call(
            "POST", "/instances", raw: Array(repeating: 0x20, count: (1 << 20) + 1), headers: [("Content-Type", "application/json")])
        #expect(answer.status == 413)
        #expect(answer.json["error_code"] == "BODY_TOO_LARGE")
        #expect(names(answer.json) == Self.members)
    }

    @Test(arguments: [
        ("", "api"), ("?count=3", "api"), ("?wait=0", "api"), ("?count=3&wait=0", "api"), ("?wait=0&count=3", "api"),
        ("?wait=5", "long"), ("?w%61it=5", "long"), ("?wait=%35", "long"), ("?wait=0&wait=5", "long"), ("?WAIT=0&wait=5", "long"),
        ("?count=3&wait=0&wait=5", "long"), ("?wait=05", "long"), ("?wait=", "long"), ("?count=3&w%61it=5", "long"),
    ])
    func `a receive that may wait, however it is spelled, is kept out of the pool for short work`(query: String, pool: String) throws {
        let id = "pool-\(UInt64.random(in: 0...UInt64.max))"
        #expect(try visitor.call("GET", "/queues/1/messages\(query)", headers: [("X-Request-ID", id)]).status == 401)
        let line = try eventually {
            let log = FileManager.default.contents(atPath: Stack.folder + "/log/nginx-access.log") ?? Data()
            return String(decoding: log, as: UTF8.self).split(separator: "\n").first { $0.contains(id) }
        } until: {
            $0 != nil
        }
        #expect(try JSON(parsing: Array(#require(line ?? nil).utf8))["pool"]?.string == pool)
    }

    @Test func `what nginx refuses of itself tells what is allowed`() throws {
        for (method, path, allowed) in [
            ("TRACE", "/queues", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"), ("POST", "/openapi.yaml", "GET, HEAD"),
        ] {
            let answer = try Visitor().call(method, path)
            #expect(answer.status == 405 && answer.json["error_code"] == "METHOD_NOT_ALLOWED" && answer.raw.header("allow") == allowed)
        }
    }

    @Test func `a revoked key fails with the very next request on every worker`() throws {
        try visitor.join()
        let minted = try visitor.call("POST", "/auth/keys", ["name": "short-lived"]).json
        let (id, key) = (try #require(minted["id"]?.string), try #require(minted["key"]?.string))
        let bearer = Visitor()
        bearer.key = key
        for _ in 0..<20 { #expect(try bearer.call("GET", "/instances").status == 200) }
        #expect(try visitor.call("DELETE", "/auth/keys/\(id)").status == 200)
        for _ in 0..<40 { #expect(try bearer.call("GET", "/instances").status == 401) }
    }

    @Test func `a reset mail goes out, its token works once, and every key of the account ends`() throws {
        let email = try visitor.join()
        let asked = try visitor.call("POST", "/auth/forgot-password", ["email": .string(email)])
        #expect(asked.json == ["message": "If the email exists, a reset token has been sent."])
        let mail = try eventually {
            try Self.mail(to: email)
        } until: {
            $0 != nil
        }
        let token = try #require(mail?.firstMatch(of: /#token=(reset_[0-9A-Za-z]+)/)?.1)
        let body: JSON = ["token": .string(String(token)), "new_password": "battery staple"]
        let stranger = Visitor()
        #expect(try stranger.call("POST", "/auth/reset-password", body).json == ["message": "password updated successfully"])
        #expect(try visitor.call("GET", "/auth/me").status == 401)
        #expect(try stranger.call("POST", "/auth/reset-password", body).status == 400)
        #expect(try stranger.call("POST", "/auth/login", ["email": .string(email), "password": "battery staple"]).status == 200)
        #expect(try stranger.call("POST", "/auth/login", ["email": .string(email), "password": "correct horse"]).status == 401)
    }

    private static func mail(to email: String) throws -> String? {
        let folder = Stack.folder + "/mail"
        let files = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".eml") }
        return files.compactMap { FileManager.default.contents(atPath: folder + "/" + $0) }.map { String(decoding: $0, as: UTF8.self) }
            .first { $0.contains(email) }
    }
}
