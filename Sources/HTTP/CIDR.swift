// Address blocks in CIDR notation (RFC 4632, RFC 4291 §2.3), both families.
import Glibc

package struct CIDR: Hashable, Sendable, CustomStringConvertible {
    /// 4 or 16 bytes, host bits zero.
    package let address: [UInt8]
    package let prefixLength: Int

    /// `10.0.0.0/8`, `2001:db8::/32`, or one address alone; `nil` for anything else, and where host bits are set.
    package init?(_ text: String) {
        let halves = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let address = Self.parse(String(halves[0])) else { return nil }
        let width = address.count * 8
        guard let length = halves.count == 1 ? width : Int(halves[1]), (0...width).contains(length) else { return nil }
        self.address = address
        prefixLength = length
        let isCanonical = address.indices.allSatisfy { address[$0] & ~mask(at: $0) == 0 }
        guard isCanonical else { return nil }
    }

    /// One address alone; `nil` for anything but 4 or 16 bytes.
    package init?(address: [UInt8]) {
        guard [4, 16].contains(address.count) else { return nil }
        self.address = address
        prefixLength = address.count * 8
    }

    package var description: String { addressText + "/\(prefixLength)" }

    /// The (first) address without the length.
    package var addressText: String {
        var bytes = address
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        inet_ntop(address.count == 4 ? AF_INET : AF_INET6, &bytes, &text, socklen_t(text.count))
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// An address of an IPv4 block, counted from its first, which is 0.
    package func address(_ number: Int) -> String {
        let value = address.reduce(0) { $0 << 8 | Int($1) } + number
        return [24, 16, 8, 0].map { String(value >> $0 & 255) }.joined(separator: ".")
    }

    package var isIPv4: Bool { address.count == 4 }

    /// Whether every address of the other block is in this one.
    package func contains(_ other: CIDR) -> Bool {
        guard other.address.count == address.count, other.prefixLength >= prefixLength else { return false }
        return address.indices.allSatisfy { other.address[$0] & mask(at: $0) == address[$0] }
    }

    private func mask(at index: Int) -> UInt8 {
        let bits = min(max(prefixLength - index * 8, 0), 8)
        return bits == 0 ? 0 : UInt8.max << UInt8(8 - bits)
    }

    private static func parse(_ text: String) -> [UInt8]? {
        var four = [UInt8](repeating: 0, count: 4)
        if inet_pton(AF_INET, text, &four) == 1 { return four }
        var sixteen = [UInt8](repeating: 0, count: 16)
        return inet_pton(AF_INET6, text, &sixteen) == 1 ? sixteen : nil
    }
}

extension Rule where Value == CIDR {
    package static let cidr = Rule("must be an address block such as 192.0.2.0/24, without host bits") { json in
        json.string.flatMap(CIDR.init)
    }
}
