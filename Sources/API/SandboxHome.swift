// The sandboxes of this process, and that it lives: the database is told every few seconds, as long as there is any, because what belongs to a
// process that is silent is cleared away by thecloud-cron. Table sandbox_homes, by functions.
import Docker
import Glibc
package import HTTP
import Postgres
import Sandboxes
import Synchronization
import System

package final class SandboxHome: Sendable {
    package let id: ID
    private let config: Config
    private let host: String
    private let pool = Mutex<SandboxPool?>(nil)
    private let keeper = Mutex<WorkerThread?>(nil)
    private let isClosing = Atomic(false)

    /// How often the home says that it lives, in seconds.
    package static let pulse = 3

    /// - Parameter host: of the engine, where it is not the setting's.
    package init(_ config: Config, host: String? = nil) {
        id = ID(at: .now())
        self.config = config
        self.host = host ?? config.dockerHost
    }

    /// Is known to the database from then on; costs nothing when it is already.
    package func enter() throws {
        try pool.withLock { pool in
            guard pool == nil else { return }
            // Callers may be in the midst of a transaction.
            let connection = Connection(url: config.databaseURL)
            defer { connection.close() }
            let transaction = try connection.begin()
            let none: [String] = []
            try transaction.send("select keep_sandbox_home(\(id), \(none)::uuid[])")
            guard let stack = try transaction.commit("select id from installation").scalar(ID.self) else {
                throw APIError.internalFailure(cause: "the installation has no id")
            }
            let made = SandboxPool(host: host, marks: marks(EngineNames(stack: stack)), warm: config.warmSandboxes)
            pool = made
            keeper.withLock { $0 = WorkerThread { [self] in keep(made) } }
        }
    }

    /// Runs a task on the calling thread, as `SandboxPool.run` does; `enter` comes before.
    func run(_ task: SandboxTask, on engine: Engine, code: () throws -> [UInt8]) throws -> SandboxOutcome {
        guard let pool = pool.withLock({ $0 }) else { preconditionFailure("nobody has entered") }
        return try pool.run(task, on: engine, code: code)
    }

    /// Removes the idle sandboxes and says good-bye; nothing may run here any more.
    package func close() {
        isClosing.store(true, ordering: .sequentiallyConsistent)
        pool.withLock { $0 }?.close()
        keeper.withLock { $0.take() }?.join()
    }

    private func marks(_ names: EngineNames) -> SandboxPool.Marks {
        let home = id.description
        return SandboxPool.Marks(
            name: { names.name("sandbox", $0) },
            labels: { id, owner in
                names.labels(kind: "sandbox", id: id, owner: owner).merging(["thecloud.home": home]) { first, _ in first }
            })
    }

    private func keep(_ pool: SandboxPool) {
        let connection = Connection(url: config.databaseURL)
        while !isClosing.load(ordering: .sequentiallyConsistent) {
            do {
                let versions = pool.versions.map(\.description)
                let rows = try connection.begin().commit("select keep_sandbox_home(\(id), \(versions)::uuid[])")
                pool.discard(
                    rows.map { row in
                        var row = row
                        return row.next(ID.self)
                    })
            } catch {
                Event.trouble("saying that the sandboxes' home lives: \(error)").log()
            }
            for _ in 0..<(Self.pulse * 10) where !isClosing.load(ordering: .sequentiallyConsistent) { _ = poll(nil, 0, 100) }
        }
        _ = try? connection.begin().commit("select leave_sandbox_home(\(id))")
    }
}
