// The master's loop: one poll over signals, readiness pipes and deadlines.
// A slot is a child's place in its pool; during a replacement two processes belong to one slot, and only the occupant counts.
import CFastCGI
import Glibc

struct Supervision {
    private struct Slot {
        let pool: Int
        var occupant: pid_t?
        /// Deaths in a row, each within `youth` of the start.
        var quickDeaths = 0
        var startAt: ContinuousClock.Instant?
    }

    private struct Process {
        let slot: Int
        let started: ContinuousClock.Instant
        /// The read end of its readiness pipe, until it said something.
        var readiness: Int32?
        var killAt: ContinuousClock.Instant?
    }

    private let pools: [Pool]
    private let listeners: [Listener]
    private let signals: Int32
    private let arguments: (Pool) -> [String]
    private let log: @Sendable (PoolEvent) -> Void

    private var slots: [Slot]
    private var processes: [pid_t: Process] = [:]
    private var toReplace: [Int] = []
    private var replacement: (slot: Int, newcomer: pid_t, giveUpAt: ContinuousClock.Instant)?
    private var isStopping = false

    /// A child that lived longer did not fail at starting.
    private static let youth = Duration.seconds(5)
    private static let longestBackOff = 5000
    /// A newcomer that is not ready by then is given up.
    private static let startLimit = Duration.seconds(60)
    /// What a child gets beyond its own drain limit before SIGKILL.
    private static let grace = Duration.seconds(1)

    init(
        pools: [Pool], listeners: [Listener], signals: Int32, arguments: @escaping (Pool) -> [String],
        log: @escaping @Sendable (PoolEvent) -> Void
    ) {
        self.pools = pools
        self.listeners = listeners
        self.signals = signals
        self.arguments = arguments
        self.log = log
        slots = pools.indices.flatMap { pool in (0..<pools[pool].children).map { _ in Slot(pool: pool) } }
    }

    mutating func run() {
        for slot in slots.indices { fill(slot) }
        while !isStopping || !processes.isEmpty {
            for pid in wait() { takeReadiness(of: pid) }
            takeSignals()
            meetDeadlines()
        }
    }

    private func pool(of slot: Int) -> Pool { pools[slots[slot].pool] }

    // MARK: Waiting

    /// Waits for a signal, a readiness pipe or the next deadline.
    /// - Returns: the children whose pipe has something to say.
    private func wait() -> [pid_t] {
        let waiting = processes.compactMap { pid, process in process.readiness.map { (pid: pid, pipe: $0) } }
        var polled = [pollfd(fd: signals, events: Int16(POLLIN), revents: 0)]
        polled += waiting.map { pollfd(fd: $0.pipe, events: Int16(POLLIN), revents: 0) }
        let deadlines = slots.compactMap(\.startAt) + processes.values.compactMap(\.killAt) + [replacement?.giveUpAt].compactMap { $0 }
        var timeout: Int32 = -1
        if let next = deadlines.min() {
            // Rounded up, so that the deadline has passed when poll returns.
            timeout = Int32(clamping: max(0, milliseconds(next - .now) + 1))
        }
        guard poll(&polled, nfds_t(polled.count), timeout) > 0 else { return [] }
        return zip(waiting, polled.dropFirst()).filter { $1.revents != 0 }.map { $0.0.pid }
    }

    private mutating func takeSignals() {
        var info = signalfd_siginfo()
        while read(signals, &info, MemoryLayout<signalfd_siginfo>.size) == MemoryLayout<signalfd_siginfo>.size {
            switch Int32(bitPattern: info.ssi_signo) {
            case SIGTERM, SIGINT: stop()
            case SIGHUP: replaceAll()
            default: break
            }
        }
        // Several deaths may have become one SIGCHLD.
        var status: Int32 = 0
        while case let pid = waitpid(-1, &status, WNOHANG), pid > 0 { bury(pid, status) }
    }

    private mutating func meetDeadlines() {
        let now = ContinuousClock.now
        for (pid, process) in processes {
            guard let limit = process.killAt, limit <= now else { continue }
            processes[pid]?.killAt = nil
            kill(pid, SIGKILL)
            log(.childKilled(pool: pool(of: process.slot).name, pid: pid))
        }
        if let current = replacement, current.giveUpAt <= now {
            replacement?.giveUpAt = now + Self.startLimit
            kill(current.newcomer, SIGKILL)
        }
        for slot in slots.indices {
            guard let due = slots[slot].startAt, due <= now else { continue }
            slots[slot].startAt = nil
            fill(slot)
        }
    }

    // MARK: Births and deaths

    private mutating func fill(_ slot: Int) {
        slots[slot].occupant = start(slot)
        if slots[slot].occupant == nil { startLater(slot, lived: .zero) }
    }

