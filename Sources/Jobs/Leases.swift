// The leases that this process holds. A thread of its own keeps them from running out, however long a job takes.
import API
import HTTP
import Postgres
import Synchronization

final class Leases: Sendable {
    /// How long a lease outlives its process.
    static let seconds = 15
    /// How often it is renewed, in seconds.
    static let renewal = 4

    private let held = Mutex<Set<ID>>([])

    func begin(_ lease: ID) { held.withLock { _ = $0.insert(lease) } }

    func end(_ lease: ID) { held.withLock { _ = $0.remove(lease) } }

    /// Keeps all that are held for another while.
    func renew(on connection: Connection) throws {
        let leases = held.withLock { $0.map(\.description) }
        guard !leases.isEmpty else { return }
        _ = try connection.begin().commit(
            """
            update jobs set leased_until = now() + \(Self.seconds)::int * interval '1 second' where lease = any (\(leases)::uuid[])
            """)
    }
}
