// One running pool per test, in a folder of its own. The program is PoolFixture, built beside the tests.
import Foundation
import Glibc
import Synchronization
import Testing

/// A master with its children; killed, with all of them, when the last reference goes.
final class Rig: Sendable {
    let folder: String
    let socket: String
    let master: pid_t
    private let events = Mutex<[String]>([])
    private let status = Mutex<Int32?>(nil)

    /// Starts a master and waits until its children are ready.
    convenience init(
        children: Int = 1, threads: Int = 2, drainSeconds: Int = 10, user: String = "-", address: String? = nil, keptLimit: Int = 512,
        niceness: Int = 0
    ) throws {
        let folder = FileManager.default.temporaryDirectory.path + "/pool-" + UUID().uuidString
        // Another user must reach the socket and the files in here.
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
        try self.init(
            in: folder, children: children, threads: threads, drainSeconds: drainSeconds, user: user, address: address,
            keptLimit: keptLimit,
            niceness: niceness)
        try awaitCondition("all children are ready") { ready.count == children }
    }

    /// Starts a master in a folder that exists, and waits for nothing.
    init(
        in folder: String, children: Int = 1, threads: Int = 2, drainSeconds: Int = 10, user: String = "-", address: String? = nil,
        keptLimit: Int = 512, niceness: Int = 0
    ) throws {
        self.folder = folder
        socket = folder + "/s"
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
            .appendingPathComponent("PoolFixture")
        process.arguments = [
            "master", address ?? socket, "\(children)", "\(threads)", "\(drainSeconds)", user, "\(keptLimit)", "\(niceness)",
        ]
        let pipe = Pipe()
        process.standardError = pipe
        try process.run()
        master = process.processIdentifier
        Thread.detachNewThread { [self] in
            while case let data = pipe.fileHandleForReading.availableData, !data.isEmpty {
                // Every event is one write, far below what a pipe keeps whole.
                let lines = String(decoding: data, as: UTF8.self).split(separator: "\n").map(String.init)
                events.withLock { $0 += lines }
            }
            process.waitUntilExit()
            let reason = process.terminationReason == .exit ? 0 : Int32(1000)
            status.withLock { $0 = reason + process.terminationStatus }
        }
    }

    /// Lets the master and whoever listens to it go; the reading thread ends with them.
    func end() {
        kill(master, SIGKILL)
        for pid in started { kill(pid, SIGKILL) }
        try? FileManager.default.removeItem(atPath: folder)
    }

    func signal(_ signal: Int32) { kill(master, signal) }

    /// The exit status of the master, 1000 + signal when killed; `nil` while it or a child lives.
    var ending: Int32? { status.withLock { $0 } }

    var lines: [String] { events.withLock { $0 } }
    func count(_ event: String) -> Int { lines.filter { $0.hasPrefix(event) }.count }
    var started: [pid_t] { pids("childStarted") }
    var ready: [pid_t] { pids("childReady") }
    var exited: [pid_t] { pids("childExited") }

    private func pids(_ event: String) -> [pid_t] {
        lines.filter { $0.hasPrefix(event) }.compactMap { line in
            line.firstRange(of: "pid: ").flatMap { pid_t(line[$0.upperBound...].prefix { $0.isNumber }) }
        }
    }

    /// The process that answers a request.
    func servingPID() throws -> pid_t {
        let text = try Client.get(socket, "/pid").text
        return try #require(text.firstRange(of: "\"pid\":").flatMap { pid_t(text[$0.upperBound...].prefix { $0.isNumber }) })
    }

    /// A file that keeps `/held` requests waiting until it is removed.
    func hold() -> String {
        let file = folder + "/held"
        touch(file)
        return file
    }

    func awaitCondition(_ what: String, _ isMet: () throws -> Bool) throws {
        let deadline = ContinuousClock.now + .seconds(20)
        while try !isMet() {
            try #require(ContinuousClock.now < deadline, "\(what): not within 20 s; events: \(lines.suffix(20))")
            usleep(2000)
        }
    }
}

/// Makes an empty file.
func touch(_ path: String) { close(open(path, O_CREAT | O_WRONLY, 0o644)) }

/// Runs a closure on a thread of its own.
final class Background<Value: Sendable>: Sendable {
    private let result = Mutex<Result<Value, any Error>?>(nil)
    private let isDone = DispatchSemaphore(value: 0)

    init(_ work: @escaping @Sendable () throws -> Value) {
        Thread.detachNewThread { [self] in
            let outcome = Result { try work() }
            result.withLock { $0 = outcome }
            isDone.signal()
        }
    }

    func value() throws -> Value {
        isDone.wait()
        return try #require(result.withLock { $0 }).get()
    }
}
