// A few connections for many threads: each is lent to one thread for the time of a transaction. Requests that wait hold none, so the long
// pool may have far more threads than PostgreSQL has room for.
import Dispatch
package import Postgres
import Synchronization

package final class ConnectionPool: Sendable {
    /// Handed from thread to thread, never used by two at once.
    private struct Idle: @unchecked Sendable {
        let connection: Connection
    }

    private let url: String
    private let free: DispatchSemaphore
    private let idle = Mutex<[Idle]>([])

    package init(url: String, connections: Int) {
        self.url = url
        free = DispatchSemaphore(value: connections)
    }

    /// Waits until one is free; transactions are short.
    fileprivate func take() -> Connection {
        free.wait()
        return idle.withLock { $0.popLast() }?.connection ?? Connection(url: url)
    }

    fileprivate func giveBack(_ connection: Connection) {
        let returned = Idle(connection: connection)
        idle.withLock { $0.append(returned) }
        free.signal()
    }
}

/// Where one thread has its connection from.
package final class ConnectionSource {
    private let pool: ConnectionPool?
    private var held: Connection?

    /// A connection of the thread's own.
    package init(_ connection: Connection) {
        pool = nil
        held = connection
    }

    package init(_ pool: ConnectionPool) { self.pool = pool }

    deinit { giveBack() }

    /// The same one until it is given back.
    package var connection: Connection {
        if let held { return held }
        guard let taken = pool?.take() else { preconditionFailure("a connection of one's own is never given back") }
        held = taken
        return taken
    }

    /// Lets others have it; only between transactions.
    package func giveBack() {
        guard let pool, let taken = held else { return }
        held = nil
        pool.giveBack(taken)
    }
}
