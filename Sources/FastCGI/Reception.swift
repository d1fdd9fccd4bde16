// Whom a child's threads serve next: one epoll over the listening socket, the kept connections that are idle, and what siblings hand over.
// So an idle connection costs no thread, and whichever thread is free serves whichever connection is ready. (Threads that stayed with their
// kept connections made the slowest requests wait 90 ms for a thread that was free.)
// A connection is seated, or some thread has it: its seat's state decides, the epoll is only a hint, so a late event does no harm. No lock is
// on the way of a request, and no system call but the wait: a connection is watched once, for the edge, and stays so while it is served.
import CFastCGI
import Glibc
import Synchronization

/// A connection, between a thread and its seat.
struct Visitor {
    let descriptor: Int32
    /// When it has to have made its first request; `nil` once it has.
    var firstRequestBy: ContinuousClock.Instant?
    /// When the request of which a part has arrived has to be whole.
    var wholeBy: ContinuousClock.Instant?
    fileprivate var isWatched = false

    init(_ descriptor: Int32, isNew: Bool) {
        self.descriptor = descriptor
        firstRequestBy = isNew ? .now + .milliseconds(Opening.patience) : nil
    }

    /// Until when something has to be heard of it.
    var deadline: ContinuousClock.Instant? { wholeBy ?? firstRequestBy }
}

final class Reception: Sendable {
    private enum Phase: UInt8, AtomicRepresentable { case open, replaced, ended }

    private let pool: Pool
    private let master = getppid()
    private let epoll: Int32
    /// Rings for ever once this child drains.
    private let bell: Int32
    /// Ticks as long as somebody sits here who must not be silent for ever.
    private let clock: Int32
    private let seats = Seats()
    private let phase = Atomic(Phase.open)
    /// Connections of this child, those that threads have included.
    private let present = Atomic(0)
    private let isClockSet = Atomic(false)
    private let handOverUntil = Mutex(ContinuousClock.now)
    private let beginning = ContinuousClock.now
    /// When a connection was passed on last, in milliseconds since the beginning.
    private let passedAt = Atomic(0)
    private let waiting = Atomic(0)
    /// Whether somebody may wait behind the last newcomer, and whose turn it is.
    private let isCrowded = Atomic(false)
    private let turn = Atomic(0)

    /// In milliseconds: a busy child passes a connection on only so often, because passing costs more than it brings when all are busy.
    private static let passingPause = 10

