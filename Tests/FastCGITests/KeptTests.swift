// Kept connections: they serve many requests, cost no thread while idle, and outlive the child that served them.
import Glibc
import Testing

@Suite struct KeptTests {
    @Test func oneConnectionServesManyRequests() throws {
        let rig = try Rig(threads: 1)
        defer { rig.end() }
        let client = try Client(rig.socket)
        for length in [0, 1, 100, 8000, 8192, 100_000, 1 << 20, 0] {
            let body = [UInt8](repeating: 0x61, count: length)
            let answer = client.ask(["REQUEST_METHOD": "POST", "DOCUMENT_URI": "/echo", "CONTENT_LENGTH": "\(length)"], body: body)
            #expect(answer.status == 200 && answer.isComplete)
            #expect(answer.text.hasSuffix(#""body":"\#(String(repeating: "a", count: length))"}"#), "\(length)")
        }
        for size in [0, 10, 300_000] {
            let answer = client.get("/big", query: "n=\(size)")
            #expect(answer.body.count == size && answer.isComplete)
        }
        #expect(client.ask(["REQUEST_METHOD": "HEAD", "DOCUMENT_URI": "/pid"]).body == [])
        #expect(client.get("/none").status == 204)
        #expect(client.get("/pid").status == 200)
        #expect(rig.count("malformedRequest") == 0)
    }

    @Test func parametersOfAnyLengthFollowEachOther() throws {
        let rig = try Rig(threads: 1)
        defer { rig.end() }
        let client = try Client(rig.socket)
        for length in [1, 7000, 8150, 8192, 20_000, 50_000] {
            let value = String(repeating: "x", count: length)
            let answer = client.ask(["REQUEST_METHOD": "GET", "DOCUMENT_URI": "/", "QUERY_STRING": "header=x-long", "HTTP_X_LONG": value])
            #expect(answer.text.contains(#""header":"\#(value)""#), "\(length)")
        }
    }

