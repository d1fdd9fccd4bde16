// The threads of one child. Each serves one request after the other, on whichever connection the reception has for it.
import CFastCGI
import Glibc
import HTTP
import Synchronization

final class Crew: Sendable {
    private let pool: Pool
    private let reception: Reception
    private let log: @Sendable (PoolEvent) -> Void
    private let makeHandler: @Sendable () throws -> ((Request) -> Response)
    private let ready = Atomic(0)
    private let left = Atomic(0)

    /// Foundation's JSON decoder recurses; this carries it to its own limit of 512 levels.
    private static let stackSize = 2 * 1024 * 1024

    init(
        pool: Pool, reception: Reception, log: @escaping @Sendable (PoolEvent) -> Void,
        makeHandler: @escaping @Sendable () throws -> ((Request) -> Response)
    ) {
        self.pool = pool
        self.reception = reception
        self.log = log
        self.makeHandler = makeHandler
    }

    /// Starts all threads; SIGTERM and SIGINT must be blocked already. The last one to have its handler reports readiness.
    func start() throws(PoolError) {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setstacksize(&attributes, Self.stackSize)
        pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        for _ in 0..<pool.threads {
            var thread = pthread_t()
            let problem = pthread_create(
                &thread, &attributes,
                { crew in
                    if let crew { Unmanaged<Crew>.fromOpaque(crew).takeRetainedValue().work() }
                    return nil
                }, Unmanaged.passRetained(self).toOpaque())
            guard problem == 0 else { throw PoolError(errno: problem, "cannot start a thread") }
        }
    }

    /// Lets every thread finish its request and leave, within the pool's `drainSeconds`.
    /// - Returns: how many are still at work.
    func drain() -> Int {
        let deadline = ContinuousClock.now + .seconds(pool.drainSeconds)
        let (handedOver, lost) = reception.drain(until: deadline)
        if handedOver + lost > 0 { log(.handedOver(pool: pool.name, connections: handedOver, lost: lost)) }
        while atWork > 0, ContinuousClock.now < deadline { usleep(3000) }
        return atWork
    }

    /// Threads that may have a request; one that still waits for its handler has none and will take none.
    private var atWork: Int { ready.load(ordering: .sequentiallyConsistent) - left.load(ordering: .sequentiallyConsistent) }

    private func work() {
        // Counted after the handler is freed.
        defer { left.add(1, ordering: .sequentiallyConsistent) }
        serveAll(with: handler())
    }

    private func handler() -> (Request) -> Response {
        do {
            let handler = try makeHandler()
            Haste.usual(in: pool)
            if ready.add(1, ordering: .sequentiallyConsistent).newValue == pool.threads { Child.reportReady() }
            return handler
        } catch {
            log(.childFailed(pool: pool.name, reason: "no handler: \(error)"))
            _exit(1)
        }
    }

    private func serveAll(with handler: (Request) -> Response) {
        var connection = Connection(pool: pool, log: log)
        while var visitor = reception.next() {
            switch connection.serve(visitor.descriptor, waits: reception.isLast, mayStay: reception.mayStay, handler) {
            case .kept:
                visitor.firstRequestBy = nil
                visitor.wholeBy = nil
                reception.seat(visitor)
            case .unserved(begun: false):
                if let limit = visitor.deadline, limit < .now {
                    close(visitor.descriptor)
                    reception.leave()
                } else {
                    reception.seat(visitor)
                }
            case .unserved(begun: true):
                let limit = visitor.wholeBy ?? .now + .milliseconds(Opening.patience)
                if limit < .now, case .malformed(let reason) = Opening.tooSlow() {
                    connection.refuse(visitor.descriptor, reason)
                    reception.leave()
                } else {
                    visitor.wholeBy = limit
                    reception.seat(visitor)
                }
            case .closed: reception.leave()
            }
        }
    }
}
