// What a handler sees of a FastCGI request and what a peer sees of its answer, over a real pool.
import Testing

@Suite struct CodecTests {
    @Test func aGetArrivesAsAValue() throws {
        let rig = try Rig()
        defer { rig.end() }
        let answer = try Client.ask(
            rig.socket,
            [
                "REQUEST_METHOD": "GET", "DOCUMENT_URI": "/a b/ü", "QUERY_STRING": "q=%C3%A4+b&header=x-api-key",
                "REMOTE_ADDR": "2001:db8::1",
                "REQUEST_ID": "abc.DEF-1_2", "HTTP_X_API_KEY": "key", "CONTENT_LENGTH": "", "CONTENT_TYPE": "",
            ])
        #expect(answer.status == 200)
        #expect(answer.headers["content-type"] == "application/json; charset=utf-8")
        #expect(answer.headers["x-request-id"] == "abc.DEF-1_2")
        #expect(answer.headers["content-length"] == "\(answer.body.count)")
        #expect(answer.isComplete)
        #expect(
            answer.text
                == #"{"method":"GET","path":"/a b/ü","q":"ä b","header":"key","remote":"2001:db8::1","id":"abc.DEF-1_2","body":""}"#)
    }

    @Test(arguments: [1, 8000, 100_000, 1 << 20])
    func aBodyArrivesWhole(length: Int) throws {
        let rig = try Rig()
        defer { rig.end() }
        let body = (0..<length).map { UInt8(0x61 + $0 % 26) }
        let answer = try Client.ask(
            rig.socket,
            [
                "REQUEST_METHOD": "POST", "DOCUMENT_URI": "/", "CONTENT_LENGTH": "\(length)", "CONTENT_TYPE": "text/plain",
                "HTTP_CONTENT_TYPE": "text/plain", "QUERY_STRING": "header=content-type",
            ], body: body)
        #expect(answer.text.hasSuffix(#""body":"\#(String(decoding: body, as: UTF8.self))"}"#))
        #expect(answer.text.contains(#""header":"text/plain""#))
    }

    @Test(arguments: ["1048577", "99999999999999999999", "-1", "+1", "1 ", "abc"])
    func aBadLengthIsTooLarge(length: String) throws {
        let rig = try Rig()
        defer { rig.end() }
        // More than any socket's buffer, so an answer proves that nobody waits for it.
        let answer = try Client.ask(
            rig.socket, ["REQUEST_METHOD": "POST", "DOCUMENT_URI": "/", "CONTENT_LENGTH": length],
            body: [UInt8](repeating: 0x61, count: 50_000))
        #expect(answer.text.hasSuffix(#""body":{"state":"tooLarge"}}"#))
        #expect(answer.isComplete)
    }

    @Test func anAnswerToATooLargeBodyReachesAPeerThatStillSends() throws {
        let rig = try Rig()
        defer { rig.end() }
        let client = try Client(rig.socket)
        client.send(
            Records.begin + Records.record(4, Records.pairs(["REQUEST_METHOD": "POST", "DOCUMENT_URI": "/", "CONTENT_LENGTH": "2000000"])))
        client.send(Records.record(4, []))
        let isSent = client.send(Records.input([UInt8](repeating: 0x61, count: 2_000_000)))
        #expect(isSent)
        client.finishSending()
        #expect(client.receive().text.contains("tooLarge"))
    }

    @Test func aShortBodyIsTruncated() throws {
        let rig = try Rig()
        defer { rig.end() }
        let answer = try Client.ask(
            rig.socket, ["REQUEST_METHOD": "POST", "DOCUMENT_URI": "/", "CONTENT_LENGTH": "10"], body: Array("short".utf8))
        #expect(answer.text.hasSuffix(#""body":{"state":"truncated"}}"#))
    }

    @Test func namesLoseTheirUnderscoresAndValuesTheirBadBytes() throws {
        let rig = try Rig()
        defer { rig.end() }
        let name = "HTTP_X_ODD_NAME_1"
        let pair = [UInt8(name.utf8.count), 3] + Array(name.utf8) + [0x61, 0xFF, 0x62]
        let parameters = Records.pairs(["REQUEST_METHOD": "GET", "DOCUMENT_URI": "/", "QUERY_STRING": "header=x-odd-name-1"]) + pair
        let client = try Client(rig.socket)
        client.send(Records.begin + Records.record(4, parameters) + Records.record(4, []) + Records.record(5, []))
        #expect(client.receive().text.contains(#""header":"a\#u{FFFD}b""#))
    }

    @Test(arguments: ["", "has space", "new\nline", String(repeating: "x", count: 65), "ünï"])
    func aBadRequestIDIsReplaced(id: String) throws {
        let rig = try Rig()
        defer { rig.end() }
        let ids = try (0..<2).map { _ in
            let answer = try Client.ask(rig.socket, ["REQUEST_METHOD": "GET", "DOCUMENT_URI": "/", "REQUEST_ID": id])
            return try #require(answer.headers["x-request-id"])
        }
        #expect(ids[0] != ids[1])
        #expect(ids.allSatisfy { $0.count == 32 && $0.allSatisfy(\.isHexDigit) })
    }

    @Test func headersOfAnAnswerCantBreakOut() throws {
        let rig = try Rig()
        defer { rig.end() }
        let answer = try Client.get(rig.socket, "/headers")
        #expect(answer.status == 201)
        #expect(answer.headers == ["status": "201 Created", "x-plain": "oneX-Evil: two", "x-request-id": "own", "content-length": "2"])
        #expect(answer.text == "ok")
    }

    @Test func headAndNoContentHaveNoBody() throws {
        let rig = try Rig()
        defer { rig.end() }
        let head = try Client.ask(rig.socket, ["REQUEST_METHOD": "HEAD", "DOCUMENT_URI": "/big", "QUERY_STRING": "n=70000"])
        #expect(head.status == 200)
        #expect(head.headers["content-length"] == "70000")
        #expect(head.body.isEmpty && head.isComplete)
        let none = try Client.get(rig.socket, "/none")
        #expect(none.status == 204)
        #expect(none.headers["content-length"] == nil)
    }

    @Test(arguments: [0, 7000, 8150, 8192, 65_536, 9_000_001])
    func anAnswerOfAnySizeArrivesWhole(size: Int) throws {
        let rig = try Rig()
        defer { rig.end() }
        let answer = try Client.get(rig.socket, "/big", query: "n=\(size)")
        #expect(answer.body == (0..<size).map { UInt8(truncatingIfNeeded: $0) })
        #expect(answer.isComplete)
    }

    @Test func tcpWorksLikeAUnixSocket() throws {
        // An unprivileged port that no other test of this run takes.
        let port = 20_000 + Int.random(in: 0..<10_000)
        let rig = try Rig(address: "127.0.0.1:\(port)")
        defer { rig.end() }
        let answer = try Client.ask(":\(port)", ["REQUEST_METHOD": "GET", "DOCUMENT_URI": "/", "QUERY_STRING": "q=1"])
        #expect(answer.text.contains(#""q":"1""#))
    }
}
