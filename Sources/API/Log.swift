// The log: one enum of events, one JSON line each on standard error. No value that a client sent gets in, except the request id.
import Glibc
import HTTP

package enum Event: Sendable {
    /// route: the pattern (`/instances/:id`), never the path, which may hold secrets.
    case answered(requestID: String, method: String, route: String, status: Int, microseconds: Int, cause: String?)
    case pool(what: String)
    case job(kind: String, subject: String, what: String)
    case started(program: String)
    case stopped(program: String)
    case trouble(String)

    private var fields: JSON {
        switch self {
        case .answered(let requestID, let method, let route, let status, let microseconds, let cause):
            var fields: JSON = [
                "event": "answered", "request_id": .string(requestID), "method": .string(method), "route": .string(route),
                "status": .int(status), "microseconds": .int(microseconds),
            ]
            if let cause { fields = fields.adding(["cause": .string(cause)]) }
            return fields
        case .pool(let what): return ["event": "pool", "what": .string(what)]
        case .job(let kind, let subject, let what):
            return ["event": "job", "kind": .string(kind), "subject": .string(subject), "what": .string(what)]
        case .started(let program): return ["event": "started", "program": .string(program)]
        case .stopped(let program): return ["event": "stopped", "program": .string(program)]
        case .trouble(let what): return ["event": "trouble", "what": .string(what)]
        }
    }

    /// Writes the line in one piece, so that lines of several processes never mix.
    package func log() {
        let line = JSON.adding(time: Timestamp.now(), to: fields).bytes + [UInt8(ascii: "\n")]
        _ = line.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
}

/// Ends a program that can't start: the reason as plain text for the operator, status 1.
package func quit(_ program: String, because error: any Error) -> Never {
    let text = Array("\(program): \(error)\n".utf8)
    _ = write(STDERR_FILENO, text, text.count)
    exit(1)
}

extension JSON {
    fileprivate static func adding(time: Timestamp, to fields: JSON) -> JSON {
        guard case .object(let members) = fields else { return fields }
        return .object([Member("time", .string(time.description))] + members)
    }
}
