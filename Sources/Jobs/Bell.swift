// Wakes one thread that waits for work. Ringing is cheap and any number of rings before a wait are one.
import Dispatch
import Postgres
import Synchronization
import System

final class Bell: Sendable {
    private let semaphore = DispatchSemaphore(value: 0)
    private let isRung = Atomic(false)

    func ring() {
        if !isRung.exchange(true, ordering: .acquiringAndReleasing) { semaphore.signal() }
    }

    /// A thread that rings them whenever a channel of the database is notified, or may have been unheard.
    static func ringing(_ bells: [Bell], on channel: String, url: String, isStopping: @escaping @Sendable () -> Bool) -> WorkerThread {
        WorkerThread {
            let listener = Listener(url: url, channel: channel)
            while !isStopping() {
                if listener.wait(milliseconds: 1000) == [] { continue }
                for bell in bells { bell.ring() }
            }
        }
    }

    /// Returns when it has been rung since the last wait, or the time is over.
    func wait(milliseconds: Int) {
        if semaphore.wait(timeout: .now() + .milliseconds(milliseconds)) == .success { isRung.store(false, ordering: .releasing) }
    }
}
