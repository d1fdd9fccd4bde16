// Base64 without padding, in both alphabets (RFC 4648 §4 and §5).
// Reading is strict: padding, line ends and stray trailing bits are refused, so a value has exactly one text and tokens can't be varied.

package enum Base64: Sendable {
    /// `A–Z a–z 0–9 + /`, as in PHC strings.
    case standard
    /// `A–Z a–z 0–9 - _`, as in JWTs and URLs.
    case url

    private static let standardLetters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    private static let urlLetters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
    private static let standardValues = values(of: standardLetters)
    private static let urlValues = values(of: urlLetters)

    /// The text of the bytes, no padding.
    package func encode(_ bytes: [UInt8]) -> String {
        let letters = self == .url ? Self.urlLetters : Self.standardLetters
        var out: [UInt8] = []
        out.reserveCapacity((bytes.count * 4 + 2) / 3)
        var bits: UInt32 = 0
        var held = 0
        for byte in bytes {
            bits = bits << 8 | UInt32(byte)
            held += 8
            while held >= 6 {
                held -= 6
                out.append(letters[Int(bits >> UInt32(held) & 63)])
            }
        }
        if held > 0 { out.append(letters[Int(bits << UInt32(6 - held) & 63)]) }
        return String(decoding: out, as: UTF8.self)
    }

    /// The text with its padding, as MIME and most of the world have it.
    package func padded(_ bytes: [UInt8]) -> String { encode(bytes) + String(repeating: "=", count: (3 - bytes.count % 3) % 3) }

    /// The bytes of a text that `encode` could have made; `nil` for any other.
    package func decode(_ text: some StringProtocol) -> [UInt8]? {
        let values = self == .url ? Self.urlValues : Self.standardValues
        var out: [UInt8] = []
        out.reserveCapacity(text.utf8.count * 3 / 4)
        var bits: UInt32 = 0
        var held = 0
        for letter in text.utf8 {
            let value = values[Int(letter)]
            guard value < 64 else { return nil }
            bits = bits << 6 | UInt32(value)
            held += 6
            if held >= 8 {
                held -= 8
                out.append(UInt8(truncatingIfNeeded: bits >> UInt32(held)))
            }
        }
        guard held < 6, bits & (1 << UInt32(held) - 1) == 0 else { return nil }
        return out
    }

    private static func values(of letters: [UInt8]) -> [UInt8] {
        var values = [UInt8](repeating: 255, count: 256)
        for (value, letter) in letters.enumerated() { values[Int(letter)] = UInt8(value) }
        return values
    }
}
