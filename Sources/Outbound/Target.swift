// A URL that somebody else chose for us to call, taken apart by a grammar narrower than anybody's parser, so that no two readers of it
// can disagree about its host. Static only: whether a name leads somewhere allowed is judged when it is called (Egress.swift).
package import HTTP

package struct Target: Sendable, Equatable {
    package enum Host: Sendable, Equatable {
        case name(String)
        /// A literal address; IPv4-mapped ones as IPv4.
        case address(CIDR)
    }

    /// As it was given.
    package let url: String
    package let host: Host
    package let port: Int
    /// The host as it stands in the URL, brackets of IPv6 left out.
    package let hostText: String
    package let isSecure: Bool
    /// What follows host and port, as it stands in the URL: path, query, fragment.
    package let rest: String

    /// Longest URL in bytes.
    package static let limit = 2048

    /// Completes "url …" for whoever chose it.
    package struct Malformed: Error, Equatable, CustomStringConvertible {
        package let description: String
        init(_ description: String) { self.description = description }
    }

    /// - Throws: what the text must be.
    package init(_ text: String) throws(Malformed) {
        let bytes = Array(text.utf8)
        guard bytes.count <= Self.limit else { throw Malformed("must have at most \(Self.limit) bytes") }
        guard bytes.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\\") }) else {
            throw Malformed("must not have blanks, control characters, backslashes or letters beyond ASCII")
        }
        isSecure = text.lowercased().hasPrefix("https://")
        guard isSecure || text.lowercased().hasPrefix("http://") else { throw Malformed("must be an absolute http or https URL") }
        let authority = text.dropFirst(isSecure ? 8 : 7).prefix { !"/?#".contains($0) }
        guard !authority.contains("@") else { throw Malformed("must not carry a user name or password") }
        (hostText, port) = try Self.split(authority, isSecure ? 443 : 80)
        host = try Self.host(hostText, isBracketed: authority.hasPrefix("["))
        rest = String(text.dropFirst((isSecure ? 8 : 7) + authority.count))
        url = text
    }

    /// What stands in `Host`: without the port where it is the scheme's own.
    package var authority: String {
        let name = hostText.contains(":") ? "[\(hostText)]" : hostText
        return port == (isSecure ? 443 : 80) ? name : "\(name):\(port)"
    }

    private static func split(_ authority: Substring, _ usual: Int) throws(Malformed) -> (String, Int) {
        let name: Substring
        let rest: Substring
        if authority.hasPrefix("[") {
            guard let end = authority.firstIndex(of: "]") else { throw Malformed("must have a host") }
            name = authority[..<end].dropFirst()
            rest = authority[end...].dropFirst()
        } else {
            name = authority.prefix { $0 != ":" }
            rest = authority.dropFirst(name.count)
        }
        guard !rest.isEmpty else { return (String(name), usual) }
        let digits = rest.dropFirst()
        guard rest.hasPrefix(":"), (1...5).contains(digits.count), digits.allSatisfy(\.isWholeNumber), let port = Int(digits),
            (1...65535).contains(port)
        else { throw Malformed("must have a port from 1 to 65535, or none") }
        return (String(name), port)
    }

    private static func host(_ text: String, isBracketed: Bool) throws(Malformed) -> Host {
        if isBracketed {
            // A zone (`%eth0`) is no part of an address.
            guard text.contains(":"), !text.contains("/"), let address = CIDR(text) else { throw Malformed("must have a legal host") }
            return .address(EgressRule.canonical(address))
        }
        let labels = (text.hasSuffix(".") ? text.dropLast() : Substring(text)).split(separator: ".", omittingEmptySubsequences: false)
        let isLegal = labels.allSatisfy { label in
            (1...63).contains(label.utf8.count) && !label.hasPrefix("-") && !label.hasSuffix("-") && label.utf8.allSatisfy(isNameByte)
        }
        guard isLegal, text.utf8.count <= 254, let last = labels.last else { throw Malformed("must have a legal host") }
        guard last.allSatisfy(\.isWholeNumber) || last.lowercased().hasPrefix("0x") else { return .name(text) }
        guard let address = CIDR(text), address.isIPv4 else {
            throw Malformed("must write an IPv4 address as four decimal numbers without leading zeros, such as 192.0.2.1")
        }
        return .address(address)
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "-"), UInt8(ascii: "_"):
            true
        default: false
        }
    }
}
