// Who may use the threads of the delivery lane in a process: an owner gets a further one while more are free than it holds, and of an owner's part
// each receiver likewise, so whoever is slow leaves something to all others. What finds its share taken is looked at again; later, when those who
// hold it are slow, so that waiting costs little.
import API
import HTTP
import Synchronization

final class DeliverySlots: Sendable {
    static let shared = DeliverySlots(count: Job.Lane.delivery.threads)

    private struct Holder {
        let owner: ID
        let receiver: String
        let since: ContinuousClock.Instant
    }

    private let count: Int
    private let busy = Mutex<[ID: Holder]>([:])

    /// - Parameter count: of all slots.
    init(count: Int) { self.count = count }

    enum Answer<Result> {
        case done(Result)
        case full(seconds: Double)
    }

    /// Runs the body when the owner, and the receiver of the owner's part, have their share yet; else says when to come again.
    /// - Parameter receiver: what is slow together: a webhook, a host.
    func hold<Result>(for owner: ID, to receiver: String, _ body: () throws -> Result) rethrows -> Answer<Result> {
        let (slot, now) = (ID(at: .now()), ContinuousClock.now)
        let oldest: ContinuousClock.Instant? = busy.withLock { busy in
            let own = busy.values.filter { $0.owner == owner }
            let same = own.filter { $0.receiver == receiver }
            let free = count - busy.count
            guard own.count < free else { return own.map(\.since).min() ?? now }
            // What the owner could take beside it is left to the owner's other receivers.
            guard same.isEmpty || same.count < (free - own.count) / 2 else { return same.map(\.since).min() ?? now }
            busy[slot] = Holder(owner: owner, receiver: receiver, since: now)
            return nil
        }
        if let oldest { return .full(seconds: now - oldest < .seconds(1) ? .random(in: 0.1...0.3) : .random(in: 2...6)) }
        defer { busy.withLock { $0[slot] = nil } }
        return .done(try body())
    }
}
