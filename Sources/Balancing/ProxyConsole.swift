// Talks to the proxy inside its container: files in by the engine, a signal for a new worker, questions through a shell there (the image needs
// `sh` and `nc`, as the official one has). Nothing of it can be reached from outside the container.
package import Docker
import Glibc

package struct ProxyConsole {
    private let engine: Engine
    /// Name or id.
    private let container: String

    package init(_ engine: Engine, container: String) {
        self.engine = engine
        self.container = container
    }

    /// Why a configuration was not taken.
    package struct Refused: Error, CustomStringConvertible {
        package let description: String
    }

    /// How long a worker may take to answer for the first time, in looks of a tenth of a second each.
    private static let patience = 100

    /// What the proxy that runs says.
    /// - Parameter port: that of the load balancer.
    package func state(port: Int) throws(EngineError) -> ProxyState {
        let console = ProxyConfiguration.consolePort(besides: port)
        let script = "echo '\(ProxyState.question)' | nc -w 5 127.0.0.1 \(console)"
        return ProxyState(try engine.execute(["sh", "-c", script], in: container).output)
    }

    /// Gives a proxy that does not run what it will start with.
    package func prepare(_ configuration: ProxyConfiguration) throws(EngineError) {
        try put(configuration, state: ProxyState.head)
    }

    /// Sees to it that the running proxy has this configuration. Connections go on: the old worker finishes what it has, the new one takes
    /// over its listening socket. May be interrupted and repeated anywhere.
    /// - Throws: `Refused` when the proxy does not take it, `EngineError`.
    package func apply(_ configuration: ProxyConfiguration) throws {
        let present = try look(configuration.port) { $0.fingerprint != nil }
        guard present.fingerprint != configuration.fingerprint else { return }
        try put(configuration, state: present.file(for: configuration))
        try engine.kill(container, signal: "SIGUSR2")
        _ = try look(configuration.port) { $0.fingerprint == configuration.fingerprint }
    }

    /// Asks again and again, because a new worker takes its time.
    private func look(_ port: Int, until isRight: (ProxyState) -> Bool) throws -> ProxyState {
        for _ in 0..<Self.patience {
            let present = try state(port: port)
            if isRight(present) { return present }
            usleep(100_000)
        }
        throw Refused(description: try lastWords())
    }

    private func put(_ configuration: ProxyConfiguration, state: String) throws(EngineError) {
        let files = [
            ContainerFile("haproxy.cfg", Array(configuration.text.utf8)), ContainerFile(ProxyState.file, Array(state.utf8)),
        ]
        try engine.put(files, into: ProxyConfiguration.folder, of: container)
    }

    private func lastWords() throws(EngineError) -> String {
        let words = try engine.logs(container, tail: 5).text.split(whereSeparator: \.isNewline).last { $0.contains("ALERT") }
        return words.map(String.init) ?? "it does not answer"
    }
}
