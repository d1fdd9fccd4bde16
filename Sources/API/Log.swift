// The log: one enum of events, one JSON line each on standard error. No value that a client sent gets in, except the request id.
import Glibc
import HTTP
import Synchronization
import System

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

    /// Writes the line, whole, so that lines of several processes never mix. Lines of answered requests go out together, a quarter of a
    /// second later at most; any other event takes those of its thread along at once. So lines are not in the order of their times.
    package func log() {
        var line = JSON.written { line in
            line.member("time", Timestamp.now())
            write(to: &line)
        }.bytes
        line.append(UInt8(ascii: "\n"))
        if case .answered = self { LogBuffer.own.hold(line) } else { LogBuffer.own.write(line) }
    }
}

/// What waits to be written. A system call for each request would cost more than making the line, and so would a lock that all threads want.
private final class LogBuffer: Sendable {
    private static let all = (0..<16).map { _ in LogBuffer() }

    /// The calling thread's, which it shares with few: stacks lie side by side, so their addresses tell neighbours apart.
    static var own: LogBuffer { all[Int(bitPattern: pthread_self()) >> 21 & 15] }

    private static let limit = 16 << 10
    private let held = Mutex<[UInt8]>([])

    /// Started by the first line that waits; masters have none.
    private static let ticker = WorkerThread {
        while true {
            _ = poll(nil, 0, 250)
            for buffer in all { buffer.write([]) }
        }
    }

    func hold(_ line: [UInt8]) {
        _ = Self.ticker
        let full = held.withLock { held -> [UInt8]? in
            held.append(contentsOf: line)
            guard held.count >= Self.limit else { return nil }
            defer { held.removeAll(keepingCapacity: true) }
            return held
        }
        if let full { put(full) }
    }

    /// With what waits before it.
    func write(_ line: [UInt8]) {
        put(
            held.withLock { held in
                defer { held.removeAll(keepingCapacity: true) }
                return held + line
            })
    }

    private func put(_ bytes: [UInt8]) {
        guard !bytes.isEmpty else { return }
        _ = bytes.withUnsafeBytes { Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
}

/// Ends a program that can't start: the reason as plain text for the operator, status 1.
package func quit(_ program: String, because error: any Error) -> Never {
    let text = Array("\(program): \(error)\n".utf8)
    _ = write(STDERR_FILENO, text, text.count)
    exit(1)
}
