// Object ids: UUID version 7 (RFC 9562 §5.7), lower case. They sort by time of creation, so "newest first" is "by id, descending".

package struct ID: Hashable, Sendable, CustomStringConvertible, Comparable {
    /// 36 characters, lower case.
    package let description: String

    /// Any UUID, in either case; `nil` for anything else.
    package init?(_ text: String) {
        let bytes = Array(text.utf8)
        guard bytes.count == 36 else { return nil }
        for (index, byte) in bytes.enumerated() {
            let isHyphen = index == 8 || index == 13 || index == 18 || index == 23
            guard isHyphen ? byte == UInt8(ascii: "-") : Character(Unicode.Scalar(byte)).isHexDigit && byte < 0x80 else { return nil }
        }
        description = text.lowercased()
    }

    /// A new id.
    package init(at time: Timestamp) {
        var generator = SystemRandomNumberGenerator()
        let high = UInt64(time.microseconds / 1000) << 16 | 0x7000 | UInt64.random(in: 0..<0x1000, using: &generator)
        let low = UInt64.random(in: .min ... .max, using: &generator) & (1 << 62 - 1) | 1 << 63
        self.init(high: high, low: low)
    }

    /// - Parameters: the first and the last eight bytes, big-endian.
    package init(high: UInt64, low: UInt64) {
        let digits = Array("0123456789abcdef".utf8)
        description = String(unsafeUninitializedCapacity: 36) { buffer in
            var position = 0
            for nibble in 0..<32 {
                if nibble == 8 || nibble == 12 || nibble == 16 || nibble == 20 {
                    buffer[position] = UInt8(ascii: "-")
                    position += 1
                }
                let half = nibble < 16 ? high : low
                buffer[position] = digits[Int(half >> UInt64((15 - nibble % 16) * 4) & 15)]
                position += 1
            }
            return position
        }
    }

    package static func < (left: ID, right: ID) -> Bool { left.description < right.description }
}