    @Test func idleConnectionsPinNoThread() throws {
        let rig = try Rig(threads: 2)
        defer { rig.end() }
        let file = rig.hold()
        let held = try Client(rig.socket)
        held.send(Records.request(["REQUEST_METHOD": "GET", "DOCUMENT_URI": "/held", "QUERY_STRING": "file=\(file)"], keeps: true))
        let clients = try Clients(rig.socket, count: 40)
        for _ in 0..<3 { #expect(clients.askAll() == 40) }
        unlink(file)
        #expect(held.receiveOne().status == 200)
        #expect(held.get("/pid").status == 200)
    }

    @Test func newcomersHaveTheirTurnBesideManyKeptOnes() throws {
        let rig = try Rig(threads: 1)
        defer { rig.end() }
        let kept = try Clients(rig.socket, count: 60)
        #expect(kept.askAll() == 60)
        let file = rig.hold()
        let held = try Client(rig.socket)
        held.send(Records.request(["REQUEST_METHOD": "GET", "DOCUMENT_URI": "/held", "QUERY_STRING": "file=\(file)"], keeps: true))
        let newcomers = try Clients(rig.socket, count: 40)
        newcomers.sendAll("/pid")
        // More than a socket holds, so the thread goes on only as fast as we read.
        kept.sendAll("/big", query: "n=1000000")
        unlink(file)
        #expect(kept.receiveAll() == 60)
        #expect(newcomers.answered == 40)
        #expect(newcomers.receiveAll() == 40)
    }

    @Test func dribblingPeersPinNoThread() throws {
        let rig = try Rig(threads: 1)
        defer { rig.end() }
        let kept = try Client(rig.socket)
        #expect(kept.get("/pid").status == 200)
        let fresh = try Client(rig.socket)
        let bytes = Records.request(PeerTests.plain, keeps: true)
        for end in [3, 12, 30, bytes.count - 10] {
            let sent = [3: 0, 12: 3, 30: 12][end] ?? 30
            kept.send(Array(bytes[sent..<end]))
            fresh.send(Array(bytes[sent..<end]))
            for _ in 0..<5 { #expect(try rig.servingPID() == rig.ready[0]) }
        }
        kept.send(Array(bytes.suffix(10)))
        fresh.send(Array(bytes.suffix(10)))
        #expect(kept.receiveOne().status == 200)
        #expect(fresh.receiveOne().status == 200)
        // One that leaves in between is told from one that is slow.
        kept.send(Array(bytes.prefix(30)))
        kept.finishSending()
        #expect(kept.closes() == true)
        try rig.awaitCondition("it is reported") { rig.count("malformedRequest") == 1 }
    }

    @Test func aChildKeepsOnlySoMany() throws {
        let rig = try Rig(threads: 2, keptLimit: 3)
        defer { rig.end() }
        let clients = try Clients(rig.socket, count: 3)
        #expect(clients.askAll() == 3)
        do {
            let fourth = try Client(rig.socket)
            #expect(fourth.get("/pid").status == 200)
            #expect(fourth.closes() == true)
        }
        #expect(clients.askAll() == 3)
        clients.dropFirst()
        // Whoever leaves makes room.
        try rig.awaitCondition("another one is kept") {
            let next = try Client(rig.socket)
            return next.get("/pid").status == 200 && next.get("/pid").status == 200
        }
    }

    @Test func onlyWhoWantsItIsKept() throws {
        let rig = try Rig(threads: 1)
        defer { rig.end() }
        let client = try Client(rig.socket)
        #expect(client.get("/pid").status == 200)
        client.send(Records.request(PeerTests.plain))
        #expect(client.receive().isComplete)

        // Neither is a connection with something unread or senseless on it.
        for parameters: KeyValuePairs in [
            ["REQUEST_METHOD": "POST", "DOCUMENT_URI": "/", "CONTENT_LENGTH": "2000000"], ["REQUEST_METHOD": "GET", "DOCUMENT_URI": "x"],
        ] {
            let client = try Client(rig.socket)
            client.send(Records.request(parameters, keeps: true))
            #expect(client.receive().isComplete)
        }
        let talkative = try Client(rig.socket)
        talkative.send(Records.request(["REQUEST_METHOD": "POST", "DOCUMENT_URI": "/pid"], body: [1, 2, 3], keeps: true))
        #expect(talkative.receive().isComplete)
        #expect(try rig.servingPID() == rig.ready[0])
    }

    @Test(arguments: [Records.record(2, []), Records.record(5, [1, 2, 3]), Array("GET / HTTP/1.1\r\n\r\n".utf8), [0]])
    func anIdleConnectionThatMakesNoSenseIsClosed(bytes: [UInt8]) throws {
        let rig = try Rig(threads: 1)
        defer { rig.end() }
        let client = try Client(rig.socket)
        #expect(client.get("/pid").status == 200)
        client.send(bytes)
        #expect(client.closes() == true)
        #expect(try rig.servingPID() == rig.ready[0])
        try rig.awaitCondition("it is reported") { rig.count("malformedRequest") == 1 }
    }

    @Test func anAbortedBodyKillsNobody() throws {
        let rig = try Rig(threads: 1)
        defer { rig.end() }
        let start = Records.pairs(["REQUEST_METHOD": "POST", "DOCUMENT_URI": "/", "CONTENT_LENGTH": "100"])
        let client = try Client(rig.socket)
        client.send(
            Records.keepingBegin + Records.record(4, start) + Records.record(4, []) + Records.record(5, [1, 2]) + Records.record(2, []))
        #expect(client.receive().text.contains("truncated"))
        #expect(try rig.servingPID() == rig.ready[0])
    }
}

/// Several kept connections.
final class Clients {
    private final class Box {
        let client: Client
        init(_ client: consuming Client) { self.client = client }
    }

    private var boxes: [Box] = []

    init(_ socket: String, count: Int) throws {
        for _ in 0..<count { boxes.append(Box(try Client(socket))) }
    }

    /// - Returns: how many were answered.
    func askAll() -> Int { boxes.filter { $0.client.get("/pid").status == 200 }.count }

    /// Asks, and leaves the answers for later.
    func sendAll(_ path: String, query: String = "") {
        let request = Records.request(["REQUEST_METHOD": "GET", "DOCUMENT_URI": path, "QUERY_STRING": query], keeps: true)
        for box in boxes { box.client.send(request) }
    }

    /// - Returns: how many were answered.
    func receiveAll() -> Int { boxes.filter { $0.client.receiveOne().status == 200 }.count }

    /// How many have an answer waiting.
    var answered: Int { boxes.filter { $0.client.hasAnswer }.count }

    /// Who answers each.
    func pids() -> [pid_t] { boxes.map { $0.client.get("/pid").pid } }

    func dropFirst() { boxes.removeFirst() }
}

extension Answer {
    /// Of `/pid`; 0 when it is no such answer.
    var pid: pid_t { text.firstRange(of: "\"pid\":").flatMap { pid_t(text[$0.upperBound...].prefix { $0.isNumber }) } ?? 0 }
}
