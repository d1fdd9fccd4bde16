// Requests that wait for something which another process writes: one thread for each database listens, and wakes whom it concerns.
// A wake-up says only "look again": where one was lost, or notifications don't come through (a pooler), waiters look once a second.
import Dispatch
import Postgres
import Synchronization
import System

package final class Waiting: Sendable {
    static let channel = "answers"

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

    /// By topic, who waits for it.
    private let waiters = Mutex<[String: [DispatchSemaphore]]>([:])

    private func listen(_ url: String) {
        let listener = Listener(url: url, channel: Self.channel)
        while true {
            let topics = listener.wait(milliseconds: 60_000)
            let woken = waiters.withLock { waiters in
                topics.map { topics in Set(topics).flatMap { waiters[$0] ?? [] } } ?? waiters.values.flatMap { $0 }
            }
            for waiter in woken { waiter.signal() }
        }
    }

    /// Looks at once and whenever the topic is woken, until there is something or the time is over.
    func wait<Result>(for topic: String, seconds: Int, _ look: () throws -> Result?) throws -> Result? {
        let waiter = DispatchSemaphore(value: 0)
        waiters.withLock { $0[topic, default: []].append(waiter) }
        defer {
            waiters.withLock { waiters in
                waiters[topic]?.removeAll { $0 === waiter }
                if waiters[topic]?.isEmpty == true { waiters[topic] = nil }
            }
        }
        let deadline = DispatchTime.now() + .seconds(seconds)
        while true {
            if let result = try look() { return result }
            guard DispatchTime.now() < deadline else { return nil }
            _ = waiter.wait(timeout: min(deadline, DispatchTime.now() + .seconds(1)))
        }
    }
}
