// Peers that misbehave: whatever they send or leave out, the child lives and the next request is answered.
import Glibc
import Testing

@testable import FastCGI

@Suite struct PeerTests {
    static let plain: KeyValuePairs<String, String> = ["REQUEST_METHOD": "GET", "DOCUMENT_URI": "/pid"]
    static let header = Records.begin.prefix(8)

    /// Name, bytes; after them the peer ends its side.
    static let malformed: [(String, [UInt8])] = [
        ("garbage", Array("GET / HTTP/1.1\r\nHost: x\r\n\r\n".utf8)),
        ("one wrong byte", [0x47]),
        ("wrong version", Records.record(1, [0, 1, 0, 0, 0, 0, 0, 0], version: 2)),
        ("truncated header", Array(Records.begin.prefix(5))),
        ("truncated begin", Array(Records.begin.prefix(12))),
        ("no begin", Records.record(4, Records.pairs(plain)) + Records.record(4, [])),
        ("other role", Records.record(1, [0, 3, 0, 0, 0, 0, 0, 0]) + Records.record(4, [])),
        ("no end of parameters", Records.begin + Records.record(4, Records.pairs(plain))),
        ("cut pair", Records.begin + Records.record(4, [4, 200, 0x41]) + Records.record(4, [])),
        ("huge name", Records.begin + Records.record(4, [0xFF, 0xFF, 0xFF, 0xFF, 1, 0x41]) + Records.record(4, [])),
        ("huge sum", Records.begin + Records.record(4, [0xFF, 0xFF, 0xFF, 0xFE, 0xFF, 0xFF, 0xFF, 0xFE]) + Records.record(4, [])),
        ("huge value", Records.begin + Records.record(4, [1, 0xFF, 0xFF, 0xFF, 0xFE, 0x41]) + Records.record(4, [])),
        ("record longer than sent", Records.begin + [1, 4, 0, 1, 0xFF, 0xFF, 0xFF, 0]),
        ("too many parameters", Records.begin + (0..<2).flatMap { _ in Records.record(4, [UInt8](repeating: 0, count: 60_000)) }),
        ("values asked", Records.begin + [1, 9, 0, 0, 0, 18, 0, 0, 14, 0] + Array("FCGI_MAX_CONNS__".utf8)),
        ("no path", Records.request(["REQUEST_METHOD": "GET"])),
        ("relative path", Records.request(["REQUEST_METHOD": "GET", "DOCUMENT_URI": "x"])),
        ("no method", Records.request(["DOCUMENT_URI": "/pid"])),
    ]

    @Test func malformedRequestsKillNobody() throws {
        let rig = try Rig(threads: 1)
        defer { rig.end() }
        let pid = try rig.servingPID()
        for (index, (name, bytes)) in Self.malformed.enumerated() {
            let client = try Client(rig.socket)
            client.send(bytes)
            client.finishSending()
            let answer = client.receive()
            #expect(answer.status == 0, "\(name)")
            #expect(try rig.servingPID() == pid, "after \(name)")
            try rig.awaitCondition("\(name) is reported") { rig.count("malformedRequest") == index + 1 }
        }
        #expect(rig.exited.isEmpty)
    }

    @Test func garbageInsideABodyOnlyTruncatesIt() throws {
        let rig = try Rig(threads: 1)
        defer { rig.end() }
        let start = Records.pairs(["REQUEST_METHOD": "POST", "DOCUMENT_URI": "/", "CONTENT_LENGTH": "100"])
        let client = try Client(rig.socket)
        client.send(
            Records.begin + Records.record(4, start) + Records.record(4, []) + Records.record(5, [1, 2, 3]) + Array("garbage!".utf8))
        #expect(client.receive().text.contains("truncated"))
        #expect(try rig.servingPID() == rig.ready[0])
    }

    @Test func aPeerThatLeavesEarlyKillsNobody() throws {
        let rig = try Rig(threads: 1)
        defer { rig.end() }
        for size in [10, 300_000, 5_000_000] {
            do {
                let client = try Client(rig.socket)
                client.send(Records.request(["REQUEST_METHOD": "GET", "DOCUMENT_URI": "/big", "QUERY_STRING": "n=\(size)"]))
            }
            #expect(try rig.servingPID() == rig.ready[0])
        }
        // Connecting and leaving is no request, not even a malformed one.
        do { _ = try Client(rig.socket) }
        #expect(try rig.servingPID() == rig.ready[0])
        #expect(rig.count("malformedRequest") == 0)
    }

    @Test func aSilentPeerHoldsUpOnlyItsThread() throws {
        let rig = try Rig(threads: 2)
        defer { rig.end() }
        let silent = try Client(rig.socket)
        silent.send(Array(Records.begin.prefix(3)))
        let started = ContinuousClock.now
        for _ in 0..<50 { _ = try rig.servingPID() }
        #expect(ContinuousClock.now - started < .seconds(8), "they must not wait for the silent peer's limit of 10 s")
        // The silent peer may still go on.
        silent.send(Array(Records.request(Self.plain).dropFirst(3)))
        #expect(silent.receive().status == 200)
    }

    @Test(arguments: [0, 3, 30])
    func anOpeningIsNotAwaitedForEver(sent: Int) throws {
        var ends: [Int32] = [-1, -1]
        try #require(socketpair(AF_UNIX, 1, 0, &ends) == 0)
        defer { for end in ends { close(end) } }
        let bytes = Records.request(Self.plain)
        #expect(send(ends[0], bytes, sent, 0) == sent)
        let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 70_000, alignment: 16)
        defer { scratch.deallocate() }
        #expect(Opening.await(on: ends[1], scratch: scratch, patience: 50) == .malformed("no whole request within 50 ms"))
        shutdown(ends[0], Int32(SHUT_WR))
        let expected: Opening = sent == 0 ? .abandoned : .malformed("the peer left within its parameters")
        #expect(Opening.await(on: ends[1], scratch: scratch, patience: 20_000) == expected)
    }

    @Test func anOpeningIsJudgedAlikeHoweverItIsCut() {
        let bytes =
            Records.begin + Records.record(4, Array(Records.pairs(Self.plain).prefix(20)))
            + Records.record(4, Array(Records.pairs(Self.plain).dropFirst(20)))
            + Records.record(4, Records.length(300) + [0] + [UInt8](repeating: 0x41, count: 300)) + Records.record(4, [])
        for length in 0..<bytes.count {
            #expect(bytes.prefix(length).withUnsafeBytes { Opening.judge($0) } == nil, "at \(length)")
        }
        #expect(bytes.withUnsafeBytes { Opening.judge($0) } == .complete)
        #expect((bytes + [9, 9]).withUnsafeBytes { Opening.judge($0) } == .complete)
    }
}
