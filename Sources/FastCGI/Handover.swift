// How children of one pool hand connections to each other: a pair of sockets that all of them inherit. A descriptor is put into one end, and
// whichever child is first takes it out of the other. The master keeps both ends open and looks at neither, so what a child puts in while no
// other lives waits for the next one.
import CFastCGI
import Glibc

struct Handover {
    let take: Int32
    let give: Int32

    init() throws(PoolError) {
        var ends: [Int32] = [-1, -1]
        let kind = Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else { throw PoolError(errno: errno, "cannot make a pair of sockets") }
        (take, give) = (raised(ends[0]), raised(ends[1]))
        guard take >= 0, give >= 0 else { throw PoolError("cannot make a pair of sockets: no descriptor is left") }
    }

    /// From now on nothing is handed over, in no process: there is nobody who could go on.
    func end() { shutdown(give, Int32(SHUT_RDWR)) }

    func close() {
        Glibc.close(take)
        Glibc.close(give)
    }

    // MARK: In a child

    /// Whether the master ended the pool, or is gone itself (`master` is its process).
    static func hasEnded(master: pid_t) -> Bool {
        var polled = pollfd(fd: Inherited.take, events: cloud_peer_closed, revents: 0)
        return getppid() != master || poll(&polled, 1, 0) > 0 && polled.revents & (cloud_peer_closed | Int16(POLLHUP)) != 0
    }

    /// - Returns: whether another child will have it; the caller closes its own copy.
    static func give(_ connection: Int32) -> Bool { cloud_send_descriptor(Inherited.give, connection) == 0 }

    /// Whether something was given that nobody has taken yet.
    static var isPending: Bool {
        var polled = pollfd(fd: Inherited.take, events: Int16(POLLIN), revents: 0)
        return poll(&polled, 1, 0) > 0
    }

    enum Taken {
        case connection(Int32)
        /// A sibling was faster, or this process has no descriptor left.
        case nothing
        case ended
    }

    static func take() -> Taken {
        let taken = cloud_receive_descriptor(Inherited.take)
        return taken > 0 ? .connection(taken) : taken == 0 ? .ended : .nothing
    }
}
