// One connection to a Docker Engine (API 1.41 or 1.44, whichever it speaks), for one thread at a time.
// Nothing is retried here: reconcilers are, and every call says in its error whether asking again makes sense.
import HTTP
import Outbound

package final class Engine {
    /// The system's engine.
    package static let defaultHost = "unix:///var/run/docker.sock"

    /// As in `DOCKER_HOST`.
    package let host: String
    private let client = HTTPClient()
    let base: String
    let socket: String?
    private var version: String?

    /// - Parameter host: like `DOCKER_HOST`, `unix:///path` or `tcp://host:port`; `nil` for anything else. Nothing is connected yet.
    package init?(host: String = Engine.defaultHost) {
        self.host = host
        if host.hasPrefix("unix:///") {
            socket = String(host.dropFirst(7))
            base = "http://docker"
        } else if host.hasPrefix("tcp://"), host.utf8.count > 6, !host.dropFirst(6).contains(where: { "/?#@".contains($0) }) {
            socket = nil
            base = "http://\(host.dropFirst(6))"
        } else {
            return nil
        }
    }

    /// Whether the engine answers within two seconds.
    /// - Throws: `unreachable` when it does not.
    package func ping() throws(EngineError) { _ = try exchange("GET", "/_ping", timeout: 2_000) }

    /// A call of the versioned API whose answer's body does not matter.
    /// - Parameter timeout: milliseconds for the whole exchange.
    func call(
        _ method: String, _ path: String, _ query: KeyValuePairs<String, String> = [:], body: JSON? = nil, timeout: Int = 30_000
    ) throws(EngineError) {
        _ = try exchange(method, try target(path, query), body: body, timeout: timeout)
    }

    /// A call that answers JSON, at most 16 MiB.
    func json(
        _ method: String, _ path: String, _ query: KeyValuePairs<String, String> = [:], body: JSON? = nil, timeout: Int = 30_000
    ) throws(EngineError) -> JSON {
        let answer = try exchange(method, try target(path, query), body: body, timeout: timeout)
        guard let value = try? JSON(parsing: answer.body) else { throw .unreachable("its answer is no JSON") }
        return value
    }

    /// A POST that answers JSON when something has happened; `nil` when it has not within the timeout.
    /// - Parameter timeout: milliseconds.
    func awaited(
        _ path: String, _ query: KeyValuePairs<String, String>, timeout: Int, isCancelled: (() -> Bool)?
    ) throws(EngineError) -> JSON? {
        let request = request("POST", try target(path, query), body: nil, timeout: timeout)
        let answer: OutboundResponse
        do {
            answer = try client.send(request, isCancelled: isCancelled)
        } catch .timedOut {
            return nil
        } catch {
            throw Self.failure(error)
        }
        try check(answer)
        guard let value = try? JSON(parsing: answer.body) else { throw .unreachable("its answer is no JSON") }
        return value
    }

    /// A call whose answer is a stream; returns at its end, or when `onBytes` says `false`.
    /// - Parameter timeout: milliseconds, 0 for no limit.
    func stream(
        _ method: String, _ path: String, _ query: KeyValuePairs<String, String> = [:], body: JSON? = nil, timeout: Int,
        isCancelled: (() -> Bool)?, onBytes: @escaping ([UInt8]) -> Bool
    ) throws(EngineError) {
        let request = request(method, try target(path, query), body: body, timeout: timeout)
        let answer: OutboundResponse
        do {
            answer = try client.stream(request, isCancelled: isCancelled, onBytes: onBytes)
        } catch {
            throw Self.failure(error)
        }
        try check(answer)
    }

    /// A PUT of bytes that are no JSON.
    func put(_ path: String, _ query: KeyValuePairs<String, String>, bytes: [UInt8], type: String) throws(EngineError) {
        var request = request("PUT", try target(path, query), body: nil, timeout: 30_000)
        request.headers = [("Content-Type", type)]
        request.body = bytes
        let answer: OutboundResponse
        do {
            answer = try client.send(request)
        } catch {
            throw Self.failure(error)
        }
        try check(answer)
    }

    /// Both of Docker's list filters that we use are lists of labels: `{"label":["a=b"]}`.
    static func filters(_ labels: [String: String], _ others: KeyValuePairs<String, JSON> = [:]) -> String {
        var members = others.map { JSON.Member($0.key, $0.value) }
        members.append(JSON.Member("label", .strings(labels.map { "\($0.key)=\($0.value)" }.sorted())))
        return JSON.object(members).text
    }

    /// A name or id as one segment of a path (RFC 3986 §3.3).
    static func escape(_ text: String) -> String {
        var out: [UInt8] = []
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"):
                out.append(byte)
            case _ where "-._~".utf8.contains(byte): out.append(byte)
            default:
                out.append(UInt8(ascii: "%"))
                out.append(contentsOf: (byte < 16 ? "0" : "").utf8)
                out.append(contentsOf: String(byte, radix: 16, uppercase: true).utf8)
            }
        }
        return String(decoding: out, as: UTF8.self)
    }

    func target(_ path: String, _ query: KeyValuePairs<String, String>) throws(EngineError) -> String {
        let pairs = query.map { "\($0.key)=\(Self.escape($0.value))" }.joined(separator: "&")
        return "/v\(try negotiated())\(path)\(pairs.isEmpty ? "" : "?")\(pairs)"
    }

    private func negotiated() throws(EngineError) -> String {
        if let version { return version }
        let chosen = Self.version(newest: try exchange("GET", "/_ping", timeout: 2_000).header("api-version") ?? "")
        version = chosen
        return chosen
    }

    /// What to speak with an engine whose newest version is given: 1.41 is Debian 12's engine, 1.44 the oldest that engines since 29 speak;
    /// what we use is the same in both.
    static func version(newest: String) -> String {
        let parts = newest.split(separator: ".").compactMap { Int($0) }
        return parts.count == 2 && (parts[0], parts[1]) >= (1, 44) ? "1.44" : "1.41"
    }

    private func exchange(_ method: String, _ target: String, body: JSON? = nil, timeout: Int) throws(EngineError) -> OutboundResponse {
        let answer: OutboundResponse
        do {
            answer = try client.send(request(method, target, body: body, timeout: timeout))
        } catch {
            throw Self.failure(error)
        }
        try check(answer)
        return answer
    }

    private func request(_ method: String, _ target: String, body: JSON?, timeout: Int) -> OutboundRequest {
        OutboundRequest(
            method: method, url: base + target, headers: body == nil ? [] : [("Content-Type", "application/json")], body: body?.bytes,
            timeout: timeout, connectTimeout: 2_000, responseLimit: 16 << 20, unixSocket: socket)
    }

    func check(_ answer: OutboundResponse) throws(EngineError) {
        guard !(200..<300).contains(answer.status) else { return }
        let message = (try? JSON(parsing: answer.body))?["message"]?.string
        throw EngineError(status: answer.status, message: message ?? String(decoding: answer.body.prefix(500), as: UTF8.self))
    }

    static func failure(_ error: OutboundError) -> EngineError {
        switch error {
        case .cancelled: .cancelled
        case .invalidRequest(let why): .other(status: 0, message: why)
        case .forbidden, .unreachable, .untrusted, .timedOut, .tooLarge, .broken: .unreachable(error.description)
        }
    }
}
