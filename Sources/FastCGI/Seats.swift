// Where a child's connections are while no thread serves them: a seat for each descriptor. Threads take and give without a lock; whoever
// changes a seat's state from `idle` has the connection to itself, and alone touches the visitor.
import CFastCGI
import Glibc
import Synchronization

final class Seats: Sendable {
    private enum State: UInt8, AtomicRepresentable {
        case idle
        /// A thread has it, or nobody sits here.
        case held
        /// A thread has it, and it has been heard of again.
        case called
    }

    private struct Seat: ~Copyable {
        let state = Atomic(State.held)
        var visitor: Visitor?
        /// The visitor's deadline in nanoseconds, for those who only look; 0 where it has none.
        let deadline = Atomic(0)
    }

    private nonisolated(unsafe) let seats: UnsafeMutablePointer<Seat>
    private let capacity: Int
    /// How many have been made. Descriptors are small numbers, so nearly all that could be never will be.
    private let made = Atomic(0)
    private let making = Mutex(())
    private let beginning = ContinuousClock.now - .seconds(1)

    /// What Linux lets a process have, unless `fs.nr_open` was raised.
    private static let most: UInt = 1 << 20

    init() {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        capacity = Int(min(limit.rlim_cur, Self.most))
        seats = .allocate(capacity: capacity)
    }

    deinit {
        seats.deinitialize(count: made.load(ordering: .relaxed))
        seats.deallocate()
    }

    /// A connection has come, and the calling thread has it.
    /// - Returns: false when its number is beyond all seats.
    func hold(_ descriptor: Int32) -> Bool {
        guard descriptor < capacity else { return false }
        if descriptor >= made.load(ordering: .acquiring) {
            making.withLock { _ in
                let first = made.load(ordering: .relaxed)
                guard descriptor >= first else { return }
                for index in first...Int(descriptor) { (seats + index).initialize(to: Seat()) }
                made.store(Int(descriptor) + 1, ordering: .releasing)
            }
        }
        seats[Int(descriptor)].state.store(.held, ordering: .sequentiallyConsistent)
        return true
    }

    /// The calling thread's connection becomes idle.
    /// - Returns: whether it was called since it was taken: somebody has to look at it again.
    func give(_ visitor: Visitor) -> Bool {
        let index = Int(visitor.descriptor)
        seats[index].visitor = visitor
        seats[index].deadline.store(visitor.deadline.map(nanoseconds) ?? 0, ordering: .relaxed)
        return seats[index].state.exchange(.idle, ordering: .sequentiallyConsistent) == .called
    }

    /// An idle connection for the calling thread.
    func take(_ descriptor: Int32) -> Visitor? {
        guard descriptor < made.load(ordering: .acquiring) else { return nil }
        let (isTaken, _) = seats[Int(descriptor)].state.compareExchange(
            expected: .idle, desired: .held, ordering: .sequentiallyConsistent)
        return isTaken ? seats[Int(descriptor)].visitor : nil
    }

    /// The same, for a connection that has been heard of: where another thread has it, that one will be told when it gives it back.
    func call(_ descriptor: Int32) -> Visitor? {
        while descriptor < made.load(ordering: .acquiring) {
            if let visitor = take(descriptor) { return visitor }
            let (isMarked, state) = seats[Int(descriptor)].state.compareExchange(
                expected: .held, desired: .called, ordering: .sequentiallyConsistent)
            // It may have been given back between the two looks.
            if isMarked || state == .called { return nil }
        }
        return nil
    }

    /// Any idle connection for the calling thread.
    func takeAny() -> Visitor? { first { _ in true } }

    /// An idle connection of which something has to be heard until then, or at all.
    func takeAwaited(until limit: ContinuousClock.Instant? = nil) -> Visitor? {
        let limit = limit.map(nanoseconds) ?? .max
        return first { (1...limit).contains($0.deadline.load(ordering: .relaxed)) }
    }

    /// Whether something has to be heard of somebody here.
    var hasAwaited: Bool {
        (0..<made.load(ordering: .acquiring)).contains {
            seats[$0].state.load(ordering: .relaxed) == .idle && seats[$0].deadline.load(ordering: .relaxed) > 0
        }
    }

    private func first(where condition: (borrowing Seat) -> Bool) -> Visitor? {
        for index in 0..<made.load(ordering: .acquiring) where condition(seats[index]) {
            if let visitor = take(Int32(index)) { return visitor }
        }
        return nil
    }

    private func nanoseconds(_ instant: ContinuousClock.Instant) -> Int {
        let (seconds, attoseconds) = (instant - beginning).components
        return max(1, Int(seconds) * 1_000_000_000 + Int(attoseconds / 1_000_000_000))
    }
}
