// The sandboxes of this process: an invocation takes a warm one of its function's version, or makes one. A thread of the pool's own removes
// what is not needed any more, so that no invocation waits for that. What a killed process leaves behind is removed by thecloud-cron.
import Dispatch
package import Docker
package import HTTP
import Synchronization
import System

package final class SandboxPool: Sendable {
    /// How a process's sandboxes are called and marked.
    package struct Marks: Sendable {
        let name: @Sendable (ID) -> String
        let labels: @Sendable (_ id: ID, _ owner: ID) -> [String: String]

        package init(name: @escaping @Sendable (ID) -> String, labels: @escaping @Sendable (_ id: ID, _ owner: ID) -> [String: String]) {
            self.name = name
            self.labels = labels
        }
    }

    /// Handed from thread to thread, never used by two at once.
    private struct Idle: @unchecked Sendable {
        let sandbox: Sandbox
        let since: ContinuousClock.Instant
    }

    private struct State {
        /// The longest idle first.
        var idle: [Idle] = []
        /// Containers that are to be removed.
        var doomed: [String] = []
        var isClosed = false
    }

    private let host: String
    private let marks: Marks
    private let warm: Int
    private let idleSeconds: Int
    private let state = Mutex(State())
    private let bell = DispatchSemaphore(value: 0)
    private let cleaner = Mutex<WorkerThread?>(nil)

    /// - Parameters:
    ///   - host: of the engine.
    ///   - warm: how many idle sandboxes are kept at most.
    ///   - idleSeconds: how long.
    package init(host: String, marks: Marks, warm: Int, idleSeconds: Int = 300) {
        self.host = host
        self.marks = marks
        self.warm = warm
        self.idleSeconds = idleSeconds
    }

    /// Runs a task on the calling thread.
    /// - Parameters:
    ///   - engine: the calling thread's.
    ///   - code: gives the zip file; asked only where no warm sandbox is left.
    /// - Throws: `SandboxError` when no sandbox could be made, or what `code` throws; nothing of the function was run then.
    package func run(_ task: SandboxTask, on engine: Engine, code: () throws -> [UInt8]) throws -> SandboxOutcome {
        cleaner.withLock { if $0 == nil { $0 = WorkerThread { [self] in clean() } } }
        while let sandbox = take(task.version) {
            guard sandbox.isAlive() else {
                doom([sandbox.container])
                continue
            }
            return use(sandbox, task, isCold: false, engine)
        }
        let id = ID(at: .now())
        let name = marks.name(id)
        do {
            let sandbox = try Sandbox.start(name: name, labels: marks.labels(id, task.owner), task, on: engine, code: code)
            return use(sandbox, task, isCold: true, engine)
        } catch {
            doom([name])
            throw error
        }
    }

    /// The versions of which there are idle sandboxes.
    package var versions: [ID] { state.withLock { Array(Set($0.idle.map(\.sandbox.task.version))) } }

    /// Removes the idle sandboxes of versions that are no longer wanted.
    package func discard(_ versions: [ID]) {
        let wanted = Set(versions)
        discard { wanted.contains($0.sandbox.task.version) }
    }

    /// Removes all that are idle, and each other one after its invocation; returns when the idle ones are gone.
    package func close() {
        state.withLock { $0.isClosed = true }
        discard { _ in true }
        bell.signal()
        cleaner.withLock { $0.take() }?.join()
    }

    /// Loses the idle ones, as the process's end would: their connections close, and nobody removes them.
    func forget() { state.withLock { $0.idle = [] } }

    private func use(_ sandbox: Sandbox, _ task: SandboxTask, isCold: Bool, _ engine: Engine) -> SandboxOutcome {
        let outcome = sandbox.run(task.payload, timeout: task.timeout, isCold: isCold, on: engine)
        let idle = Idle(sandbox: sandbox, since: .now)
        let spare = state.withLock { state -> [String] in
            guard idle.sandbox.isReusable, !state.isClosed else { return [idle.sandbox.container] }
            state.idle.append(idle)
            guard state.idle.count > warm else { return [] }
            return [state.idle.removeFirst().sandbox.container]
        }
        doom(spare)
        return outcome
    }

    /// The one that was used last: those that are not needed grow old.
    private func take(_ version: ID) -> Sandbox? {
        let idle = state.withLock { state -> Idle? in
            guard let index = state.idle.lastIndex(where: { $0.sandbox.task.version == version }) else { return nil }
            return state.idle.remove(at: index)
        }
        return idle?.sandbox
    }

    private func discard(where isUnwanted: (Idle) -> Bool) {
        let unwanted = state.withLock { state in
            let unwanted = state.idle.filter(isUnwanted).map(\.sandbox.container)
            state.idle.removeAll(where: isUnwanted)
            return unwanted
        }
        doom(unwanted)
    }

    private func doom(_ containers: [String]) {
        guard !containers.isEmpty else { return }
        state.withLock { $0.doomed += containers }
        bell.signal()
    }

    private func clean() {
        guard let engine = Engine(host: host) else { return }
        while true {
            _ = bell.wait(timeout: .now() + .seconds(5))
            let limit = ContinuousClock.now - .seconds(idleSeconds)
            discard { $0.since < limit }
            let (doomed, isClosed) = state.withLock { state in
                defer { state.doomed = [] }
                return (state.doomed, state.isClosed)
            }
            let left = doomed.filter { !Self.remove($0, engine) }
            // An engine that does not answer is asked again with the next round.
            state.withLock { $0.doomed += left }
            if isClosed { return }
        }
    }

    /// Whether the container is gone.
    private static func remove(_ container: String, _ engine: Engine) -> Bool {
        do {
            try engine.remove(container, force: true)
            return true
        } catch EngineError.notFound {
            return true
        } catch {
            return false
        }
    }
}
