// The engine against brute force over two years: a walk through every minute of every zone, by the wall clock that full Foundation (ICU's
// data) shows, with the contract's rule told in its own words. Nothing of the engine's is used: fields are read anew, into sets.
import Foundation
import HTTP
import Testing

@testable import Schedules

struct OracleTests {
    private static let start = 1_767_225_600  // 2026-01-01T00:00:00Z
    private static let end = 1_830_297_600  // 2028-01-01T00:00:00Z

    /// A quarter of an hour; no clock changes within one.
    private struct Quarter {
        let at: Int
        /// Minutes of local time, counted from 1970.
        let local: Int
        let month, day, weekday, hour, minute: Int

        init(at: Int, local: Int, _ calendar: Calendar) {
            self.at = at
            self.local = local
            let shown = calendar.dateComponents(
                [.month, .day, .weekday, .hour, .minute], from: Date(timeIntervalSince1970: Double(local * 60)))
            (month, day, weekday) = (shown.month!, shown.day!, shown.weekday! - 1)
            (hour, minute) = (shown.hour!, shown.minute!)
        }
    }

    /// What the clock of a zone shows, quarter by quarter.
    private static func walk(_ name: String) throws -> [Quarter] {
        let zone = try #require(TimeZone(identifier: name))
        var plain = Calendar(identifier: .gregorian)
        plain.timeZone = try #require(TimeZone(secondsFromGMT: 0))
        return stride(from: start, to: end, by: 900).map { at in
            Quarter(at: at, local: (at + zone.secondsFromGMT(for: Date(timeIntervalSince1970: Double(at)))) / 60, plain)
        }
    }

    /// A schedule as sets of numbers.
    private struct Plain {
        let minutes, hours, days, months, weekdays: Set<Int>
        let isEither, isFlowing: Bool

        init(_ text: String) {
            let fields = text.split(separator: " ").map(String.init)
            func numbers(_ field: String, _ all: ClosedRange<Int>) -> Set<Int> {
                Set(
                    field.split(separator: ",").flatMap { item -> [Int] in
                        let halves = item.split(separator: "/")
                        let ends =
                            halves[0] == "*" ? [all.lowerBound, all.upperBound] : halves[0].split(separator: "-").compactMap { Int($0) }
                        return Array(stride(from: ends[0], through: ends[ends.count - 1], by: halves.count == 2 ? Int(halves[1])! : 1))
                    })
            }
            minutes = numbers(fields[0], 0...59)
            hours = numbers(fields[1], 0...23)
            days = numbers(fields[2], 1...31)
            months = numbers(fields[3], 1...12)
            weekdays = Set(numbers(fields[4], 0...6).map { $0 % 7 })
            isEither = !fields[2].hasPrefix("*") && !fields[4].hasPrefix("*")
            isFlowing = (fields[0] + fields[1]).contains { "*/".contains($0) }
        }

        func hasHour(_ quarter: Quarter) -> Bool {
            guard hours.contains(quarter.hour), months.contains(quarter.month) else { return false }
            let (day, weekday) = (days.contains(quarter.day), weekdays.contains(quarter.weekday))
            return isEither ? day || weekday : day && weekday
        }

        /// The due minutes, as seconds from 1970.
        func due(_ quarters: [Quarter], _ calendar: Calendar) -> [Int] {
            var (due, shown): ([Int], Int) = ([], quarters[0].local)
            for quarter in quarters {
                if !isFlowing {
                    // The clock goes on from `shown` through what it skips, and all of that is now.
                    var skipped = shown
                    while skipped < quarter.local {
                        let missing = Quarter(at: quarter.at, local: skipped, calendar)
                        if hasHour(missing), (missing.minute..<(missing.minute + 15)).contains(where: minutes.contains),
                            due.last != quarter.at
                        {
                            due.append(quarter.at)
                        }
                        skipped += 15
                    }
                    // What it has shown before counts no second time.
                    if quarter.local < shown { continue }
                    shown = quarter.local + 15
                }
                guard hasHour(quarter) else { continue }
                for minute in 0..<15 where minutes.contains(quarter.minute + minute) {
                    let at = quarter.at + minute * 60
                    if due.last != at { due.append(at) }
                }
            }
            return due
        }
    }

