// A further process inside a running container, for one short question.
import HTTP

package struct Execution: Sendable, Equatable {
    package let exitCode: Int
    /// What it wrote to both outputs.
    package let output: String
}

extension Engine {
    /// Runs a command, without input, to its end.
    /// Never of a container that may be paused at the same moment: both would hang for good (Docker 20.10).
    /// - Parameters:
    ///   - environment: for this process alone; the engine keeps it nowhere.
    ///   - limit: bytes of output; of more the newest are kept.
    ///   - timeout: milliseconds.
    /// - Throws: `notFound`; `conflict` when the container does not run or is paused; `unreachable` when it takes too long (it goes on then).
    package func execute(
        _ command: [String], in container: String, environment: [String: String] = [:], limit: Int = 1 << 20, timeout: Int = 10_000
    ) throws(EngineError) -> Execution {
        let variables = environment.map { "\($0.key)=\($0.value)" }.sorted()
        let body: JSON = [
            "AttachStdout": true, "AttachStderr": true, "Cmd": .strings(command), "Env": .strings(variables),
        ]
        let id = try json("POST", path(container, "exec"), body: body, timeout: timeout)["Id"]?.string ?? ""
        let frames = LogFrames(limit: limit)
        try stream(
            "POST", "/exec/\(Self.escape(id))/start", body: ["Detach": false, "Tty": false], timeout: timeout, isCancelled: nil,
            onBytes: frames.take)
        let exitCode = try json("GET", "/exec/\(Self.escape(id))/json", timeout: timeout)["ExitCode"]?.int ?? -1
        return Execution(exitCode: exitCode, output: frames.logs.text)
    }
}
