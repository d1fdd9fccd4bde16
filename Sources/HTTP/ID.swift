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
            write(to: UnsafeMutableRawPointer(buffer.baseAddress!))
            return Self.textLength
        }
    }

    /// - Parameter text: room for 36 bytes.
    func write(to text: UnsafeMutableRawPointer) {
        let parts = (
            hex(UInt32(high >> 32)), hex(UInt32(truncatingIfNeeded: high)), hex(UInt32(low >> 32)), hex(UInt32(truncatingIfNeeded: low))
        )
        let dash = UInt8(ascii: "-")
        text.storeBytes(of: parts.0, as: UInt64.self)
        text.storeBytes(of: dash, toByteOffset: 8, as: UInt8.self)
        text.storeBytes(of: UInt32(truncatingIfNeeded: parts.1), toByteOffset: 9, as: UInt32.self)
        text.storeBytes(of: dash, toByteOffset: 13, as: UInt8.self)
        text.storeBytes(of: UInt32(parts.1 >> 32), toByteOffset: 14, as: UInt32.self)
        text.storeBytes(of: dash, toByteOffset: 18, as: UInt8.self)
        text.storeBytes(of: UInt32(truncatingIfNeeded: parts.2), toByteOffset: 19, as: UInt32.self)
        text.storeBytes(of: dash, toByteOffset: 23, as: UInt8.self)
        text.storeBytes(of: UInt32(parts.2 >> 32), toByteOffset: 24, as: UInt32.self)
        text.storeBytes(of: parts.3, toByteOffset: 28, as: UInt64.self)
    }
}

/// Eight hexadecimal digits, as they lie in memory: all eight are computed at once, a byte for each.
private func hex(_ number: UInt32) -> UInt64 {
    var digits = UInt64(number)
    digits = (digits & 0xFFFF_0000) << 16 | digits & 0xFFFF
    digits = (digits & 0x0000_FF00_0000_FF00) << 8 | digits & 0x0000_00FF_0000_00FF
    digits = (digits & 0x00F0_00F0_00F0_00F0) << 4 | digits & 0x000F_000F_000F_000F
    let letters = (digits + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101
    // From "9" to "a" there are 39 letters between.
    return (digits + 0x3030_3030_3030_3030 + letters * 39).bigEndian
}
