// How many requests of one owner may wait for something slow at the same time, in one process: so nobody takes the whole long pool.
package import HTTP
import Synchronization

package final class OwnerSlots: Sendable {
    /// Those that wait for the engine: logs, statistics.
    package static let engine = OwnerSlots("requests that wait for the engine at once")

    /// Those that wait for an agent.
    package static let answers = OwnerSlots("requests that wait for an agent at once")

    /// Those that wait for messages of a queue.
    package static let polls = OwnerSlots("requests that wait for messages at once")

    /// Those that wait for a function.
    package static let invocations = OwnerSlots("requests that wait for functions at once")

    private let what: String
    private let taken = Mutex<[ID: Int]>([:])

    /// - Parameter what: completes "at most 8 …" in the error.
    package init(_ what: String) { self.what = what }

    /// - Throws: `quotaExceeded` when so many of the owner's are inside already; else what the body throws.
    package func hold<Result>(for owner: ID, limit: Int, _ body: () throws -> Result) throws -> Result {
        let isFree = taken.withLock { taken in
            guard taken[owner, default: 0] < limit else { return false }
            taken[owner, default: 0] += 1
            return true
        }
        guard isFree else { throw APIError.quotaExceeded("at most \(limit) \(what)") }
        defer {
            taken.withLock { taken in
                let left = taken[owner, default: 1] - 1
                taken[owner] = left > 0 ? left : nil
            }
        }
        return try body()
    }
}
