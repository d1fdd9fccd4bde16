// Wakes one thread that waits for work. Ringing is cheap and any number of rings before a wait are one.
import Dispatch
import Synchronization

final class Bell: Sendable {
    private let semaphore = DispatchSemaphore(value: 0)
    private let isRung = Atomic(false)

    func ring() {
        if !isRung.exchange(true, ordering: .acquiringAndReleasing) { semaphore.signal() }
    }

    /// Returns when it has been rung since the last wait, or the time is over.
    func wait(milliseconds: Int) {
        if semaphore.wait(timeout: .now() + .milliseconds(milliseconds)) == .success { isRung.store(false, ordering: .releasing) }
    }
}
