// The egress rule: where URLs that users choose may lead. A name is resolved here, every address is judged, and the connection is made to a
// judged address only: libcurl asks for each socket (Exchange), so neither a second look-up nor its own reading of the URL can lead elsewhere.
import Glibc
package import HTTP

package struct EgressRule: Sendable {
    /// Looks up all addresses of a name; empty where there is none. Blocks.
    package typealias Resolver = @Sendable (_ name: String) -> [CIDR]

    /// Blocks that are open although they are not public.
    package let allow: [CIDR]
    private let resolve: Resolver

    package init(allow: [CIDR] = [], resolve: @escaping Resolver = EgressRule.system) {
        self.allow = allow
        self.resolve = resolve
    }

    /// What `TARGET_FORBIDDEN` says; completes "url …". It names no address: that would tell strangers how a name resolves in here.
    package static let refusal = "must not lead to a loopback, private, link-local, multicast or otherwise reserved address"

    /// Whether a target is allowed as far as its text tells; a name always is.
    package func admits(_ target: Target) -> Bool {
        switch target.host {
        case .name: true
        case .address(let address): admits(address)
        }
    }

    /// The addresses that a target may be reached at, right now.
    /// - Throws: `forbidden` when one of them is refused, `unreachable` without any.
    package func addresses(of target: Target) throws(OutboundError) -> [CIDR] {
        let found: [CIDR] =
            switch target.host {
            case .name(let name): resolve(name)
            case .address(let address): [address]
            }
        guard !found.isEmpty else { throw .unreachable("Could not resolve host: \(target.hostText)") }
        guard found.allSatisfy(admits) else { throw .forbidden }
        return found
    }

    /// Whether one address may be connected to.
    package func admits(_ address: CIDR) -> Bool {
        let address = Self.canonical(address)
        if allow.contains(where: { $0.contains(address) }) { return true }
        if address.isIPv4 { return !Self.special4.contains { $0.contains(address) } }
        guard Self.global6.contains(address), !Self.special6.contains(where: { $0.contains(address) }) else {
            // NAT64 leads to the IPv4 address in its last bytes.
            return Self.nat64.contains(address) && CIDR(address: Array(address.address[12...])).map(admits) == true
        }
        // 6to4 leads to the IPv4 address behind its prefix.
        guard Self.sixToFour.contains(address) else { return true }
        return CIDR(address: Array(address.address[2..<6])).map(admits) == true
    }

    /// An IPv4-mapped address (`::ffff:127.0.0.1`) is connected to as IPv4.
    static func canonical(_ address: CIDR) -> CIDR {
        guard mapped.contains(address), address.prefixLength == 128 else { return address }
        return CIDR(address: Array(address.address[12...])) ?? address
    }

    private static func blocks(_ texts: String...) -> [CIDR] {
        texts.map { text in
            guard let block = CIDR(text) else { preconditionFailure("\(text) is no block") }
            return block
        }
    }

    /// Not globally reachable (IANA IPv4 Special-Purpose Address Registry), multicast, and Azure's metadata service, which hides among public ones.
    private static let special4 = blocks(
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
        "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32")

    /// All that is global today; loopback, unique local, link-local and multicast addresses lie outside.
    private static let global6 = blocks("2000::/3")[0]
    /// Teredo and other protocol assignments, documentation.
    private static let special6 = blocks("2001::/23", "2001:db8::/32", "3fff::/20")
    private static let sixToFour = blocks("2002::/16")[0]
    private static let nat64 = blocks("64:ff9b::/96")[0]
    private static let mapped = blocks("::ffff:0:0/96")[0]

    /// The machine's own way of resolving names.
    package static let system: Resolver = { name in
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(name, nil, &hints, &list) == 0 else { return [] }
        defer { freeaddrinfo(list) }
        var found: [CIDR] = []
        var next = list
        while let entry = next {
            if let address = CIDR(socketAddress: entry.pointee.ai_addr), !found.contains(address) { found.append(address) }
            next = entry.pointee.ai_next
        }
        return found
    }
}

extension CIDR {
    /// The address of an IPv4 or IPv6 socket address; IPv4-mapped ones as IPv4.
    init?(socketAddress pointer: UnsafeRawPointer?) {
        guard let pointer else { return nil }
        let bytes: [UInt8]
        switch Int32(pointer.loadUnaligned(as: sa_family_t.self)) {
        case AF_INET: bytes = withUnsafeBytes(of: pointer.loadUnaligned(as: sockaddr_in.self).sin_addr, Array.init)
        case AF_INET6: bytes = withUnsafeBytes(of: pointer.loadUnaligned(as: sockaddr_in6.self).sin6_addr, Array.init)
        default: return nil
        }
        guard let address = CIDR(address: bytes) else { return nil }
        self = EgressRule.canonical(address)
    }
}
