// What is read without an engine: hosts, errors, frames, statistics.
import HTTP
import Testing

@testable import Docker

struct ReadingTests {
    @Test func hosts() {
        for host in ["unix:///var/run/docker.sock", "tcp://127.0.0.1:2375", "tcp://[::1]:2375"] { #expect(Engine(host: host) != nil) }
        for host in ["", "/var/run/docker.sock", "unix://relative", "http://x", "tcp://", "tcp://x/y", "tcp://u@x", "ssh://x"] {
            #expect(Engine(host: host) == nil)
        }
    }

    @Test func nobodyThere() throws {
        for host in ["unix:///nonexistent/docker.sock", "tcp://127.0.0.1:1"] {
            let engine = try #require(Engine(host: host))
            let error = #expect(throws: EngineError.self) { try engine.ping() }
            #expect(error?.kind == "unreachable")
            #expect(throws: EngineError.self) { try engine.inspect("x") }
        }
    }

    /// Sentences of engines 20.10 to 28.
    @Test(arguments: [
        (304, "", EngineError.notModified), (404, "No such container: x", .notFound), (404, "network x not found", .notFound),
        (404, "No such image: x:latest", .imageMissing("No such image: x:latest")),
        (404, "manifest for x:1 not found: manifest unknown", .imageMissing("manifest for x:1 not found: manifest unknown")),
        (404, "No such container: manifest", .notFound),
        (404, "pull access denied for x, repository does not exist", .imageMissing("pull access denied for x, repository does not exist")),
        (409, "Conflict. The container name is already in use", .conflict("Conflict. The container name is already in use")),
        (403, "Pool overlaps with other one on this address space", .poolOverlap("Pool overlaps with other one on this address space")),
        (500, "Bind for 0.0.0.0:80 failed: port is already allocated", .portTaken("Bind for 0.0.0.0:80 failed: port is already allocated")),
        (500, "listen tcp4 0.0.0.0:80: bind: address already in use", .portTaken("listen tcp4 0.0.0.0:80: bind: address already in use")),
        (403, "Address already in use", .addressTaken("Address already in use")), (500, "boom", .other(status: 500, message: "boom")),
    ])
    func errors(status: Int, message: String, error: EngineError) {
        #expect(EngineError(status: status, message: message) == error)
    }

    @Test(arguments: [("1.41", "1.41"), ("1.43", "1.41"), ("1.44", "1.44"), ("1.52", "1.44"), ("2.0", "1.44"), ("", "1.41")])
    func versions(newest: String, spoken: String) {
        #expect(Engine.version(newest: newest) == spoken)
    }

    @Test func escaping() {
        #expect(Engine.escape("a-b_c.d~9") == "a-b_c.d~9")
        #expect(Engine.escape("../x?y=ü\u{1}") == "..%2Fx%3Fy%3D%C3%BC%01")
        #expect(Engine.filters(["b": "2", "a": "1"]) == #"{"label":["a=1","b=2"]}"#)
    }

    private func frame(_ source: UInt8, _ text: String) -> [UInt8] {
        [source, 0, 0, 0, 0, 0, 0, UInt8(text.utf8.count)] + Array(text.utf8)
    }

    @Test func framesInPiecesOfAnySize() {
        let bytes = frame(1, "out\n") + frame(2, "err\n") + frame(1, "") + frame(1, "end")
        for size in 1...bytes.count {
            let frames = LogFrames(limit: 100)
            for start in stride(from: 0, to: bytes.count, by: size) {
                #expect(frames.take(Array(bytes[start..<min(start + size, bytes.count)])))
            }
            #expect(frames.logs.text == "out\nerr\nend")
            #expect(frames.logs.frames.map(\.source) == [.stdout, .stderr, .stdout, .stdout])
            #expect(!frames.logs.isTruncated)
        }
    }

    @Test func newestFramesAreKept() {
        let frames = LogFrames(limit: 8)
        for number in 0..<100 { #expect(frames.take(frame(1, "\(100 + number)\n"))) }
        #expect(frames.logs.text == "198\n199\n")
        #expect(frames.logs.isTruncated)
        #expect(!LogFrames(limit: 8).take(Array("no frames at all".utf8)))
    }

    @Test func percent() {
        func reading(_ cpu: Int, _ system: Int) -> JSON {
            ["cpu_stats": ["cpu_usage": ["total_usage": .int(cpu)], "system_cpu_usage": .int(system), "online_cpus": 4]]
        }
        let first = ContainerStats(reading(100, 1000), since: nil)
        #expect(first.cpuPercent == nil)
        #expect(ContainerStats(reading(200, 1400), since: first).cpuPercent == 100)
        #expect(ContainerStats(reading(50, 1400), since: first).cpuPercent == nil)
        #expect(ContainerStats(reading(200, 1000), since: first).cpuPercent == nil)
    }
}
