// What a pool is, what happens in its life, and why it can't start. Values only.
// A pool is a listening socket, some child processes that share it, and some threads in each: like php-fpm's.

/// A group of equal children behind one socket.
package struct Pool: Sendable {
    /// Names the pool in events.
    package let name: String
    /// The absolute path of a unix socket (at most 107 bytes), or `host:port` for TCP (`[::1]:9000` for IPv6).
    package let socket: String
    /// Processes; each has `threads` threads, and a thread serves one request at a time.
    package let children: Int
    package let threads: Int
    /// Connections that a child holds before it closes one behind its answer though the peer would keep it.
    package let keptLimit: Int
    /// The longest request body that is read, in bytes.
    package let bodyLimit: Int
    /// The OS user that children of a root master become, with its group and supplementary groups. Ignored when not started as root.
    package let user: String?
    /// The OS group that may connect to a unix socket besides its owner.
    package let socketGroup: String?
    /// How much its threads stand back for others where processors are scarce: 0–19, as nice(1) takes it.
    package let niceness: Int32
    /// Seconds that running requests get to finish once a child was told to leave; then they are cut off.
    package let drainSeconds: Int

    package init(
        name: String, socket: String, children: Int, threads: Int, bodyLimit: Int, user: String? = nil, socketGroup: String? = nil,
        keptLimit: Int = 512, niceness: Int32 = 0, drainSeconds: Int = 30
    ) {
        precondition(children > 0 && threads > 0 && keptLimit >= 0 && drainSeconds >= 0 && (0...Int(Int32.max)).contains(bodyLimit))
        self.name = name
        self.socket = socket
        self.children = children
        self.threads = threads
        self.keptLimit = keptLimit
        self.bodyLimit = bodyLimit
        self.user = user
        self.socketGroup = socketGroup
        self.niceness = niceness
        self.drainSeconds = drainSeconds
    }
}

/// What the master and its children have to tell; the caller makes log lines of it.
package enum PoolEvent: Equatable, Sendable {
    case childStarted(pool: String, pid: Int32)
    /// Every thread has its handler; `milliseconds` since the start.
    case childReady(pool: String, pid: Int32, milliseconds: Int)
    case childExited(pool: String, pid: Int32, ending: Ending)
    /// Its child died soon after starting: the next one starts in `milliseconds`.
    case childBackingOff(pool: String, milliseconds: Int)
    case childNotStarted(pool: String, reason: String)
    /// `old` drains, `new` serves.
    case childReplaced(pool: String, old: Int32, new: Int32)
    /// The new child never became ready; the old ones go on and the rest of the replacement is called off.
    case replacementAbandoned(pool: String, pid: Int32?)
    /// The child was still there after the pool's `drainSeconds` and got SIGKILL.
    case childKilled(pool: String, pid: Int32)
    /// SIGHUP was taken: all children get replaced.
    case replacing
    /// SIGTERM or SIGINT was taken: all children drain.
    case draining

    /// From a child: the peer does not speak FastCGI as nginx does, or leaves out what we need. Its connection was closed.
    case malformedRequest(pool: String, reason: String)
    /// From a child that ends because of it: it can't become what it should be, or a thread has no handler.
    case childFailed(pool: String, reason: String)
    /// From a child that drains: idle connections that others of its pool have now, and those that nobody took.
    case handedOver(pool: String, connections: Int, lost: Int)
    /// From a child whose threads all finished what they had: it ends.
    case drained(pool: String)
    /// From a child that ends though `threads` threads are still at work.
    case drainExpired(pool: String, threads: Int)

    package enum Ending: Equatable, Sendable {
        case status(Int32)
        case signal(Int32)
    }
}

/// Why a master or child can't do its work; the sentence is for the operator.
package struct PoolError: Error, CustomStringConvertible, Sendable {
    package let description: String

    init(_ description: String) { self.description = description }

    /// Completes the sentence with the text of `errno`.
    init(errno code: Int32, _ what: String) { self.init("\(what): \(describe(errno: code))") }
}
