// The master's promises, on real processes: no request lost on SIGHUP, the dead replaced, SIGTERM drains, one master per socket.
import Foundation
import Glibc
import Synchronization
import Testing

@Suite struct MasterTests {
    @Test func replacingChildrenUnderLoadLosesNothing() throws {
        let rig = try Rig(children: 2, threads: 3)
        defer { rig.end() }
        let load = Load(rig.socket)
        for round in 1...5 {
            let served = load.answered
            rig.signal(SIGHUP)
            try rig.awaitCondition("round \(round) replaces both") {
                rig.count("childReplaced") == 2 * round && rig.exited.count == 2 * round
            }
            try rig.awaitCondition("the new ones serve") { load.answered > served + 100 }
        }
        let failures = try load.stop()
        #expect(failures == [])
        #expect(load.answered > 500)
        #expect(Set(rig.started).count == 12)
        #expect(rig.lines.filter { $0.hasPrefix("childExited") }.allSatisfy { $0.contains("status(0)") })
    }

    @Test func aKilledChildIsReplaced() throws {
        let rig = try Rig(children: 1)
        defer { rig.end() }
        for round in 1...3 {
            let victim = try rig.servingPID()
            kill(victim, SIGKILL)
            try rig.awaitCondition("it is replaced") { rig.ready.count == round + 1 }
            #expect(try rig.servingPID() != victim)
        }
        #expect(rig.lines.filter { $0.hasPrefix("childExited") }.allSatisfy { $0.contains("signal(9)") })
        #expect(rig.lines.filter { $0.hasPrefix("childBackingOff") }.map { $0.suffix(5) } == [" 100)", " 200)"])
    }

    @Test func stoppingServesWhoeverHadConnected() throws {
        let rig = try Rig(children: 1, threads: 1)
        defer { rig.end() }
        let file = rig.hold()
        let running = try Client(rig.socket)
        running.send(Records.request(["REQUEST_METHOD": "GET", "DOCUMENT_URI": "/held", "QUERY_STRING": "file=\(file)"]))
        let waiting = try Client(rig.socket)
        waiting.send(Records.request(["REQUEST_METHOD": "GET", "DOCUMENT_URI": "/pid"]))
        rig.signal(SIGTERM)
        try rig.awaitCondition("it drains") { rig.count("draining") == 1 }
        try rig.awaitCondition("nobody can connect") { (try? Client(rig.socket)) == nil }
        #expect(rig.ending == nil)
        unlink(file)
        #expect(running.receive().status == 200)
        #expect(waiting.receive().status == 200)
        try rig.awaitCondition("it ends") { rig.ending != nil }
        #expect(rig.ending == 0)
        #expect(rig.lines.contains { $0.hasPrefix("childExited") && $0.contains("status(0)") })
        #expect(access(rig.socket, F_OK) != 0)
    }

    @Test func stoppingUnderLoadLosesNoAcceptedRequest() throws {
        let rig = try Rig(children: 2, threads: 2)
        defer { rig.end() }
        let load = Load(rig.socket)
        try rig.awaitCondition("requests are answered") { load.answered > 200 }
        rig.signal(SIGTERM)
        try rig.awaitCondition("it ends") { rig.ending != nil }
        #expect(rig.ending == 0)
        // Being refused is what stopping means; a broken answer is not.
        let failures = try load.stop().filter { !$0.hasPrefix("refused") }
        #expect(failures == [])
    }

    @Test func drainingIsBounded() throws {
        let rig = try Rig(children: 1, threads: 2, drainSeconds: 1)
        defer { rig.end() }
        let stuck = try Client(rig.socket)
        stuck.send(Records.request(["REQUEST_METHOD": "GET", "DOCUMENT_URI": "/held", "QUERY_STRING": "file=\(rig.hold())"]))
        // The other thread's answer comes after the first request was accepted.
        _ = try rig.servingPID()
        rig.signal(SIGTERM)
        try rig.awaitCondition("it ends") { rig.ending != nil }
        #expect(rig.ending == 0)
        #expect(rig.lines.contains(#"drainExpired(pool: "test", threads: 1)"#))
        #expect(stuck.receive().status == 0)
    }

    @Test func aSecondMasterRefuses() throws {
        let rig = try Rig()
        defer { rig.end() }
        let second = try Rig(in: rig.folder)
        defer { second.end() }
        try rig.awaitCondition("the second ends") { second.ending != nil }
        #expect(second.ending == 69)
        #expect(second.lines == ["pool test: another master serves \(rig.socket) (it holds \(rig.socket).lock)"])
        #expect(try rig.servingPID() == rig.ready[0])
    }

