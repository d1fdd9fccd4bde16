// The log: one enum of events, one JSON line each on standard error. No value that a client sent gets in, except the request id.
import Glibc
import HTTP

package enum Event: Sendable {
    /// route: the pattern (`/instances/:id`), never the path, which may hold secrets.
    case answered(requestID: String, method: String, route: String, status: Int, microseconds: Int, cause: String?)
    case pool(what: String)
    /// requestID: of the request that wished the job last.
    case job(kind: String, subject: String, requestID: String?, what: String)
    case started(program: String)
    case stopped(program: String)
    case trouble(String)

    private func write(to line: inout JSONWriter) {
        switch self {
        case .answered(let requestID, let method, let route, let status, let microseconds, let cause):
            line.member("event", "answered")
            line.member("request_id", requestID)
            line.member("method", method)
            line.member("route", route)
            line.member("status", .int(status))
            line.member("microseconds", .int(microseconds))
            if let cause { line.member("cause", cause) }
        case .pool(let what):
            line.member("event", "pool")
            line.member("what", what)
        case .job(let kind, let subject, let requestID, let what):
            line.member("event", "job")
            line.member("kind", kind)
            line.member("subject", subject)
            line.member("request_id", requestID)
            line.member("what", what)
        case .started(let program):
            line.member("event", "started")
            line.member("program", program)
        case .stopped(let program):
            line.member("event", "stopped")
            line.member("program", program)
        case .trouble(let what):
            line.member("event", "trouble")
            line.member("what", what)
        }
    }

    /// Writes the line in one piece, so that lines of several processes never mix.
    package func log() {
        let line = JSON.written { line in
            line.member("time", Timestamp.now())
            write(to: &line)
        }
        let bytes = line.bytes + [UInt8(ascii: "\n")]
        _ = bytes.withUnsafeBytes { Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
}

/// Ends a program that can't start: the reason as plain text for the operator, status 1.
package func quit(_ program: String, because error: any Error) -> Never {
    let text = Array("\(program): \(error)\n".utf8)
    _ = write(STDERR_FILENO, text, text.count)
    exit(1)
}
