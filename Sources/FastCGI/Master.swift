// The master: binds the pools' sockets, starts the children, and waits. It never reads a request.
// Signals arrive through a descriptor, so all of this runs on one thread and no code runs inside a signal handler.
import CFastCGI
import Glibc

package enum Master {
    /// Serves until SIGTERM or SIGINT; call it from the main thread of a process that has no other.
    ///
    /// SIGHUP replaces all children one by one and loses no request: a new child is ready before its predecessor is told to drain.
    /// A child that dies is started again: at once, then after 100 ms, doubling up to 5 s while they die within 5 s of starting.
    /// If the master itself is killed, the children notice and drain.
    ///
    /// - Parameters:
    ///   - arguments: the command line (without the program's name) by which `main` knows that it has to call `Child.serve` for this pool.
    ///   - log: is called on this thread.
    /// - Returns: the exit status, 0: every child has ended and the sockets are removed.
    /// - Throws: `PoolError` when a socket can't be had; nothing was started then.
    package static func run(
        pools: [Pool], arguments: @escaping (Pool) -> [String], log: @escaping @Sendable (PoolEvent) -> Void
    ) throws(PoolError) -> Int32 {
        var awaited = signalSet(SIGCHLD, SIGTERM, SIGINT, SIGHUP)
        pthread_sigmask(SIG_BLOCK, &awaited, nil)
        signal(SIGPIPE, SIG_IGN)
        let signals = raised(signalfd(-1, &awaited, Int32(SFD_CLOEXEC | SFD_NONBLOCK)))
        guard signals >= 0 else { throw PoolError(errno: errno, "cannot wait for signals") }
        defer { close(signals) }

        var listeners: [Listener] = []
        defer { for listener in listeners { listener.remove() } }
        for pool in pools { listeners.append(try Listener(for: pool)) }

        var supervision = Supervision(pools: pools, listeners: listeners, signals: signals, arguments: arguments, log: log)
        supervision.run()
        return 0
    }
}
