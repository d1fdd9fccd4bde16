// Small pieces over the C library that the master and the children share.
// Descriptor numbers 3 to 6 belong to the children: everything the master opens is moved above them.
import Glibc

/// Where a child finds what its master hands over.
enum Inherited {
    static let listener: Int32 = 3
    /// The write end of a pipe: one byte means ready; nobody at the other end means that the master is gone.
    static let readiness: Int32 = 4
    /// The two ends of the pool's `Handover`.
    static let take: Int32 = 5
    static let give: Int32 = 6
    static let firstForeign: Int32 = 7
    static let all = [listener, readiness, take, give]
}

func describe(errno code: Int32) -> String { String(cString: strerror(code)) }

func signalSet(_ signals: Int32...) -> sigset_t {
    var set = sigset_t()
    sigemptyset(&set)
    for signal in signals { sigaddset(&set, signal) }
    return set
}

/// The same descriptor under a number that `Inherited` never takes, closed on exec; the given one is closed.
/// - Returns: -1 with errno when `descriptor` is -1 or none is left.
func raised(_ descriptor: Int32) -> Int32 {
    guard descriptor >= 0 else { return -1 }
    let high = fcntl(descriptor, F_DUPFD_CLOEXEC, 16)
    let code = errno
    close(descriptor)
    errno = code
    return high
}

func milliseconds(_ duration: Duration) -> Int {
    Int(duration.components.seconds) * 1000 + Int(duration.components.attoseconds / 1_000_000_000_000_000)
}
