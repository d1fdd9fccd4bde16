// A plain thread that can be waited for. Blocking C calls want these, not Swift's cooperative pool.
import Glibc

package struct WorkerThread: Sendable {
    private let handle: pthread_t

    private final class Start: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    /// Starts a thread of 2 MiB stack that takes no signals; ends the process when the system has none to give.
    package init(_ body: @escaping @Sendable () -> Void) {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setstacksize(&attributes, 2 << 20)
        // Blocked before it starts, or a signal could reach it first.
        var all = sigset_t()
        var present = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_SETMASK, &all, &present)
        defer { pthread_sigmask(SIG_SETMASK, &present, nil) }
        var handle = pthread_t()
        let problem = pthread_create(
            &handle, &attributes,
            { start in
                if let start { Unmanaged<Start>.fromOpaque(start).takeRetainedValue().body() }
                return nil
            }, Unmanaged.passRetained(Start(body)).toOpaque())
        precondition(problem == 0, "cannot start a thread: \(String(cString: strerror(problem)))")
        self.handle = handle
    }

    /// Waits until it has ended; once.
    package func join() { pthread_join(handle, nil) }
}