    /// The same at every run.
    private struct Dice: RandomNumberGenerator {
        var state: UInt64 = 20_261_124
        mutating func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state ^ state >> 29
        }
    }

    private static let schedules: [String] = {
        var dice = Dice()
        func field(_ all: ClosedRange<Int>, wild: Int) -> String {
            let (low, high) = (Int.random(in: all, using: &dice), Int.random(in: all, using: &dice))
            switch Int.random(in: 0..<10, using: &dice) {
            case 0..<wild: return "*"
            case 6: return "*/\(Int.random(in: 2...(all.upperBound), using: &dice))"
            case 7: return "\(min(low, high))-\(max(low, high))"
            case 8: return "\(min(low, high))-\(max(low, high))/\(Int.random(in: 1...5, using: &dice))"
            case 9: return "\(low),\(high)"
            default: return "\(low)"
            }
        }
        let drawn = (0..<36).map { _ in
            [field(0...59, wild: 1), field(0...23, wild: 2), field(1...31, wild: 5), field(1...12, wild: 5), field(0...6, wild: 5)]
                .joined(separator: " ")
        }
        return [
            "0 * * * *", "*/15 * * * *", "0 0 * * *", "30 1 * * *", "30 2 * * *", "0 2 * * *", "0 3 * * *", "15 2 * * *", "45 1 * * *",
            "0,30 1,2 * * *", "*/20 2 * * *", "10-50/10 1 * * *", "5 1-3 * * *", "0 */2 * * *", "0 1-23/3 * * *", "59 23 31 12 *",
            "0 0 29 2 *", "0 12 13 * 5", "0 2 * 3 0", "30 2 8-14 3 0", "15 1 * 10,11 0", "0 2 25-31 3,10 *", "7 4 1 1,7 *", "0-59 2 * * *",
        ] + drawn.filter { (try? CronSchedule($0)) != nil }
    }()

    @Test func thereAreEnough() { #expect(Self.schedules.count >= 55) }

    @Test(arguments: ["UTC", "America/New_York", "Europe/London", "Australia/Lord_Howe", "Asia/Kolkata"])
    func agreesWithEveryMinute(name: String) throws {
        let (quarters, zone) = (try Self.walk(name), try #require(Zone.named(name)))
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = try #require(TimeZone(secondsFromGMT: 0))
        var dice = Dice()
        for text in Self.schedules {
            let schedule = try CronSchedule(text)
            let due = Plain(text).due(quarters, calendar)
            // All of it where it is little, else from many places: around every change of the clocks, and anywhere.
            let changes = zip(quarters, quarters.dropFirst()).filter { $1.local - $0.local != 15 }.map(\.1.at)
            let places =
                due.count < 3000
                ? []
                : changes.flatMap { [$0 - 5400, $0 - 3600, $0 - 60, $0, $0 + 1800, $0 + 3600] }
                    + (0..<200).map { _ in Int.random(in: Self.start..<(Self.end - 100_000), using: &dice) }
            if places.isEmpty {
                var (found, time) = ([Int](), Timestamp(microseconds: Self.start * 1_000_000 - 1))
                while let next = schedule.next(after: time, in: zone), next.microseconds < Self.end * 1_000_000 {
                    found.append(next.microseconds / 1_000_000)
                    time = next
                }
                #expect(found == due, "\(text) in \(name): \(Self.first(found, due))")
            }
            for place in places {
                let found = schedule.next(8, after: Timestamp(microseconds: place * 1_000_000), in: zone).map {
                    $0.microseconds / 1_000_000
                }
                let index = due.partitioningIndex { $0 > place }
                #expect(
                    found == Array(due[index..<min(index + 8, due.count)]) || index + 8 > due.count, "\(text) in \(name) after \(place)")
            }
        }
    }

    private static func first(_ found: [Int], _ due: [Int]) -> String {
        let index = zip(found, due).enumerated().first { $1.0 != $1.1 }?.offset ?? min(found.count, due.count)
        return
            "\(found.count) against \(due.count), number \(index): \(found.dropFirst(index).first ?? 0), \(due.dropFirst(index).first ?? 0)"
    }
}

extension [Int] {
    /// The first index of a sorted list whose item fulfils the condition.
    fileprivate func partitioningIndex(_ holds: (Int) -> Bool) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if holds(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