    @Test func childrenOutliveAKilledMasterOnlyToDrain() throws {
        let rig = try Rig(children: 2, threads: 1)
        defer { rig.end() }
        let file = rig.hold()
        let running = try Client(rig.socket)
        running.send(Records.request(["REQUEST_METHOD": "GET", "DOCUMENT_URI": "/held", "QUERY_STRING": "file=\(file)"]))
        let busy = try rig.servingPID() == rig.ready[0] ? rig.ready[1] : rig.ready[0]
        rig.signal(SIGKILL)
        try rig.awaitCondition("the idle child leaves") { rig.ready.allSatisfy { $0 == busy || kill($0, 0) != 0 } }

        // The stale socket is no obstacle.
        let next = try Rig(in: rig.folder)
        defer { next.end() }
        try next.awaitCondition("the next master serves") { next.ready.count == 1 }
        #expect(try next.servingPID() == next.ready[0])
        unlink(file)
        #expect(running.receive().status == 200)
        // The events' pipe closes when the last child is gone.
        try rig.awaitCondition("the busy child leaves") { rig.ending == 1009 }
    }

    @Test func aChildWithoutHandlersBacksOffAndRecovers() throws {
        let folder = NSTemporaryDirectory() + "/pool-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        touch(folder + "/s.refuse")
        let rig = try Rig(in: folder)
        defer { rig.end() }
        try rig.awaitCondition("it backs off") { rig.count("childBackingOff") == 3 }
        #expect(rig.lines.filter { $0.hasPrefix("childBackingOff") }.map { $0.suffix(5) } == [" 100)", " 200)", " 400)"])
        #expect(rig.lines.contains(#"childFailed(pool: "test", reason: "no handler: NotNow()")"#))
        #expect(rig.count("childExited") >= 4 && rig.ready.isEmpty)
        unlink(folder + "/s.refuse")
        try rig.awaitCondition("it recovers") { rig.ready.count == 1 }
        #expect(try rig.servingPID() == rig.ready[0])
    }

    @Test func aReplacementThatFailsLeavesTheOldChildren() throws {
        let rig = try Rig(children: 2)
        defer { rig.end() }
        touch(rig.socket + ".refuse")
        rig.signal(SIGHUP)
        try rig.awaitCondition("it is called off") { rig.count("replacementAbandoned") == 1 }
        #expect(rig.started.count == 3 && rig.exited.count == 1)
        #expect(try rig.ready.contains(rig.servingPID()))
    }

    @Test func theSocketIsForItsGroup() throws {
        let rig = try Rig()
        defer { rig.end() }
        var info = stat()
        #expect(stat(rig.socket, &info) == 0)
        #expect(info.st_mode & 0o777 == 0o660)
        if geteuid() == 0 { #expect(info.st_gid == getgrnam("daemon").pointee.gr_gid) }
    }

    @Test(.enabled(if: geteuid() == 0, "only root can become another user"), arguments: [0, 10])
    func childrenBecomeTheirUser(niceness: Int) throws {
        let rig = try Rig(user: "nobody", niceness: niceness)
        defer { rig.end() }
        let nobody = try #require(getpwnam("nobody")).pointee
        #expect(try Client.get(rig.socket, "/pid").text.hasSuffix(#""uid":\#(nobody.pw_uid),"gid":\#(nobody.pw_gid)}"#))
        let status = try String(contentsOfFile: "/proc/\(rig.ready[0])/status", encoding: .utf8)
        #expect(status.contains("NoNewPrivs:\t1"))
        #expect(status.contains("Groups:\t\(nobody.pw_gid) \n"))
        // They start at a lower priority and come to their pool's.
        let tasks = "/proc/\(rig.ready[0])/task"
        try rig.awaitCondition("every thread has the pool's priority") {
            try FileManager.default.contentsOfDirectory(atPath: tasks).allSatisfy { task in
                let fields = try String(contentsOfFile: "\(tasks)/\(task)/stat", encoding: .utf8).split(separator: ")").last?.split(
                    separator: " ")
                return fields?[16] == "\(niceness)"
            }
        }
        rig.signal(SIGKILL)
        try rig.awaitCondition("they notice the master's death") { rig.ending == 1009 }
    }
}

/// Eight threads that ask again and again, each time on a new connection.
final class Load: Sendable {
    private let state = Mutex((answered: 0, isOver: false))
    private let clients = Mutex<[Background<[String]>]>([])

    init(_ socket: String) {
        let started = (0..<8).map { _ in
            Background { [self] in
                var failures: [String] = []
                while !state.withLock({ $0.isOver }) {
                    do {
                        let answer = try Client.get(socket, "/pid")
                        if answer.status == 200, answer.isComplete {
                            state.withLock { $0.answered += 1 }
                        } else {
                            failures.append("broken: \(answer)")
                        }
                    } catch is Refused {
                        return failures + ["refused"]
                    } catch {
                        failures.append("\(error)")
                    }
                }
                return failures
            }
        }
        clients.withLock { $0 = started }
    }

    var answered: Int { state.withLock { $0.answered } }

    /// - Returns: what failed.
    func stop() throws -> [String] {
        state.withLock { $0.isOver = true }
        return try clients.withLock { $0 }.flatMap { try $0.value() }
    }
}
