// Requests that wait for something which another process writes: one thread for each database listens, and wakes whom it concerns.
// A wake-up says only "look again". One waiter of a topic is woken at a time, and one that has found something wakes the next: many that
// wait for one queue don't all look for each message. Where a wake-up was lost, or notifications don't come through (a pooler), waiters
// look once a second.
import Dispatch
import Postgres
import Synchronization
import System

package final class Waiting: Sendable {
    static let channel = "answers"

    /// The longest sleep between two looks.
    private static let pause = 1.0
    /// The first one: what was written while the first look was under way may have been told to nobody.
    private static let firstPause = 0.1

    private static let all = Mutex<[String: Waiting]>([:])

    /// What waits on a database in this process; made on first use.
    static func on(_ url: String) -> Waiting {
        all.withLock { all in
            if let present = all[url] { return present }
            let waiting = Waiting()
            all[url] = waiting
            _ = WorkerThread { waiting.listen(url) }
            return waiting
        }
    }

    /// By topic, who waits for it; who was woken last stands last.
    private let waiters = Mutex<[String: [DispatchSemaphore]]>([:])

    private func listen(_ url: String) {
        let listener = Listener(url: url, channel: Self.channel)
        while true {
            if let topics = listener.wait(milliseconds: 60_000) {
                for topic in Set(topics) { wakeOne(topic) }
            } else {
                for waiter in waiters.withLock({ $0.values.flatMap { $0 } }) { waiter.signal() }
            }
        }
    }

    private func wakeOne(_ topic: String) {
        let waiter = waiters.withLock { waiters -> DispatchSemaphore? in
            guard let first = waiters[topic]?.first else { return nil }
            waiters[topic]?.removeFirst()
            waiters[topic]?.append(first)
            return first
        }
        waiter?.signal()
    }

    /// What one look has come to.
    package enum Look<Result> {
        case found(Result)
        /// Not yet; `after`: when there may be something without anybody's saying so, in seconds.
        case nothing(after: Double?)
    }

    /// Looks at once, whenever the topic is woken, and when the last look said so, until there is something or the time is over.
    func wait<Result>(for topic: String, seconds: Int, _ look: () throws -> Look<Result>) throws -> Result? {
        let waiter = DispatchSemaphore(value: 0)
        waiters.withLock { $0[topic, default: []].append(waiter) }
        var hasFound = false
        defer {
            waiters.withLock { waiters in
                waiters[topic]?.removeAll { $0 === waiter }
                if waiters[topic]?.isEmpty == true { waiters[topic] = nil }
            }
            // A wake-up that came too late for this one is somebody else's.
            if hasFound || waiter.wait(timeout: .now()) == .success { wakeOne(topic) }
        }
        let deadline = DispatchTime.now() + .seconds(seconds)
        var pause = Self.firstPause
        while true {
            let next: Double
            switch try look() {
            case .found(let result):
                hasFound = true
                return result
            case .nothing(let after): next = min(pause, after ?? pause)
            }
            guard DispatchTime.now() < deadline else { return nil }
            pause = Self.pause
            _ = waiter.wait(timeout: min(deadline, DispatchTime.now() + .microseconds(max(Int(next * 1_000_000), 1000))))
        }
    }
}
