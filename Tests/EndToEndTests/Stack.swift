// The stack that scripts/test started, as a client sees it: HTTP through nginx. Each `Visitor` has an address, and so a rate bucket, of its own.
import FoundationEssentials
import Glibc
import HTTP
import Outbound
import Synchronization
import System
import Testing

/// Where the stack under test is; scripts/test says it.
enum Stack {
    static let url = setting("THECLOUD_TEST_URL")
    static let httpsURL = setting("THECLOUD_TEST_HTTPS_URL")
    static let folder = setting("THECLOUD_TEST_STATE")

    private static func setting(_ name: String) -> String {
        guard let value = ProcessInfo.processInfo.environment[name] else { fatalError("\(name) is not set: run scripts/test") }
        return value
    }
}

/// One client, at an address of 198.18.0.0/15 (RFC 2544) that the stack's nginx takes from X-Forwarded-For.
final class Visitor {
    let client = HTTPClient()
    let address = "198.\(18 + Int.random(in: 0...1)).\(Int.random(in: 0...255)).\(Int.random(in: 1...254))"
    var key: String?

    struct Answer {
        let status: Int
        let json: JSON
        let raw: OutboundResponse
    }

    func call(
        _ method: String, _ path: String, _ body: JSON? = nil, raw: [UInt8]? = nil, headers: [(name: String, value: String)] = [],
        on base: String = Stack.url
    ) throws -> Answer {
        var all = headers + [("X-Forwarded-For", address)]
        if body != nil { all.append(("Content-Type", "application/json")) }
        if let key { all.append(("X-API-Key", key)) }
        let response = try client.send(
            OutboundRequest(
                method: method, url: base + path, headers: all, body: raw ?? body?.bytes, timeout: 30_000, responseLimit: 8 << 20))
        return Answer(status: response.status, json: (try? JSON(parsing: response.body)) ?? .null, raw: response)
    }

    /// Registers and logs in as somebody new.
    /// - Returns: the e-mail address; the password is `correct horse`.
    @discardableResult
    func join() throws -> String {
        let email = "e2e-\(UInt64.random(in: 0...UInt64.max))@example.com"
        try #require(try call("POST", "/auth/register", ["email": .string(email), "password": "correct horse", "name": "E"]).status == 201)
        let login = try call("POST", "/auth/login", ["email": .string(email), "password": "correct horse"])
        key = try #require(login.json["api_key"]?.string)
        return email
    }
}

/// Asks again until the answer is as wanted; the limit only ends what would never come.
func eventually<Value>(
    within seconds: Double = 20, _ ask: () throws -> Value, until isRight: (Value) -> Bool,
    sourceLocation: SourceLocation = #_sourceLocation
) throws -> Value {
    let deadline = ContinuousClock.now + .seconds(seconds)
    while true {
        let value = try ask()
        if isRight(value) { return value }
        if ContinuousClock.now > deadline {
            Issue.record("not so within \(seconds) s: \(value)", sourceLocation: sourceLocation)
            return value
        }
        usleep(50_000)
    }
}

/// Something that runs on a thread of its own, and what came of it.
final class DispatchedAnswer<Value: Sendable>: Sendable {
    private let outcome = Outcome()
    private let thread: WorkerThread

    private final class Outcome: Sendable {
        let result = Mutex<Result<Value, any Error>?>(nil)
    }

    init(_ body: @escaping @Sendable () throws -> Value) {
        thread = WorkerThread { [outcome] in outcome.result.withLock { $0 = Result(catching: body) } }
    }

    func value() throws -> Value {
        thread.join()
        return try outcome.result.withLock { try #require($0).get() }
    }
}
