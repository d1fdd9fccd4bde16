// Kept connections when children come and go: whoever drains hands them over, and nobody at the other end notices.
import Glibc
import Synchronization
import Testing

@Suite struct HandoverTests {
    @Test(arguments: [1, 3])
    func replacingChildrenLosesNoKeptConnection(children: Int) throws {
        let rig = try Rig(children: children, threads: 2)
        defer { rig.end() }
        let idle = try Clients(rig.socket, count: 10)
        #expect(idle.askAll() == 10)
        let load = KeptLoad(rig.socket)
        for round in 1...6 {
            let served = load.answered
            rig.signal(SIGHUP)
            try rig.awaitCondition("round \(round) replaces all") {
                rig.count("childReplaced") == children * round && rig.exited.count == children * round
            }
            try rig.awaitCondition("the new ones serve") { load.answered > served + 100 }
        }
        #expect(idle.askAll() == 10)
        let failures = try load.stop()
        #expect(failures.isEmpty, "\(failures.prefix(5))")
        #expect(rig.lines.filter { $0.hasPrefix("childExited") }.allSatisfy { $0.contains("status(0)") })
        #expect(rig.lines.filter { $0.hasPrefix("handedOver") }.allSatisfy { $0.hasSuffix("lost: 0)") })
        #expect(rig.count("handedOver") > 0 && rig.count("malformedRequest") == 0)
    }

    @Test func connectionsWaitForAnotherChildWhereThereIsNone() throws {
        let rig = try Rig(children: 1, threads: 2)
        defer { rig.end() }
        let idle = try Clients(rig.socket, count: 30)
        #expect(idle.askAll() == 30)
        let half = try Client(rig.socket)
        let bytes = Records.request(PeerTests.plain, keeps: true)
        half.send(Array(bytes.prefix(20)))
        // Not by way of the master, so nobody is ready to succeed.
        kill(rig.ready[0], SIGTERM)
        try rig.awaitCondition("there is another one") { rig.ready.count == 2 }
        half.send(Array(bytes.dropFirst(20)))
        #expect(half.receiveOne().pid == rig.ready[1])
        #expect(idle.pids() == Array(repeating: rig.ready[1], count: 30))
    }

    @Test func aBusyConnectionIsHandedOverBehindItsAnswer() throws {
        let rig = try Rig(children: 1, threads: 1)
        defer { rig.end() }
        let file = rig.hold()
        let client = try Client(rig.socket)
        client.send(Records.request(["REQUEST_METHOD": "GET", "DOCUMENT_URI": "/held", "QUERY_STRING": "file=\(file)"], keeps: true))
        rig.signal(SIGHUP)
        try rig.awaitCondition("it is replaced") { rig.count("childReplaced") == 1 }
        unlink(file)
        #expect(client.receiveOne().pid == rig.ready[0])
        #expect(client.get("/pid").pid == rig.ready[1])
    }

    @Test func aKilledChildTakesOnlyItsOwnAlong() throws {
        let rig = try Rig(children: 2, threads: 1)
        defer { rig.end() }
        let file = rig.hold()
        let client = try Client(rig.socket)
        client.send(Records.request(["REQUEST_METHOD": "GET", "DOCUMENT_URI": "/held", "QUERY_STRING": "file=\(file)"], keeps: true))
        let other = try Client(rig.socket)
        let living = other.get("/pid").pid
        let victim = rig.ready[0] == living ? rig.ready[1] : rig.ready[0]
        kill(victim, SIGKILL)
        #expect(client.closes() == true)
        #expect(other.get("/pid").status == 200)
        try rig.awaitCondition("it is replaced") { rig.ready.count == 3 }
        #expect(other.get("/pid").status == 200)
    }

    @Test func connectionsFindTheirWayToANewChild() throws {
        let rig = try Rig(children: 2, threads: 1)
        defer { rig.end() }
        let load = KeptLoad(rig.socket)
        for round in 1...3 {
            kill(rig.ready[round - 1], SIGTERM)
            try rig.awaitCondition("there is another one") { rig.ready.count == 2 + round }
            try rig.awaitCondition("it serves") { load.servants.contains(rig.ready[1 + round]) }
        }
        let failures = try load.stop()
        #expect(failures.isEmpty, "\(failures.prefix(5))")
    }

    @Test func stoppingClosesIdleConnections() throws {
        let rig = try Rig(children: 2, threads: 2)
        defer { rig.end() }
        let client = try Client(rig.socket)
        #expect(client.get("/pid").status == 200)
        let load = KeptLoad(rig.socket)
        try rig.awaitCondition("requests are answered") { load.answered > 100 }
        rig.signal(SIGTERM)
        try rig.awaitCondition("it ends") { rig.ending != nil }
        #expect(rig.ending == 0)
        #expect(client.closes() == true)
        _ = try load.stop()
        #expect(rig.lines.filter { $0.hasPrefix("childExited") }.allSatisfy { $0.contains("status(0)") })
    }

    @Test func tcpConnectionsAreKeptAndHandedOverToo() throws {
        // An unprivileged port that no other test of this run takes.
        let port = 30_000 + Int.random(in: 0..<2000)
        let rig = try Rig(children: 1, threads: 1, address: "127.0.0.1:\(port)")
        defer { rig.end() }
        let client = try Client(":\(port)")
        #expect(client.get("/pid").pid == rig.ready[0])
        rig.signal(SIGHUP)
        try rig.awaitCondition("it is replaced") { rig.exited.count == 1 }
        #expect(client.get("/pid").pid == rig.ready[1])
        rig.signal(SIGTERM)
        try rig.awaitCondition("it ends") { rig.ending == 0 }
        #expect(client.closes() == true)
    }
}

/// Eight threads, each with a connection that it keeps and asks on again and again.
final class KeptLoad: Sendable {
    private let state = Mutex((answered: 0, servants: Set<pid_t>(), isOver: false))
    private let clients = Mutex<[Background<[String]>]>([])

    init(_ socket: String) {
        let started = (0..<8).map { number in
            Background { [self] in
                let client = try Client(socket)
                while !state.withLock({ $0.isOver }) {
                    // One that pauses is asked anew at any moment of a replacement.
                    if number % 2 == 1 { usleep(UInt32.random(in: 0..<3000)) }
                    let answer = client.get("/pid")
                    guard answer.status == 200, answer.isComplete else { return ["broken: \(answer)"] }
                    state.withLock {
                        $0.answered += 1
                        $0.servants.insert(answer.pid)
                    }
                }
                return []
            }
        }
        clients.withLock { $0 = started }
    }

    var answered: Int { state.withLock { $0.answered } }
    var servants: Set<pid_t> { state.withLock { $0.servants } }

    /// - Returns: what failed.
    func stop() throws -> [String] {
        state.withLock { $0.isOver = true }
        return try clients.withLock { $0 }.flatMap { try $0.value() }
    }
}
