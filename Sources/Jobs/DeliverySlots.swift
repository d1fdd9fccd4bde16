// No owner's receivers hold more than half of the lane in a process: where they are slow, the messages of others go on.
// What finds its owner's share taken is looked at again; later, when those who hold it are slow, so that waiting costs little.
import API
import HTTP
import Synchronization

final class DeliverySlots: Sendable {
    static let shared = DeliverySlots(limit: Job.Lane.delivery.threads / 2)

    private let limit: Int
    private let busy = Mutex<[ID: [ContinuousClock.Instant]]>([:])

    init(limit: Int) { self.limit = limit }

    enum Answer<Result> {
        case done(Result)
        case full(seconds: Double)
    }

    /// Runs the body when the owner holds fewer than `limit` slots; else says when to come again.
    func hold<Result>(for owner: ID, _ body: () throws -> Result) rethrows -> Answer<Result> {
        let start = ContinuousClock.now
        let oldest: ContinuousClock.Instant? = busy.withLock { busy in
            let holders = busy[owner, default: []]
            guard holders.count < limit else { return holders.min() }
            busy[owner] = holders + [start]
            return nil
        }
        if let oldest { return .full(seconds: start - oldest < .seconds(1) ? .random(in: 0.1...0.3) : .random(in: 2...6)) }
        defer {
            busy.withLock { busy in
                var holders = busy[owner, default: []]
                if let index = holders.firstIndex(of: start) { holders.remove(at: index) }
                busy[owner] = holders.isEmpty ? nil : holders
            }
        }
        return .done(try body())
    }
}
