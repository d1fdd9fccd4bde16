// Logs, statistics and events on the real engine.
import Glibc
import Testing

@testable import Docker

struct ObservationTests {
    @Test func logs() throws {
        let lab = try Lab()
        let id = try lab.started(lab.spec("l", "for n in $(seq 2000); do echo $n; done"))
        #expect(try lab.engine.wait(id, timeout: 20_000) != nil)
        let all = try lab.engine.logs(id, tail: 5000)
        #expect(all.frames.count == 2000 && !all.isTruncated)
        #expect(try lab.engine.logs(id, tail: 2).text == "1999\n2000\n")
        let bounded = try lab.engine.logs(id, tail: 5000, limit: 12)
        #expect(bounded.text == "1999\n2000\n" && bounded.isTruncated)
        #expect(try lab.engine.logs(id, tail: 1, timestamps: true).text.hasSuffix("Z 2000\n"))
        #expect(try lab.engine.logs(id, tail: 0).frames.isEmpty)
        #expect(throws: EngineError.notFound) { try lab.engine.logs(lab.name("none")) }
    }

    @Test func bothOutputs() throws {
        let lab = try Lab()
        let id = try lab.started(lab.spec("l", "echo one; echo two >&2"))
        #expect(try lab.engine.wait(id, timeout: 20_000) == 0)
        // Which of them comes first is the engine's choice.
        let frames = try lab.engine.logs(id).frames
        #expect(frames.count == 2)
        #expect(frames.contains(LogFrame(source: .stdout, bytes: Array("one\n".utf8))))
        #expect(frames.contains(LogFrame(source: .stderr, bytes: Array("two\n".utf8))))
    }

    @Test func stats() throws {
        let lab = try Lab()
        let network = try lab.network("n")
        var spec = try lab.spec("s", "while true; do :; done")
        spec.attachment = .init(network: network.name)
        let id = try lab.started(spec)
        let first = try lab.engine.stats(id)
        #expect(try #require(first.cpuPercent) > 1)
        #expect((1...64 << 20).contains(first.memoryUsed) && first.memoryLimit == 64 << 20 && first.pids >= 1)
        #expect(first.networkReceived + first.networkSent >= 0)
        let second = try lab.engine.stats(id, since: first)
        #expect(second.memoryLimit == 64 << 20)
        try lab.engine.kill(id)
        #expect(try lab.engine.wait(id, timeout: 20_000) != nil)
        let gone = try lab.engine.stats(id)
        #expect(gone.memoryUsed == 0 && gone.pids == 0 && gone.cpuPercent == nil)
        #expect(throws: EngineError.notFound) { try lab.engine.stats(lab.name("none")) }
    }

    @Test func events() throws {
        let lab = try Lab()
        let other = try Lab()
        let start = Int(time(nil)) * 1_000_000_000
        let id = try lab.started(lab.spec("e"))
        _ = try other.started(other.spec("other"))
        var seen: [EngineEvent] = []
        let listener = try #require(Engine())
        try listener.events(labels: lab.labels, since: start) { event in
            seen.append(event)
            // The stream is live: this causes the event that ends it.
            if event.action == "start" { try? lab.engine.kill(id) }
            return event.action != "die"
        }
        #expect(seen.map(\.action) == ["create", "start", "kill", "die"])
        #expect(seen.allSatisfy { $0.id == id && $0.kind == "container" && $0.attributes["thecloud.test"] == lab.id && $0.time >= start })
        #expect(seen.last?.attributes["exitCode"] == "137")

        let last = try #require(seen.last)
        var again: [EngineEvent] = []
        try listener.events(labels: lab.labels, since: last.time) { event in
            again.append(event)
            return false
        }
        #expect(again == [last])
    }

    @Test func listeningCanBeCancelled() throws {
        let lab = try Lab()
        let start = ContinuousClock.now
        #expect(throws: EngineError.cancelled) {
            try lab.engine.events(
                labels: lab.labels, isCancelled: { ContinuousClock.now - start > .milliseconds(100) },
                onEvent: { _ in true })
        }
        #expect(ContinuousClock.now - start < .seconds(3))
    }
}
