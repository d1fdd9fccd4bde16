// Object ids: UUID version 7 (RFC 9562 §5.7), lower case. They sort by time of creation, so "newest first" is "by id, descending".

package struct ID: Hashable, Sendable, Comparable {
    /// The first and the last eight bytes, big-endian.
    package let high: UInt64
    package let low: UInt64

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// Any UUID, in either case; `nil` for anything else.
    package init?(_ text: String) {
        guard text.utf8.count == 36 else { return nil }
        var halves: (high: UInt64, low: UInt64) = (0, 0)
        var digits = 0
        for (index, byte) in text.utf8.enumerated() {
            if index == 8 || index == 13 || index == 18 || index == 23 {
                guard byte == UInt8(ascii: "-") else { return nil }
                continue
            }
            let digit: UInt8
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = byte - UInt8(ascii: "A") + 10
            default: return nil
            }
            if digits < 16 { halves.high = halves.high << 4 | UInt64(digit) } else { halves.low = halves.low << 4 | UInt64(digit) }
            digits += 1
        }
        self.init(high: halves.high, low: halves.low)
    }

    /// A new id.
    package init(at time: Timestamp) {
        var generator = SystemRandomNumberGenerator()
        high = UInt64(time.microseconds / 1000) << 16 | 0x7000 | UInt64.random(in: 0..<0x1000, using: &generator)
        low = UInt64.random(in: .min ... .max, using: &generator) & (1 << 62 - 1) | 1 << 63
    }

    /// The least and the greatest id that can be made within a millisecond: bounds for what was made in a time.
    package static func least(at time: Timestamp) -> ID { ID(high: UInt64(max(time.microseconds, 0) / 1000) << 16 | 0x7000, low: 1 << 63) }
    package static func greatest(at time: Timestamp) -> ID {
        ID(high: UInt64(max(time.microseconds, 0) / 1000) << 16 | 0x7FFF, low: 1 << 63 | (1 << 62 - 1))
    }

    package static func < (left: ID, right: ID) -> Bool { (left.high, left.low) < (right.high, right.low) }
}

extension ID: CustomStringConvertible {
    static let textLength = 36

    /// 36 characters, lower case.
    package var description: String {
        String(unsafeUninitializedCapacity: Self.textLength) { buffer in
            write(to: buffer)
            return Self.textLength
        }
    }

    /// - Parameter buffer: at least 36 bytes.
    func write(to buffer: UnsafeMutableBufferPointer<UInt8>) {
        var position = 0
        for nibble in 0..<32 {
            if nibble == 8 || nibble == 12 || nibble == 16 || nibble == 20 {
                buffer[position] = UInt8(ascii: "-")
                position += 1
            }
            let digit = UInt8(truncatingIfNeeded: (nibble < 16 ? high : low) >> UInt64((15 - nibble % 16) * 4)) & 15
            buffer[position] = digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
            position += 1
        }
    }
}
