// A client that keeps its connection and forgives nothing: it never sends a request twice, so an end without an answer is a failure.
import Glibc
import Synchronization
import System

package final class Requester {
    private let port: Int
    private let keepsConnection: Bool
    private var peer: Peer?

    package init(port: Int, keepsConnection: Bool) {
        self.port = port
        self.keepsConnection = keepsConnection
    }

    /// - Returns: the status and the body; `nil` when the connection ended without them.
    package func get(_ path: String) -> (status: Int, headers: [String], body: String)? {
        let answer = ask(path)
        if answer == nil { peer = nil }
        return answer
    }

    private func ask(_ path: String) -> (status: Int, headers: [String], body: String)? {
        if peer == nil { peer = connect() }
        guard let peer else { return nil }
        let connection = keepsConnection ? "" : "Connection: close\r\n"
        peer.write("GET \(path) HTTP/1.1\r\nHost: balancer\r\n\(connection)\r\n")
        guard let line = peer.line(), let status = Int(line.split(separator: " ").dropFirst().first ?? "") else { return nil }
        var headers: [String] = []
        while let header = peer.line(), !header.isEmpty { headers.append(header.lowercased()) }
        let length = headers.first { $0.hasPrefix("content-length: ") }.flatMap { Int($0.dropFirst(16)) } ?? 0
        let bytes = peer.bytes(length)
        guard bytes.count == length else { return nil }
        let body = String(decoding: bytes, as: UTF8.self)
        if headers.contains("connection: close") { self.peer = nil }
        return (status, headers, body)
    }

    private func connect() -> Peer? {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let status = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        return status == 0 ? Peer(descriptor) : nil
    }
}

/// Requests without a pause, half of the threads on kept connections, from now until `stop`.
package final class Load: Sendable {
    private let isOver = Atomic(false)
    private let counts = Mutex<(bodies: [String: Int], failures: [String])>(([:], []))
    private let threads = Mutex<[WorkerThread]>([])

    package init(port: Int, threads count: Int = 4) {
        threads.withLock { threads in
            threads = (0..<count).map { number in
                WorkerThread { [self] in
                    let requester = Requester(port: port, keepsConnection: number % 2 == 0)
                    while !isOver.load(ordering: .relaxed) { note(requester.get("/")) }
                }
            }
        }
    }

    /// One request on a thread of its own.
    package static func one(port: Int, _ path: String) -> Single { Single(port: port, path) }

    private func note(_ answer: (status: Int, headers: [String], body: String)?) {
        counts.withLock { counts in
            if let answer, answer.status == 200 {
                counts.bodies[answer.body, default: 0] += 1
            } else {
                counts.failures.append(answer.map { "\($0.status) \($0.body)" } ?? "the connection ended")
            }
        }
    }

    /// Answers so far, by their bodies.
    package var bodies: [String: Int] { counts.withLock { $0.bodies } }

    /// What failed, and whether that was too much.
    package struct Failures: CustomStringConvertible {
        private let all: [String]
        private let threads: Int

        fileprivate init(_ all: [String], threads: Int) { (self.all, self.threads) = (all, threads) }

        /// Each thread may have had one request at a target that died just then.
        package func areOnlyThose(inFlightAt deaths: Int) -> Bool { all.count <= deaths * threads }

        package var description: String { "\(all.count): \(Set(all).sorted().prefix(5))" }
    }

    package func stop() -> Failures {
        isOver.store(true, ordering: .relaxed)
        let threads = threads.withLock { $0 }
        for thread in threads { thread.join() }
        return Failures(counts.withLock { $0.failures }, threads: threads.count)
    }
}

package final class Single: Sendable {
    private let thread: WorkerThread
    private let answer: Recorder<String>

    fileprivate init(port: Int, _ path: String) {
        let answer = Recorder<String>()
        thread = WorkerThread {
            answer.add(Requester(port: port, keepsConnection: false).get(path).map { "\($0.status) \($0.body)" } ?? "no answer")
        }
        self.answer = answer
    }

    /// Waits for the answer.
    package func value() -> String? {
        thread.join()
        return answer.values.first
    }
}
