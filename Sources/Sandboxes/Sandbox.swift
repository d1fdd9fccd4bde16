// One container that has a function's code loaded and runs one invocation at a time: no network, nothing to write on but memory, no privileges,
// few processes. Its input is our connection to it: when this process dies, the runner reads the end and leaves.
import Archive
import Docker
import HTTP

final class Sandbox {
    let container: String
    let task: SandboxTask
    /// Whether the next invocation may have it.
    private(set) var isReusable = true
    private let attachment: ContainerStreams
    /// What was written while nobody asked for anything.
    private var leftovers: [LogFrame] = []

    /// Seconds that the engine and the runner have until the code is unpacked, whatever else the machine is doing.
    private static let startSeconds = 120
    /// Processes and threads; Node.js itself has a dozen.
    private static let pids = 128

    private init(_ container: String, _ task: SandboxTask, _ attachment: ContainerStreams) {
        self.container = container
        self.task = task
        self.attachment = attachment
    }

    /// Makes a container, starts it, and feeds it the code.
    /// - Parameter code: the zip file.
    /// - Throws: `SandboxError`, or what `code` throws; a container of that name may then be there.
    static func start(
        name: String, labels: [String: String], _ task: SandboxTask, on engine: Engine, code: () throws -> [UInt8]
    ) throws -> Sandbox {
        let zip = try code()
        do {
            let deadline = ContinuousClock.now + .seconds(startSeconds)
            let spec = spec(name, labels, task)
            do {
                _ = try engine.createContainer(spec)
            } catch EngineError.imageMissing(_) {
                try engine.pull(task.image)
                _ = try engine.createContainer(spec)
            }
            let sandbox = Sandbox(name, task, try engine.attach(name, deadline: deadline))
            try engine.start(name)
            try sandbox.load(zip, deadline, engine)
            return sandbox
        } catch let error as EngineError {
            throw SandboxError.engine(error)
        }
    }

    private static func spec(_ name: String, _ labels: [String: String], _ task: SandboxTask) -> ContainerSpec {
        let memory = task.memoryMB << 20
        // Each file takes whole pages, and Python keeps its compiled form beside it.
        let code = task.codeSize + task.codeFiles * 8192
        let limits = ContainerSpec.Limits(nanoCPUs: 1_000_000_000, memory: memory + code, pids: pids)
        var spec = ContainerSpec(name: name, image: task.image, limits: limits, labels: labels, command: [])
        spec.entrypoint = task.runtime.command
        spec.environment = ["HOME": "/tmp"]
        spec.isRootReadOnly = true
        spec.scratch = [Runner.codeFolder: code * 2 + (1 << 20), "/tmp": min(memory / 2, 512 << 20)]
        spec.capabilities = []
        spec.user = "65534:65534"
        spec.hasInput = true
        return spec
    }

    private func load(_ zip: [UInt8], _ deadline: ContinuousClock.Instant, _ engine: Engine) throws {
        let nonce = Self.nonce()
        let environment: JSON = .object(task.environment.map { JSON.Member($0.key, .string($0.value)) })
        let settings: JSON = ["handler": .string(task.handler), "env": environment, "nonce": .string(nonce)]
        var exchange = Exchange(nonce: nonce)
        do {
            try attachment.send(Record.settings(settings.bytes).bytes, deadline: deadline)
            try Zip.read(
                zip,
                onFile: { try attachment.send(Record.file(path: $0.path, isExecutable: $0.isExecutable).bytes, deadline: deadline) },
                onBytes: { try attachment.send(Record.data($0).bytes, deadline: deadline) })
            try attachment.send(Record.go.bytes, deadline: deadline)
        } catch is EngineError {
            // The container has gone; what it said tells why.
        }
        switch exchange.run(attachment, until: deadline) {
        case .replied: return
        case .timedOut: throw SandboxError.engine(.unreachable("the sandbox is not ready within \(Self.startSeconds) s"))
        case .ended: throw SandboxError.stillborn("\(farewell(engine, exchange.log)) \(exchange.log.text.suffix(500))")
        }
    }

    /// Whether it can be asked; one may have ended while it was idle.
    func isAlive() -> Bool {
        switch attachment.receive(deadline: .now) {
        case .nothing: return true
        case .ended: return false
        case .output(let frames):
            leftovers += frames
            return true
        }
    }

    /// One invocation. What was started for it ends with its timeout, whatever it is doing.
    func run(_ payload: [UInt8], timeout: Int, isCold: Bool, on engine: Engine) -> SandboxOutcome {
        let nonce = Self.nonce()
        var exchange = Exchange(nonce: nonce)
        exchange.take(leftovers)
        leftovers = []
        let start = ContinuousClock.now
        let deadline = start + .seconds(timeout)
        // What can't be sent is told by what comes: the end, or nothing in time.
        try? attachment.send(Record.invocation(nonce: nonce, payload: payload).bytes, deadline: deadline)
        let end = exchange.run(attachment, until: deadline)
        let milliseconds = Int(start.duration(to: .now) / .milliseconds(1))
        let verdict: SandboxOutcome.Verdict
        switch end {
        case .replied(let reply):
            isReusable = reply.others == 0
            verdict = Self.verdict(reply)
        case .timedOut:
            isReusable = false
            try? engine.kill(container)
            verdict = .timedOut
        case .ended:
            isReusable = false
            verdict = .failed(farewell(engine, exchange.log))
        }
        return SandboxOutcome(
            verdict: verdict, log: exchange.log.text, isLogCut: exchange.log.isCut, milliseconds: milliseconds, isCold: isCold)
    }

    private static func verdict(_ reply: Reply) -> SandboxOutcome.Verdict {
        let text = Array(reply.body.dropFirst())
        guard reply.body.first == UInt8(ascii: "+") else {
            return .failed(String(decoding: text.map { $0 == 0 ? 0x3F : $0 }, as: UTF8.self))
        }
        do {
            _ = try JSON(parsing: text)
            return .succeeded(text)
        } catch {
            return .failed("the result can't be told: \(error.message)")
        }
    }

    /// Why the container ended by itself.
    private func farewell(_ engine: Engine, _ log: BoundedLog) -> String {
        let memory = "out of memory: the function has \(task.memoryMB) MB"
        guard (try? engine.wait(container, timeout: 10_000)) != nil, let end = try? engine.inspect(container) else {
            return "the sandbox was lost"
        }
        // Nobody else sends SIGKILL; V8 gives up before the kernel does.
        if end.isOutOfMemory || end.exitCode == 137 || end.exitCode == 134 && log.text.contains("heap out of memory") { return memory }
        return "the handler's process ended with status \(end.exitCode)"
    }

    private static func nonce() -> String {
        (0..<2).map { _ in
            let digits = String(UInt64.random(in: .min ... .max), radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }.joined()
    }
}
