// A moment in UTC to the microsecond, as PostgreSQL keeps it, printed by RFC 3339 with `Z`.
// The calendar is computed here: lists print many of these, and Foundation's formatter costs more than the rest of the row.
import FoundationEssentials
import Glibc

package struct Timestamp: Hashable, Comparable, Sendable {
    /// Unix time in microseconds.
    package let microseconds: Int

    package init(microseconds: Int) { self.microseconds = microseconds }

    /// - Parameter text: any RFC 3339 date-time of the years 1970–9999, with `Z` or an offset; `nil` for anything else.
    package init?(rfc3339 text: String) {
        // Foundation alone takes 30 February, 25 o'clock and letters behind the end.
        let form = /[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])/
        let day = text.prefix(10)
        guard text.wholeMatch(of: form) != nil, let midnight = try? Date.ISO8601FormatStyle().parse(day + "T00:00:00Z"),
            Timestamp(microseconds: Int(midnight.timeIntervalSince1970) * 1_000_000).description.hasPrefix(day)
        else { return nil }
        let style = Date.ISO8601FormatStyle(includingFractionalSeconds: text.contains("."))
        guard let date = try? style.parse(text) else { return nil }
        microseconds = Int((date.timeIntervalSince1970 * 1_000_000).rounded())
        guard (0..<253_402_300_800_000_000).contains(microseconds) else { return nil }
    }

    /// The system's clock.
    package static func now() -> Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(microseconds: time.tv_sec * 1_000_000 + time.tv_nsec / 1000)
    }

    package func advanced(seconds: Int) -> Timestamp { Timestamp(microseconds: microseconds + seconds * 1_000_000) }

    package static func < (left: Timestamp, right: Timestamp) -> Bool { left.microseconds < right.microseconds }
}

extension Timestamp: CustomStringConvertible {
    /// `2026-01-05T23:00:00.123456Z`.
    package var description: String {
        String(unsafeUninitializedCapacity: Self.textLength) { buffer in
            write(to: UnsafeMutableRawPointer(buffer.baseAddress!))
            return Self.textLength
        }
    }

    static let textLength = 27

    /// - Parameter text: room for 27 bytes.
    func write(to text: UnsafeMutableRawPointer) {
        let (days, time) = microseconds.quotientAndFloorRemainder(by: 86_400_000_000)
        let (year, month, day) = Self.civil(days: days)
        let (seconds, fraction) = (time / 1_000_000, time % 1_000_000)
        func put(_ number: Int, at offset: Int) {
            let digits = UInt16(truncatingIfNeeded: number / 10 | (number % 10) << 8) &+ 0x3030
            text.storeBytes(of: digits.littleEndian, toByteOffset: offset, as: UInt16.self)
        }
        func mark(_ mark: Unicode.Scalar, at offset: Int) { text.storeBytes(of: UInt8(ascii: mark), toByteOffset: offset, as: UInt8.self) }
        put(year / 100 % 100, at: 0)
        put(year % 100, at: 2)
        mark("-", at: 4)
        put(month, at: 5)
        mark("-", at: 7)
        put(day, at: 8)
        mark("T", at: 10)
        put(seconds / 3600, at: 11)
        mark(":", at: 13)
        put(seconds / 60 % 60, at: 14)
        mark(":", at: 16)
        put(seconds % 60, at: 17)
        mark(".", at: 19)
        put(fraction / 10_000, at: 20)
        put(fraction / 100 % 100, at: 22)
        put(fraction % 100, at: 24)
        mark("Z", at: 26)
    }

    /// The proleptic Gregorian date of a day, counted from 1970-01-01 (algorithm: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    private static func civil(days: Int) -> (year: Int, month: Int, day: Int) {
        // Years start in March here, so that the leap day is the last of its year; eras have 400 years.
        let (era, dayOfEra) = (days + 719_468).quotientAndFloorRemainder(by: 146_097)
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shifted = (5 * dayOfYear + 2) / 153
        let month = shifted < 10 ? shifted + 3 : shifted - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shifted + 2) / 5 + 1)
    }
}

extension Int {
    fileprivate func quotientAndFloorRemainder(by divisor: Int) -> (Int, Int) {
        let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
    }
}
