// The threads of one child. Each is its own accept loop: a plain blocking accept, which wakes exactly one thread per connection.
import CFastCGI
import Glibc
import HTTP
import Synchronization

final class Crew: Sendable {
    private let pool: Pool
    private let log: @Sendable (PoolEvent) -> Void
    private let makeHandler: @Sendable () throws -> ((Request) -> Response)
    private let isDraining = Atomic(false)
    private let ready = Atomic(0)
    private let left = Atomic(0)

    /// Foundation's JSON decoder recurses; this carries it to its own limit of 512 levels.
    private static let stackSize = 2 * 1024 * 1024

    init(pool: Pool, log: @escaping @Sendable (PoolEvent) -> Void, makeHandler: @escaping @Sendable () throws -> ((Request) -> Response)) {
        self.pool = pool
        self.log = log
        self.makeHandler = makeHandler
    }

    /// Starts all threads; SIGTERM, SIGINT and SIGUSR1 must be blocked already. The last one to have its handler reports readiness.
    func start() throws(PoolError) -> [pthread_t] {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setstacksize(&attributes, Self.stackSize)
        var threads: [pthread_t] = []
        for _ in 0..<pool.threads {
            var thread = pthread_t()
            let problem = pthread_create(
                &thread, &attributes,
                { crew in
                    if let crew { Unmanaged<Crew>.fromOpaque(crew).takeRetainedValue().work() }
                    return nil
                }, Unmanaged.passRetained(self).toOpaque())
            guard problem == 0 else { throw PoolError(errno: problem, "cannot start a thread") }
            threads.append(thread)
        }
        return threads
    }

    /// Lets every thread finish its request and leave, within the pool's `drainSeconds`.
    /// - Returns: how many are still at work.
    func drain(_ threads: [pthread_t]) -> Int {
        isDraining.store(true, ordering: .sequentiallyConsistent)
        let deadline = ContinuousClock.now + .seconds(pool.drainSeconds)
        while atWork > 0, ContinuousClock.now < deadline {
            // None was joined, so every id is still good.
            for thread in threads { pthread_kill(thread, SIGUSR1) }
            usleep(3000)
        }
        return atWork
    }

    /// Threads that may have a request; one that still waits for its handler has none and will take none.
    private var atWork: Int { ready.load(ordering: .sequentiallyConsistent) - left.load(ordering: .sequentiallyConsistent) }

    private func work() {
        // Counted after the handler is freed.
        defer { left.add(1, ordering: .sequentiallyConsistent) }
        acceptAll(with: handler())
    }

    private func handler() -> (Request) -> Response {
        do {
            let handler = try makeHandler()
            if ready.add(1, ordering: .sequentiallyConsistent).newValue == pool.threads { Child.reportReady() }
            return handler
        } catch {
            log(.childFailed(pool: pool.name, reason: "no handler: \(error)"))
            _exit(1)
        }
    }

    private func acceptAll(with handler: (Request) -> Response) {
        var connection = Connection(pool: pool, log: log)
        var wake = signalSet(SIGUSR1)
        while !isDraining.load(ordering: .sequentiallyConsistent) || isSocketShut() {
            pthread_sigmask(SIG_UNBLOCK, &wake, nil)
            let accepted = accept4(Inherited.listener, nil, nil, Int32(SOCK_CLOEXEC.rawValue))
            let problem = errno
            pthread_sigmask(SIG_BLOCK, &wake, nil)
            if accepted >= 0 {
                connection.serve(accepted, handler)
                continue
            }
            switch problem {
            // The master shut the socket, and nobody waits there any more.
            case EINVAL: return
            // What the kernel lacks may come back.
            case EMFILE, ENFILE, ENOBUFS, ENOMEM: usleep(50_000)
            case EBADF, ENOTSOCK, EOPNOTSUPP:
                log(.childFailed(pool: pool.name, reason: "cannot accept: \(describe(errno: problem))"))
                _exit(1)
            // The drain signal, or a peer that left before its turn.
            default: break
            }
        }
    }

    /// Whether the master ended the pool: then accepting never blocks, and who had connected before is still served.
    private func isSocketShut() -> Bool {
        var polled = pollfd(fd: Inherited.listener, events: cloud_peer_closed, revents: 0)
        return poll(&polled, 1, 0) > 0 && polled.revents & (cloud_peer_closed | Int16(POLLHUP)) != 0
    }
}
