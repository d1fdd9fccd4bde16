// A child: threads that serve whoever is ready, and a main thread that waits to be told to drain.
import CFastCGI
import Glibc
package import HTTP
import System

package enum Child {
    /// Serves a pool in a process that `Master` started, until it is told to drain; call it from the main thread.
    ///
    /// On SIGTERM (which also comes when the master dies) each thread finishes its request and leaves; kept connections go to the other
    /// children of the pool. A thread that still works after the pool's `drainSeconds` is cut off.
    ///
    /// - Parameters:
    ///   - log: is called on any thread.
    ///   - makeHandler: is called once on each thread; its result is used on that thread only and freed there when the thread leaves.
    ///     If it throws, the error is logged and the process exits with status 1.
    /// - Returns: never; the exit status is 0 when drained, 1 when it could not start or threads were cut off.
    package static func serve(
        pool: Pool, log: @escaping @Sendable (PoolEvent) -> Void, makeHandler: @escaping @Sendable () throws -> ((Request) -> Response)
    ) -> Never {
        do throws(PoolError) {
            try prepare(pool)
            let crew = Crew(pool: pool, reception: try Reception(pool: pool), log: log, makeHandler: makeHandler)
            try crew.start()
            Haste.usual(in: pool)
            awaitDismissal()
            let left = crew.drain()
            log(left > 0 ? .drainExpired(pool: pool.name, threads: left) : .drained(pool: pool.name))
            // Not exit: its handlers would run beside threads that are still at work.
            _exit(left == 0 ? 0 : 1)
        } catch {
            log(.childFailed(pool: pool.name, reason: error.description))
            _exit(1)
        }
    }

    /// The same for a pool that speaks something else than FastCGI.
    ///
    /// - Parameter start: gets the listening descriptor, and returns at once with what drains: that may take the pool's `drainSeconds`.
    package static func serve(
        pool: Pool, log: @escaping @Sendable (PoolEvent) -> Void, start: (_ listener: Int32) throws -> () -> Void
    ) -> Never {
        do {
            try prepare(pool)
            Haste.usual(in: pool)
            let drain = try start(Inherited.listener)
            reportReady()
            awaitDismissal()
            drain()
            log(.drained(pool: pool.name))
            _exit(0)
        } catch {
            log(.childFailed(pool: pool.name, reason: "\(error)"))
            _exit(1)
        }
    }

    /// Tells the master that this child serves.
    static func reportReady() {
        var byte: UInt8 = 1
        let count = write(Inherited.readiness, &byte, 1)
        close(Inherited.readiness)
        // Nobody at the other end: the master died before we could ask to be told.
        if count != 1 { kill(getpid(), SIGTERM) }
    }

    private static func prepare(_ pool: Pool) throws(PoolError) {
        for descriptor in Inherited.all {
            guard fcntl(descriptor, F_SETFD, FD_CLOEXEC) == 0 else {
                throw PoolError("not started by a master: descriptor \(descriptor) is missing")
            }
        }
        var ours = signalSet(SIGTERM, SIGINT)
        pthread_sigmask(SIG_BLOCK, &ours, nil)
        Haste.less()
        if let user = pool.user {
            do {
                try Privileges.become(user)
            } catch {
                throw PoolError(error.description)
            }
        }
        guard cloud_forbid_new_privileges() == 0 else { throw PoolError(errno: errno, "cannot give up new privileges") }
        // After the change of user, which resets it.
        guard cloud_signal_on_parent_death(SIGTERM) == 0 else { throw PoolError(errno: errno, "cannot watch the master") }

        guard FCGX_Init() == 0 else { throw PoolError("libfcgi does not start") }
        // After FCGX_Init, which sets handlers of its own. A terminal's SIGHUP concerns the master alone.
        signal(SIGPIPE, SIG_IGN)
        signal(SIGHUP, SIG_IGN)
        signal(SIGTERM, SIG_DFL)
    }

    private static func awaitDismissal() {
        var awaited = signalSet(SIGTERM, SIGINT)
        var signal: Int32 = 0
        while sigwait(&awaited, &signal) != 0 {}
    }
}
