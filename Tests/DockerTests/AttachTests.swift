// A container's streams over one connection.
import Docker
import Testing

struct AttachTests {
    @Test func whatIsSentComesBackOnBothStreamsAndTheEndEndsIt() throws {
        let lab = try Lab()
        var spec = try lab.spec("echo", "while read line; do echo \"out $line\"; echo \"err $line\" >&2; done; exit 3")
        spec.hasInput = true
        let container = try lab.engine.createContainer(spec)
        let deadline = ContinuousClock.now + .seconds(60)
        var attachment: ContainerStreams? = try lab.engine.attach(container, deadline: deadline)
        try lab.engine.start(container)
        try attachment?.send(Array("one\ntwo\n".utf8), deadline: deadline)
        var said: [LogFrame.Source: String] = [:]
        while said[.stdout] != "out one\nout two\n" || said[.stderr] != "err one\nerr two\n" {
            guard case .output(let frames)? = attachment?.receive(deadline: deadline) else { break }
            for frame in frames { said[frame.source, default: ""] += String(decoding: frame.bytes, as: UTF8.self) }
        }
        #expect(said == [.stdout: "out one\nout two\n", .stderr: "err one\nerr two\n"])
        #expect(attachment?.receive(deadline: .now) == .nothing)
        // Whoever attached is gone: the container reads the end of its input.
        attachment = nil
        #expect(try lab.engine.wait(container, timeout: 60_000) == 3)
    }

    @Test func theContainersEndIsTold() throws {
        let lab = try Lab()
        var spec = try lab.spec("brief", "exit 0")
        spec.hasInput = true
        let container = try lab.engine.createContainer(spec)
        let deadline = ContinuousClock.now + .seconds(60)
        let attachment = try lab.engine.attach(container, deadline: deadline)
        try lab.engine.start(container)
        #expect(attachment.receive(deadline: deadline) == .ended)
    }

    @Test func whatIsNotThereIsRefused() throws {
        let lab = try Lab()
        #expect(throws: EngineError.notFound) { _ = try lab.engine.attach(lab.name("nobody"), deadline: .now + .seconds(60)) }
        let dead = try #require(Engine(host: "unix:///nonexistent/docker.sock"))
        #expect(throws: EngineError.self) { _ = try dead.attach("x", deadline: .now + .seconds(60)) }
    }
}
