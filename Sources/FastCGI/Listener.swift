// A pool's listening socket, and what its children hand kept connections over with. The master holds it open for all its life, so no child's end ever refuses a connection.
// A unix socket comes with `<socket>.lock`: whoever holds the lock may take a stale socket away. The lock file stays behind on purpose.
import CFastCGI
import Glibc

struct Listener {
    let descriptor: Int32
    let handover: Handover
    private let path: String?
    private let lock: Int32

    private static let backlog: Int32 = 4096

    /// Binds and listens. A unix socket gets mode 0660 and the pool's group; one left by a dead master is replaced.
    /// - Throws: `PoolError` when the address is taken, malformed or forbidden, or the group is unknown.
    init(for pool: Pool) throws(PoolError) {
        handover = try Handover()
        if pool.socket.hasPrefix("/") {
            path = pool.socket
            lock = try Self.lock(pool)
            do throws(PoolError) {
                descriptor = try Self.bindUnix(pool)
            } catch {
                close(lock)
                throw error
            }
        } else {
            path = nil
            lock = -1
            descriptor = try Self.bindTCP(pool)
        }
    }

    /// Lets nobody connect any more, in no process; what already waits can still be accepted. A TCP socket just goes on.
    /// Children that drain from now on hand nothing over.
    func refuseNewcomers() {
        handover.end()
        if path != nil { shutdown(descriptor, Int32(SHUT_RDWR)) }
    }

    func remove() {
        handover.close()
        if let path { unlink(path) }
        close(descriptor)
        if lock >= 0 { close(lock) }
    }

    private static func lock(_ pool: Pool) throws(PoolError) -> Int32 {
        let path = pool.socket + ".lock"
        let lock = raised(open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600))
        guard lock >= 0 else { throw PoolError(errno: errno, "pool \(pool.name): cannot open \(path)") }
        guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
            let code = errno
            close(lock)
            guard code == EWOULDBLOCK else { throw PoolError(errno: code, "pool \(pool.name): cannot lock \(path)") }
            throw PoolError("pool \(pool.name): another master serves \(pool.socket) (it holds \(path))")
        }
        return lock
    }

    private static func bindUnix(_ pool: Pool) throws(PoolError) -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let fits = withUnsafeMutableBytes(of: &address.sun_path) { field in
            guard pool.socket.utf8.count < field.count else { return false }
            field.copyBytes(from: pool.socket.utf8)
            return true
        }
        guard fits else { throw PoolError("pool \(pool.name): the socket's path is longer than 107 bytes: \(pool.socket)") }

        var present = stat()
        if lstat(pool.socket, &present) == 0 {
            guard present.st_mode & S_IFMT == S_IFSOCK else { throw PoolError("pool \(pool.name): \(pool.socket) exists and is no socket") }
            unlink(pool.socket)
        }
        let descriptor = raised(socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0))
        guard descriptor >= 0 else { throw PoolError(errno: errno, "cannot make a socket") }
        // Nobody else may connect before the group is right.
        let mask = umask(0o177)
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        let code = errno
        umask(mask)
        do throws(PoolError) {
            guard bound == 0 else { throw PoolError(errno: code, "pool \(pool.name): cannot bind \(pool.socket)") }
            if let name = pool.socketGroup {
                guard let group = getgrnam(name) else { throw PoolError("pool \(pool.name): no group named \(name)") }
                guard chown(pool.socket, uid_t.max, group.pointee.gr_gid) == 0 else {
                    throw PoolError(errno: errno, "pool \(pool.name): cannot give \(pool.socket) to the group \(name)")
                }
            }
            guard chmod(pool.socket, 0o660) == 0, listen(descriptor, backlog) == 0 else {
                throw PoolError(errno: errno, "pool \(pool.name): cannot listen on \(pool.socket)")
            }
        } catch {
            close(descriptor)
            if bound == 0 { unlink(pool.socket) }
            throw error
        }
        return descriptor
    }

    private static func bindTCP(_ pool: Pool) throws(PoolError) -> Int32 {
        guard let colon = pool.socket.lastIndex(of: ":") else {
            throw PoolError("pool \(pool.name): \(pool.socket) is neither an absolute path nor host:port")
        }
        let host = String(pool.socket[..<colon].drop { $0 == "[" }.prefix { $0 != "]" })
        let port = String(pool.socket[colon...].dropFirst())
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
        var found: UnsafeMutablePointer<addrinfo>?
        let problem = getaddrinfo(host.isEmpty ? nil : host, port, &hints, &found)
        guard problem == 0, let address = found else {
            throw PoolError("pool \(pool.name): bad address \(pool.socket): \(String(cString: gai_strerror(problem)))")
        }
        defer { freeaddrinfo(address) }
        let descriptor = raised(socket(address.pointee.ai_family, address.pointee.ai_socktype | Int32(SOCK_CLOEXEC.rawValue), 0))
        guard descriptor >= 0 else { throw PoolError(errno: errno, "cannot make a socket") }
        var on: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
        // Accepted connections inherit it: an answer's last segment must not wait for an acknowledgement.
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
        // And a kept connection's peer may vanish without a word.
        setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, socklen_t(MemoryLayout<Int32>.size))
        guard bind(descriptor, address.pointee.ai_addr, address.pointee.ai_addrlen) == 0, listen(descriptor, backlog) == 0 else {
            let code = errno
            close(descriptor)
            throw PoolError(errno: code, "pool \(pool.name): cannot listen on \(pool.socket)")
        }
        return descriptor
    }
}
