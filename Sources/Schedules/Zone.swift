// Time zones from the system's data (TZif files, RFC 9636), because FoundationEssentials knows none by name.
// Only offsets count here; what a zone calls them does not. After the last transition of a file its POSIX rule goes on for ever.
import FoundationEssentials
import Synchronization

package struct Zone: Sendable {
    /// A change of the offset from UTC; seconds.
    struct Change: Equatable {
        let at: Int
        let before: Int
        let after: Int
    }

    private let changes: [Change]
    private let initial: Int
    private let rule: PosixRule?

    /// A time without a change: what it begins and ends with, and its offset in seconds.
    struct Stretch {
        let start: Change?
        let offset: Int
        let end: Change?
    }

    /// The stretch that a second lies in.
    func stretch(at second: Int) -> Stretch {
        if let rule, second >= changes.last?.at ?? .min {
            let stretch = rule.stretch(at: second)
            guard let last = changes.last, stretch.start.map({ $0.at < last.at }) ?? true else { return stretch }
            return Stretch(start: last, offset: stretch.offset, end: stretch.end)
        }
        var (low, high) = (0, changes.count)
        while low < high {
            let middle = (low + high) / 2
            if changes[middle].at <= second { low = middle + 1 } else { high = middle }
        }
        let start = low > 0 ? changes[low - 1] : nil
        return Stretch(start: start, offset: start?.after ?? initial, end: low < changes.count ? changes[low] : nil)
    }

    // MARK: - By name

    private static let folder = "/usr/share/zoneinfo"
    /// How long a file is not looked at again, so that an update of the system's data takes effect.
    private static let memory = Duration.seconds(600)
    private static let known = Mutex<[String: (zone: Zone, since: ContinuousClock.Instant)]>([:])

    /// The zone of an IANA name, in its exact spelling; `nil` where the system has none.
    package static func named(_ name: String) -> Zone? {
        let now = ContinuousClock.now
        if let present = known.withLock({ $0[name] }), now - present.since < memory { return present.zone }
        guard isName(name) else { return nil }
        guard let data = try? Data(contentsOf: URL(filePath: "\(folder)/\(name)")), let zone = Zone(tzif: Array(data)) else { return nil }
        known.withLock { $0[name] = (zone, now) }
        return zone
    }

    /// Letters, digits, `_`, `+`, `-`, in up to three parts; no part can climb or hide. What the folder holds beside zones is no zone;
    /// those below `right` count leap seconds.
    private static func isName(_ name: String) -> Bool {
        guard name.utf8.count <= 64, name.wholeMatch(of: /[A-Za-z][A-Za-z0-9_+\-]*(\/[A-Za-z][A-Za-z0-9_+\-]*){0,2}/) != nil else {
            return false
        }
        return !["posix/", "right/"].contains(where: name.hasPrefix) && !["posixrules", "localtime", "Factory"].contains(name)
    }
}

extension Zone {
    /// - Returns: `nil` for what is no TZif file of version 2 or newer.
    init?(tzif bytes: [UInt8]) {
        var reader = Reader(bytes: bytes)
        // The first block has 32-bit times: it is skipped.
        guard let old = reader.header(), old.version >= 2, reader.skip(old.size(timeSize: 4)), let header = reader.header() else {
            return nil
        }
        var times: [Int] = []
        for _ in 0..<header.times {
            guard let time = reader.integer(8) else { return nil }
            times.append(time)
        }
        var indexes: [Int] = []
        for _ in 0..<header.times {
            guard let index = reader.integer(1), (0..<header.types).contains(index & 0xFF) else { return nil }
            indexes.append(index & 0xFF)
        }
        var offsets: [Int] = []
        for _ in 0..<header.types {
            guard let offset = reader.integer(4), reader.skip(2) else { return nil }
            offsets.append(offset)
        }
        guard !offsets.isEmpty, header.leaps == 0, reader.skip(header.letters + header.standards + header.universals) else { return nil }
        initial = offsets[0]
        var (changes, present): ([Change], Int) = ([], offsets[0])
        for (time, index) in zip(times, indexes) where offsets[index] != present {
            changes.append(Change(at: time, before: present, after: offsets[index]))
            present = offsets[index]
        }
        self.changes = changes
        guard let footer = reader.footer() else { return nil }
        if footer.isEmpty {
            rule = nil
        } else {
            guard let parsed = PosixRule(footer) else { return nil }
            rule = parsed
        }
    }

    private struct Header {
        let version: Int
        let universals, standards, leaps, times, types, letters: Int

        func size(timeSize: Int) -> Int {
            times * (timeSize + 1) + types * 6 + letters + leaps * (timeSize + 4) + standards + universals
        }
    }

    private struct Reader {
        let bytes: [UInt8]
        var position = 0

        init(bytes: [UInt8]) { self.bytes = bytes }

        mutating func skip(_ count: Int) -> Bool {
            guard count >= 0, bytes.count - position >= count else { return false }
            position += count
            return true
        }

        /// Big-endian, signed.
        mutating func integer(_ count: Int) -> Int? {
            guard bytes.count - position >= count else { return nil }
            defer { position += count }
            let first = Int(Int8(bitPattern: bytes[position]))
            return bytes[(position + 1)..<(position + count)].reduce(first) { $0 << 8 | Int($1) }
        }

        mutating func header() -> Header? {
            guard bytes.count - position >= 44, Array(bytes[position..<(position + 4)]) == Array("TZif".utf8) else { return nil }
            let version = Int(bytes[position + 4]) - 0x30
            position += 20
            var counts: [Int] = []
            while counts.count < 6, let count = integer(4), (0...1_000_000).contains(count) { counts.append(count) }
            guard counts.count == 6 else { return nil }
            return Header(
                version: version, universals: counts[0], standards: counts[1], leaps: counts[2], times: counts[3], types: counts[4],
                letters: counts[5])
        }

        /// What stands between the two line feeds at the end.
        func footer() -> String? {
            guard position < bytes.count, bytes[position] == 0x0A, let end = bytes[(position + 1)...].firstIndex(of: 0x0A) else {
                return nil
            }
            return String(decoding: bytes[(position + 1)..<end], as: UTF8.self)
        }
    }
}
