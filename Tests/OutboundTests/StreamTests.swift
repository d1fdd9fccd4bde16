// Streams, and how a thread that waits is stopped.
import Outbound
import Synchronization
import TestSupport
import Testing

struct StreamTests {
    /// One letter for each line that the client's side causes; ends when the client goes.
    private func ticker() -> LocalServer {
        LocalServer { peer in
            guard LocalServer.received(peer) != nil else { return }
            guard peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n") else { return }
            while peer.write("4\r\ntick\r\n") {}
        }
    }

    @Test func receiverEndsIt() throws {
        let server = ticker()
        let received = Recorder<[UInt8]>()
        let answer = try HTTPClient().stream(OutboundRequest(url: "http://127.0.0.1:\(server.port)/", timeout: 0, responseLimit: 8)) {
            bytes in
            received.add(bytes)
            return received.values.count < 3
        }
        #expect(answer.status == 200)
        #expect(answer.body == [])
        #expect(received.values.count == 3)
        #expect(String(decoding: received.values[0], as: UTF8.self).hasPrefix("tick"))
    }

    @Test func failuresAreAnswers() throws {
        let server = LocalServer.http { _ in ok("no such thing", status: "404 Not Found") }
        let answer = try HTTPClient().stream(OutboundRequest(url: "http://127.0.0.1:\(server.port)/")) { _ in
            Issue.record("only the body of a success is streamed")
            return true
        }
        #expect(answer.status == 404)
        #expect(answer.body == Array("no such thing".utf8))
    }

    @Test func cancelWhileNothingComes() throws {
        let server = LocalServer { $0.awaitEnd() }
        let asked = Recorder<Void>()
        let start = ContinuousClock.now
        #expect(throws: OutboundError.cancelled) {
            try HTTPClient().send(
                OutboundRequest(url: "http://127.0.0.1:\(server.port)/"),
                isCancelled: {
                    asked.add(())
                    return ContinuousClock.now - start > .milliseconds(100)
                })
        }
        #expect(ContinuousClock.now - start < .seconds(2))
        #expect(!asked.values.isEmpty)
    }

    @Test func clientIsGoodAfterwards() throws {
        let server = ticker()
        let plain = LocalServer.http { _ in ok("plain") }
        let client = HTTPClient()
        #expect(throws: OutboundError.cancelled) {
            try client.stream(OutboundRequest(url: "http://127.0.0.1:\(server.port)/"), isCancelled: { true }, onBytes: { _ in true })
        }
        _ = try client.stream(OutboundRequest(url: "http://127.0.0.1:\(server.port)/")) { _ in false }
        #expect(try client.send(OutboundRequest(url: "http://127.0.0.1:\(plain.port)/")).body == Array("plain".utf8))
    }
}
