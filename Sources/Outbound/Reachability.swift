// Which address of a target a connection would go to. Nothing is sent: a connection is opened and closed again.
import Glibc
package import HTTP

extension EgressRule {
    /// The address to use for a target right now: of several the first that takes a connection, in the order in which the machine would try
    /// them; where none does an IPv4 one, which most machines have. All of them are judged. Blocks for some seconds at most, beside the look-up.
    /// - Throws: `forbidden` when one of them is refused, `unreachable` without any.
    package func address(of target: Target) throws(OutboundError) -> CIDR {
        let found = try addresses(of: target)
        let reached = found.count == 1 ? found[0] : found.prefix(4).first { Self.accepts($0, target.port) }
        return reached ?? found.first { $0.isIPv4 } ?? found[0]
    }

    private static func accepts(_ address: CIDR, _ port: Int) -> Bool {
        let descriptor = socket(
            address.isIPv4 ? AF_INET : AF_INET6, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        let started: Int32
        if address.isIPv4 {
            var place = sockaddr_in()
            place.sin_family = sa_family_t(AF_INET)
            place.sin_port = UInt16(port).bigEndian
            withUnsafeMutableBytes(of: &place.sin_addr) { $0.copyBytes(from: address.address) }
            started = connect(descriptor, to: &place)
        } else {
            var place = sockaddr_in6()
            place.sin6_family = sa_family_t(AF_INET6)
            place.sin6_port = UInt16(port).bigEndian
            withUnsafeMutableBytes(of: &place.sin6_addr) { $0.copyBytes(from: address.address) }
            started = connect(descriptor, to: &place)
        }
        if started == 0 { return true }
        guard errno == EINPROGRESS else { return false }
        var event = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        guard poll(&event, 1, 1000) == 1 else { return false }
        var failure: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        return getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &failure, &size) == 0 && failure == 0
    }

    private static func connect<Address>(_ descriptor: Int32, to address: inout Address) -> Int32 {
        withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<Address>.size))
            }
        }
    }
}
