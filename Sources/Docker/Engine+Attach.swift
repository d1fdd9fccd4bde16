// A container's streams over one connection that both sides keep: what is sent is its standard input, what comes are frames of its outputs.
// `ContainerStreams` knows nothing of the engine object it came from and may be handed from thread to thread.
import HTTP
import Outbound

extension Engine {
    /// Attaches to a container that was made with `hasInput`; before it is started, so that nothing it says is missed.
    /// - Throws: `notFound`, `conflict`, `unreachable`.
    package func attach(_ container: String, deadline: ContinuousClock.Instant) throws(EngineError) -> ContainerStreams {
        let path = try target(path(container, "attach"), ["stream": "1", "stdin": "1", "stdout": "1", "stderr": "1"])
        let upgrade: RawConnection.Upgrade
        do {
            upgrade = try RawConnection.upgrade("POST", url: base, path: path, unixSocket: socket, deadline: deadline)
        } catch {
            throw Self.failure(error)
        }
        switch upgrade {
        case .switched(let connection): return ContainerStreams(connection)
        case .refused(let answer):
            try check(answer)
            throw .unreachable("it does not attach")
        }
    }
}

/// The streams of one container. When it goes away, the container reads the end of its input.
package final class ContainerStreams {
    private let connection: RawConnection
    private let frames = FrameReader()

    fileprivate init(_ connection: RawConnection) { self.connection = connection }

    /// - Throws: `unreachable` when the deadline comes first or the container takes nothing any more.
    package func send(_ bytes: [UInt8], deadline: ContinuousClock.Instant) throws(EngineError) {
        do {
            try connection.send(bytes, deadline: deadline)
        } catch {
            throw .unreachable(error.description)
        }
    }

    package enum Event: Sendable, Equatable {
        /// What has come, in its order; may be none.
        case output([LogFrame])
        /// The deadline came first.
        case nothing
        /// The container has ended, or the engine has.
        case ended
    }

    /// Waits for output.
    package func receive(deadline: ContinuousClock.Instant) -> Event {
        do {
            guard let bytes = try connection.receive(deadline: deadline) else { return .nothing }
            guard !bytes.isEmpty, let frames = frames.take(bytes) else { return .ended }
            return .output(frames)
        } catch {
            return .ended
        }
    }
}