    private mutating func start(_ slot: Int) -> pid_t? {
        let pool = pool(of: slot)
        var ends: [Int32] = [-1, -1]
        defer { if ends[1] >= 0 { close(ends[1]) } }
        do throws(PoolError) {
            guard pipe2(&ends, O_CLOEXEC | O_NONBLOCK) == 0 else { throw PoolError(errno: errno, "cannot make a pipe") }
            ends = ends.map(raised)
            guard !ends.contains(-1) else { throw PoolError("cannot make a pipe: no descriptor is left") }
            let listener = listeners[slots[slot].pool]
            let pid = try spawnSelf(
                arguments: arguments(pool), listener: listener.descriptor, readiness: ends[1], handover: listener.handover)
            processes[pid] = Process(slot: slot, started: .now, readiness: ends[0])
            log(.childStarted(pool: pool.name, pid: pid))
            return pid
        } catch {
            if ends[0] >= 0 { close(ends[0]) }
            log(.childNotStarted(pool: pool.name, reason: error.description))
            return nil
        }
    }

    private mutating func startLater(_ slot: Int, lived: Duration) {
        var delay = 0
        if lived >= Self.youth {
            slots[slot].quickDeaths = 0
        } else {
            let deaths = slots[slot].quickDeaths
            delay = deaths == 0 ? 0 : min(Self.longestBackOff, 100 << min(deaths - 1, 10))
            slots[slot].quickDeaths = deaths + 1
        }
        if delay > 0 { log(.childBackingOff(pool: pool(of: slot).name, milliseconds: delay)) }
        slots[slot].startAt = .now + .milliseconds(delay)
    }

    private mutating func takeReadiness(of pid: pid_t) {
        guard let process = processes[pid], let pipe = process.readiness else { return }
        var byte: UInt8 = 0
        let count = read(pipe, &byte, 1)
        close(pipe)
        processes[pid]?.readiness = nil
        // Without a byte it is about to die; its SIGCHLD tells the rest.
        guard count == 1 else { return }
        let name = pool(of: process.slot).name
        log(.childReady(pool: name, pid: pid, milliseconds: milliseconds(.now - process.started)))
        guard let current = replacement, current.newcomer == pid else { return }
        replacement = nil
        let old = slots[current.slot].occupant
        slots[current.slot].occupant = pid
        if let old {
            dismiss(old)
            log(.childReplaced(pool: name, old: old, new: pid))
        }
        replaceNext()
    }

    private mutating func bury(_ pid: pid_t, _ status: Int32) {
        // A quick child may be ready and gone at once.
        takeReadiness(of: pid)
        guard let process = processes.removeValue(forKey: pid) else { return }
        let name = pool(of: process.slot).name
        let signal = status & 0x7f
        log(.childExited(pool: name, pid: pid, ending: signal == 0 ? .status(status >> 8 & 0xff) : .signal(signal)))
        if slots[process.slot].occupant == pid { slots[process.slot].occupant = nil }
        if replacement?.newcomer == pid {
            replacement = nil
            toReplace = []
            log(.replacementAbandoned(pool: name, pid: pid))
        }
        // A slot whose newcomer is on its way needs no other one.
        let slot = slots[process.slot]
        guard !isStopping, slot.occupant == nil, slot.startAt == nil, replacement?.slot != process.slot else { return }
        startLater(process.slot, lived: .now - process.started)
    }

    /// Tells a child to drain, and sees that it ends.
    private mutating func dismiss(_ pid: pid_t) {
        guard let process = processes[pid], process.killAt == nil else { return }
        kill(pid, SIGTERM)
        let killAt = ContinuousClock.now + .seconds(pool(of: process.slot).drainSeconds) + Self.grace
        processes[pid]?.killAt = killAt
    }

    // MARK: Signals

    private mutating func replaceAll() {
        guard !isStopping else { return }
        log(.replacing)
        toReplace = slots.indices.reversed()
        replaceNext()
    }

    private mutating func replaceNext() {
        guard !isStopping, replacement == nil else { return }
        // An empty slot is filled anew anyhow.
        while let slot = toReplace.popLast() {
            guard slots[slot].occupant != nil else { continue }
            guard let newcomer = start(slot) else {
                toReplace = []
                log(.replacementAbandoned(pool: pool(of: slot).name, pid: nil))
                return
            }
            replacement = (slot, newcomer, .now + Self.startLimit)
            return
        }
    }

    private mutating func stop() {
        guard !isStopping else { return }
        isStopping = true
        log(.draining)
        toReplace = []
        replacement = nil
        for slot in slots.indices { slots[slot].startAt = nil }
        for listener in listeners { listener.refuseNewcomers() }
        for pid in Array(processes.keys) { dismiss(pid) }
    }
}
