// The text of every key that is shown once: prefix, 27 base62 letters (160.7 random bits), and 6 letters of CRC-32 over all before.
// The checksum finds typos without asking a database and tells scanners a real key; it is no secret and proves nothing.

package enum KeyText {
    private static let letters = Array("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".utf8)
    private static let randomCount = 27
    private static let checksumCount = 6

    /// A new key: `prefix` and 33 letters of `0–9A–Za–z`.
    package static func make(prefix: String) -> String {
        var text = Array(prefix.utf8)
        let end = text.count + randomCount
        while text.count < end {
            // 248 is the largest multiple of 62 in a byte: above it, the letters would not be equally likely.
            for byte in Random.bytes(end - text.count) where byte < 248 { text.append(letters[Int(byte % 62)]) }
        }
        text.append(contentsOf: checksum(of: text))
        return String(decoding: text, as: UTF8.self)
    }

    /// Whether `make(prefix:)` could have made the text.
    package static func isWellFormed(_ text: String, prefix: String) -> Bool {
        let bytes = Array(text.utf8)
        guard bytes.count == prefix.utf8.count + randomCount + checksumCount, bytes.starts(with: prefix.utf8) else { return false }
        guard bytes.dropFirst(prefix.utf8.count).allSatisfy(isLetter) else { return false }
        return bytes.suffix(checksumCount).elementsEqual(checksum(of: bytes.dropLast(checksumCount)))
    }

    /// What is stored of a key, and looked up by: SHA-256. 160 random bits need no slow hash.
    package static func digest(_ text: String) -> [UInt8] { SHA256.digest(text) }

    /// What lists may show of a key: its prefix and the first 4 random letters; empty for a text that is too short to be one.
    package static func displayPrefix(_ text: String) -> String { String(text.dropLast(randomCount + checksumCount - 4)) }

    private static func checksum(of bytes: some Sequence<UInt8>) -> [UInt8] {
        var rest = Int(CRC32.of(bytes))
        var text = [UInt8](repeating: letters[0], count: checksumCount)
        for index in text.indices.reversed() {
            text[index] = letters[rest % 62]
            rest /= 62
        }
        return text
    }

    private static func isLetter(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"): true
        default: false
        }
    }
}

/// CRC-32 as zlib and Ethernet compute it (polynomial 0xEDB88320, reflected).
enum CRC32 {
    private static let table: [UInt32] = (0..<256).map { index in
        (0..<8).reduce(UInt32(index)) { value, _ in value & 1 == 1 ? 0xEDB8_8320 ^ value >> 1 : value >> 1 }
    }

    static func of(_ bytes: some Sequence<UInt8>) -> UInt32 {
        ~bytes.reduce(~UInt32(0)) { value, byte in table[Int((value ^ UInt32(byte)) & 0xFF)] ^ value >> 8 }
    }
}
