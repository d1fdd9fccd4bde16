// Zip files as tests want them, the impossible ones included (APPNOTE.TXT §4.3): what is written is what was asked for, and nothing is judged.

package struct ZipMaker {
    package struct Entry {
        package var path: String
        /// As they stand in the archive.
        package var packed: [UInt8]
        /// 0: stored; 8: deflated.
        package var method: UInt16 = 0
        package var checksum: UInt32
        package var size: Int
        /// Unix file type and permissions.
        package var mode: UInt32 = 0o100644
        package var flags: UInt16 = 0

        package init(_ path: String, _ bytes: [UInt8]) {
            self.path = path
            packed = bytes
            size = bytes.count
            checksum = ZipMaker.checksum(bytes)
        }
    }

    package var entries: [Entry] = []

    package init(_ files: KeyValuePairs<String, String> = [:]) { entries = files.map { Entry($0.key, Array($0.value.utf8)) } }

    package mutating func add(_ path: String, _ text: String = "", _ change: (inout Entry) -> Void = { _ in }) {
        var entry = Entry(path, Array(text.utf8))
        change(&entry)
        entries.append(entry)
    }

    /// A file of so many zeros, deflated to a hundred-and-fiftieth.
    package mutating func addZeros(_ path: String, count: Int) {
        var entry = Entry(path, [UInt8](repeating: 0, count: count))
        entry.method = 8
        entry.packed = Self.deflatedZeros(count)
        entries.append(entry)
    }

    package var bytes: [UInt8] {
        var out: [UInt8] = []
        var directory: [UInt8] = []
        for entry in entries {
            let name = Array(entry.path.utf8)
            var common = word(20) + word(entry.flags) + word(entry.method) + long(0)
            common +=
                long(entry.checksum) + long(UInt32(entry.packed.count)) + long(UInt32(entry.size)) + word(UInt16(name.count)) + word(0)
            directory += [0x50, 0x4B, 1, 2] + word(0x031E) + common
            directory += word(0) + word(0) + word(0) + long(entry.mode << 16) + long(UInt32(out.count)) + name
            out += [0x50, 0x4B, 3, 4] + common + name + entry.packed
        }
        let count = word(UInt16(entries.count))
        var end: [UInt8] = [0x50, 0x4B, 5, 6] + long(0) + count + count
        end += long(UInt32(directory.count)) + long(UInt32(out.count)) + word(0)
        return out + directory + end
    }

    private func word(_ value: UInt16) -> [UInt8] { withUnsafeBytes(of: value.littleEndian, Array.init) }
    private func long(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value.littleEndian, Array.init) }

    /// CRC-32 (ISO 3309).
    static func checksum(_ bytes: [UInt8]) -> UInt32 {
        var value: UInt32 = ~0
        for byte in bytes { value = table[Int(UInt8(truncatingIfNeeded: value) ^ byte)] ^ value >> 8 }
        return ~value
    }

    private static let table: [UInt32] = (0..<256).map { index in
        var value = UInt32(index)
        for _ in 0..<8 { value = value & 1 == 1 ? 0xEDB8_8320 ^ (value >> 1) : value >> 1 }
        return value
    }

    /// One block with fixed codes (RFC 1951 §3.2.6): a zero, then "258 times what stood one byte before" as often as needed.
    private static func deflatedZeros(_ count: Int) -> [UInt8] {
        var (out, held, bits): ([UInt8], UInt32, UInt32) = ([], 0, 0)
        func put(_ value: UInt32, _ width: UInt32) {
            held |= value << bits
            bits += width
            while bits >= 8 {
                out.append(UInt8(truncatingIfNeeded: held))
                held >>= 8
                bits -= 8
            }
        }
        put(0b011, 3)
        let repeats = max(count - 1, 0) / 258
        // Codes go with their first bit first: a zero is 00110000, length 258 is 11000101, distance 1 is 00000, the end is 0000000.
        for _ in 0..<(count - repeats * 258) { put(0b0000_1100, 8) }
        for _ in 0..<repeats { put(0b1010_0011, 13) }
        put(0, 7)
        put(0, 7)
        return out
    }
}