    init(pool: Pool) throws(PoolError) {
        self.pool = pool
        epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        bell = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        clock = timerfd_create(CLOCK_MONOTONIC, Int32(TFD_CLOEXEC | TFD_NONBLOCK))
        let listener = Inherited.listener
        // The listener's event says that somebody was there: a sibling may have been faster.
        guard epoll >= 0, bell >= 0, clock >= 0, fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK) == 0,
            // Of all the children only one that has a free thread is woken.
            control(EPOLL_CTL_ADD, listener, EPOLLIN.rawValue | EPOLLEXCLUSIVE.rawValue),
            control(EPOLL_CTL_ADD, Inherited.take, EPOLLIN.rawValue | EPOLLEXCLUSIVE.rawValue),
            control(EPOLL_CTL_ADD, bell, EPOLLIN.rawValue), control(EPOLL_CTL_ADD, clock, EPOLLIN.rawValue)
        else { throw PoolError(errno: errno, "cannot receive connections") }
    }

    /// Waits for a connection that has something to say, or has been silent for too long; the calling thread has it to itself until it gives
    /// it back to `seat` or `leave`.
    /// - Returns: `nil` when this child drains and nobody is left who has to be served here.
    func next() -> Visitor? {
        withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: 2) { events in
            while true {
                let isDraining = phase.load(ordering: .sequentiallyConsistent) != .open
                if !isDraining, isNewcomersTurn, let visitor = accept() { return visitor }
                waiting.add(1, ordering: .relaxed)
                // Beside the bell, which rings for ever, there may be one that is ready.
                let count = epoll_wait(epoll, events.baseAddress, isDraining ? 2 : 1, isDraining ? 0 : -1)
                waiting.subtract(1, ordering: .relaxed)
                let ready = events.prefix(Int(max(0, count))).lazy.map(\.data.fd).first { $0 != bell }
                switch ready {
                case nil: if isDraining { return seats.takeAwaited() }
                case Inherited.listener: if let visitor = accept() { return visitor }
                case Inherited.take: if let visitor = takeOver() { return visitor }
                case clock: if let visitor = overdue() { return visitor }
                case let descriptor?: if var visitor = seats.call(descriptor), !passOn(&visitor) { return visitor }
                }
            }
        }
    }

    /// Whether a connection may be kept that has been served.
    func mayStay() -> Bool { !isLast && present.load(ordering: .relaxed) <= pool.keptLimit }

    /// Whether a thread has to wait for what a connection has to say: no other process will.
    var isLast: Bool { phase.load(ordering: .sequentiallyConsistent) == .ended }

    /// The connection is gone.
    func leave() { present.subtract(1, ordering: .relaxed) }

    /// Takes a connection back that has nothing to say for now.
    func seat(_ visitor: Visitor) {
        var visitor = visitor
        switch phase.load(ordering: .sequentiallyConsistent) {
        case .replaced: _ = handOver(&visitor)
        // Whoever is awaited is waited for: `next` returns it at once.
        case .ended: if visitor.deadline == nil { show(out: visitor) } else { _ = seats.give(visitor) }
        case .open:
            guard visitor.isWatched || watch(&visitor) else { return show(out: visitor) }
            if visitor.deadline != nil { setClock(.seconds(1)) }
            // What it said meanwhile has to be heard once more.
            if seats.give(visitor) { control(EPOLL_CTL_MOD, visitor.descriptor, Self.edge) }
            // The draining may have begun, and looked at this seat too early.
            if phase.load(ordering: .sequentiallyConsistent) == .replaced, var late = seats.take(visitor.descriptor) { _ = handOver(&late) }
        }
    }

    // MARK: - Coming

    private func accept() -> Visitor? {
        // Read first: behind the shutting nobody comes, so who is not there then never will be.
        let isShut = isListenerShut
        let descriptor = accept4(Inherited.listener, nil, nil, Int32(SOCK_CLOEXEC.rawValue))
        isCrowded.store(descriptor >= 0, ordering: .relaxed)
        if descriptor >= 0 { return admit(descriptor, isNew: true) }
        switch errno {
        case EAGAIN, EINVAL: if isShut { control(EPOLL_CTL_DEL, Inherited.listener) }
        // What the kernel lacks may come back.
        case EMFILE, ENFILE, ENOBUFS, ENOMEM: usleep(50_000)
        // A sibling was faster, or the peer left before its turn.
        default: break
        }
        return nil
    }

    /// The listener comes up once for each turn of all connections that are ready: with one newcomer a turn, those who come together would wait
    /// for half a second beside a hundred kept ones. So while there are any, every second turn is theirs.
    private var isNewcomersTurn: Bool {
        isCrowded.load(ordering: .relaxed) && turn.add(1, ordering: .relaxed).newValue.isMultiple(of: 2)
    }

    private func takeOver() -> Visitor? {
        switch Handover.take() {
        case .connection(let descriptor): return admit(descriptor, isNew: false)
        case .ended: control(EPOLL_CTL_DEL, Inherited.take)
        case .nothing: break
        }
        return nil
    }

    private func admit(_ descriptor: Int32, isNew: Bool) -> Visitor? {
        guard seats.hold(descriptor) else {
            close(descriptor)
            return nil
        }
        if isNew { Connection.prepare(descriptor) }
        present.add(1, ordering: .relaxed)
        return Visitor(descriptor, isNew: isNew)
    }

    /// Somebody who should have been heard of by now.
    private func overdue() -> Visitor? {
        var ticks: UInt64 = 0
        read(clock, &ticks, 8)
        isClockSet.store(false, ordering: .sequentiallyConsistent)
        let late = seats.takeAwaited(until: .now)
        if seats.hasAwaited { setClock(late == nil ? .seconds(1) : .milliseconds(1)) }
        return late
    }

    // MARK: - Going

    private func show(out visitor: Visitor) {
        close(visitor.descriptor)
        leave()
    }

    /// Where this child has no thread to spare and a sibling may have, the sibling gets a connection: else those that were received together,
    /// after a replacement for instance, would stay together.
    private func passOn(_ visitor: inout Visitor) -> Bool {
        guard pool.children > 1, waiting.load(ordering: .relaxed) == 0, visitor.deadline == nil,
            phase.load(ordering: .relaxed) == .open
        else { return false }
        let (now, last) = (milliseconds(.now - beginning), passedAt.load(ordering: .relaxed))
        let isDue = now - last > Self.passingPause && passedAt.compareExchange(expected: last, desired: now, ordering: .relaxed).exchanged
        // Where nobody has taken the last one yet, all are busy, and this one would wait behind it.
        guard isDue, !Handover.isPending else { return false }
        unwatch(&visitor)
        guard Handover.give(visitor.descriptor) else { return false }
        show(out: visitor)
        return true
    }

    /// Receives nobody any more. Where the pool goes on, connections that nobody has to answer here go to the other children, and so does
    /// whatever is seated later; where it ends, those that are ready are served and the idle ones closed.
    /// - Parameter deadline: for handing over.
    /// - Returns: how many others have now, and how many nobody took.
    func drain(until deadline: ContinuousClock.Instant) -> (handedOver: Int, lost: Int) {
        let hasEnded = Handover.hasEnded(master: master)
        control(EPOLL_CTL_DEL, Inherited.take)
        // A unix socket that was shut has an end. With any other the pending ones are left to whoever listens there.
        if !hasEnded || !isListenerShut { control(EPOLL_CTL_DEL, Inherited.listener) }
        handOverUntil.withLock { $0 = deadline }
        phase.store(hasEnded ? .ended : .replaced, ordering: .sequentiallyConsistent)
        var one: UInt64 = 1
        write(bell, &one, 8)
        guard !hasEnded else { return (0, 0) }
        var all: [Visitor] = []
        while let visitor = seats.takeAny() { all.append(visitor) }
        // The kernel may have woken this child alone for what came last.
        while let visitor = takeOver() { all.append(visitor) }
        while let visitor = accept() { all.append(visitor) }
        var lost = 0
        for index in all.indices where !handOver(&all[index]) { lost += 1 }
        return (all.count - lost, lost)
    }

    private func handOver(_ visitor: inout Visitor) -> Bool {
        unwatch(&visitor)
        defer { show(out: visitor) }
        let deadline = handOverUntil.withLock { $0 }
        while !Handover.give(visitor.descriptor) {
            // Full, until a sibling has taken something out.
            guard errno != EPIPE, ContinuousClock.now < deadline else { return false }
            usleep(1000)
        }
        return true
    }

    private var isListenerShut: Bool {
        var polled = pollfd(fd: Inherited.listener, events: cloud_peer_closed, revents: 0)
        return poll(&polled, 1, 0) > 0 && polled.revents & (cloud_peer_closed | Int16(POLLHUP)) != 0
    }

    // MARK: - The epoll

    /// Tells of each arrival once. What arrives while a thread has the connection is told too, so that nothing is missed.
    private static let edge = EPOLLIN.rawValue | EPOLLRDHUP.rawValue | EPOLLET.rawValue

    private func watch(_ visitor: inout Visitor) -> Bool {
        visitor.isWatched = control(EPOLL_CTL_ADD, visitor.descriptor, Self.edge)
        return visitor.isWatched
    }

    /// Before another process gets it: the watch would outlive our descriptor.
    private func unwatch(_ visitor: inout Visitor) {
        if visitor.isWatched { control(EPOLL_CTL_DEL, visitor.descriptor) }
        visitor.isWatched = false
    }

    /// For one tick, unless there will be one anyhow.
    private func setClock(_ pause: Duration) {
        guard !isClockSet.exchange(true, ordering: .sequentiallyConsistent) else { return }
        var time = itimerspec()
        time.it_value.tv_sec = Int(pause.components.seconds)
        time.it_value.tv_nsec = Int(pause.components.attoseconds / 1_000_000_000)
        timerfd_settime(clock, 0, &time, nil)
    }

    @discardableResult
    private func control(_ operation: Int32, _ descriptor: Int32, _ events: UInt32 = 0) -> Bool {
        var event = epoll_event(events: events, data: epoll_data_t(fd: descriptor))
        return epoll_ctl(epoll, operation, descriptor, &event) == 0
    }
}
