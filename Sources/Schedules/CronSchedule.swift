// When a job runs: five fields as crontab(5) has them, or a name such as `@daily`. A value without I/O.
// A day must match both day fields where either begins with `*`, and any one of them where neither does (Vixie's rule).

package struct CronSchedule: Sendable, Equatable {
    /// Bit sets: bit 5 of `minutes` stands for minute 5; Sunday is bit 0.
    let minutes: UInt64
    let hours: UInt64
    let days: UInt64
    let months: UInt64
    let weekdays: UInt64
    /// Whether one matching day field is enough.
    let isEitherDay: Bool
    /// Whether minute or hour has a wildcard or a step: then it follows elapsed time when the clocks change.
    let followsElapsedTime: Bool

    /// What is wrong with a text; completes "schedule …".
    package struct Problem: Error, Equatable, CustomStringConvertible {
        package let description: String
    }

    private static let names = [
        "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *",
        "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
    ]

    /// - Parameter text: at most 200 bytes; fields are parted by blanks, names are taken in any case.
    package init(_ text: String) throws(Problem) {
        guard text.utf8.count <= 200, text.utf8.allSatisfy({ $0 == 0x09 || (0x20..<0x7F).contains($0) }) else {
            throw Problem(description: "must be at most 200 characters of ASCII")
        }
        var trimmed = text.split { $0 == " " || $0 == "\t" }
        if trimmed.count == 1, trimmed[0].hasPrefix("@") {
            guard let fields = Self.names[trimmed[0].lowercased()] else {
                throw Problem(description: "may be named @hourly, @daily, @midnight, @weekly, @monthly, @yearly or @annually")
            }
            trimmed = fields.split(separator: " ")
        }
        guard trimmed.count == 5 else {
            throw Problem(description: "must have the five fields minute, hour, day of month, month, day of week, or a name such as @daily")
        }
        minutes = try Self.set(trimmed[0], "minute", 0...59)
        hours = try Self.set(trimmed[1], "hour", 0...23)
        days = try Self.set(trimmed[2], "day of month", 1...31)
        months = try Self.set(trimmed[3], "month", 1...12, Self.monthNames)
        let week = try Self.set(trimmed[4], "day of week", 0...7, Self.weekdayNames)
        weekdays = (week | week >> 7) & 0x7F
        isEitherDay = !trimmed[2].hasPrefix("*") && !trimmed[4].hasPrefix("*")
        followsElapsedTime = trimmed[0...1].contains { $0.contains("*") || $0.contains("/") }
        guard canFire else { throw Problem(description: "names no day that ever comes") }
    }

    private static let monthNames = (1, ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"])
    private static let weekdayNames = (0, ["sun", "mon", "tue", "wed", "thu", "fri", "sat"])

    /// One field: a list of `*`, numbers or names, and ranges of them, the last two with a step behind `/`.
    private static func set(
        _ field: Substring, _ what: String, _ bounds: ClosedRange<Int>, _ names: (first: Int, list: [String]) = (0, [])
    ) throws(Problem) -> UInt64 {
        func number(_ text: Substring) -> Int? {
            if let index = names.list.firstIndex(of: text.lowercased()) { return names.first + index }
            guard (1...2).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
            return Int(text).flatMap { bounds.contains($0) ? $0 : nil }
        }
        let values = "\(bounds.lowerBound)–\(bounds.upperBound)" + (names.list.isEmpty ? "" : " or names")
        let problem = Problem(description: "\(what) must be made of *, \(values), ranges a-b, steps /n and commas")
        var set: UInt64 = 0
        for item in field.split(separator: ",", omittingEmptySubsequences: false) {
            let halves = item.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
            let ends = halves[0].split(separator: "-", omittingEmptySubsequences: false)
            var range: ClosedRange<Int>
            if halves[0] == "*" {
                range = bounds
            } else if ends.count == 1, let only = number(ends[0]), halves.count == 1 {
                range = only...only
            } else if ends.count == 2, let first = number(ends[0]) {
                // A week may end with Sunday by its name.
                guard var last = number(ends[1]) else { throw problem }
                if bounds.upperBound == 7, last == 0, first > 0 { last = 7 }
                guard first <= last else { throw problem }
                range = first...last
            } else {
                throw problem
            }
            var step = 1
            if halves.count == 2 {
                guard let text = Int(halves[1]), halves[1].utf8.allSatisfy({ (0x30...0x39).contains($0) }),
                    (1...bounds.upperBound).contains(text)
                else { throw problem }
                step = text
            }
            // `*` of the days of the week is seven days, not eight.
            if halves[0] == "*", bounds.upperBound == 7 { range = 0...6 }
            for value in stride(from: range.lowerBound, through: range.upperBound, by: step) { set |= 1 << UInt64(value) }
        }
        return set
    }

    // MARK: - The calendar

    func matches(_ date: CivilDate) -> Bool {
        guard months >> UInt64(date.month) & 1 == 1 else { return false }
        let day = days >> UInt64(date.day) & 1 == 1
        let weekday = weekdays >> UInt64(date.weekday) & 1 == 1
        return isEitherDay ? day || weekday : day && weekday
    }

    /// Dates repeat, weekdays included, every 400 years.
    private var canFire: Bool { firstDay(from: 0, through: CivilDate.daysIn400Years) != nil }

    /// The first matching day, counted from 1970-01-01.
    private func firstDay(from start: Int, through end: Int) -> Int? {
        var day = start
        while day <= end {
            let date = CivilDate(day: day)
            if months >> UInt64(date.month) & 1 == 0 {
                day = date.firstOfNextMonth
            } else if matches(date) {
                return day
            } else {
                day += 1
            }
        }
        return nil
    }

    /// The first matching minute of local time, counted from 1970-01-01T00:00.
    /// - Parameter end: not included.
    func firstMinute(from start: Int, before end: Int) -> Int? {
        guard start < end else { return nil }
        var (day, minute) = start.quotientAndFloorRemainder(by: 1440)
        while let match = firstDay(from: day, through: (end - 1).quotientAndFloorRemainder(by: 1440).0) {
            if match > day { minute = 0 }
            if let found = firstMinute(ofDayFrom: minute) {
                let result = match * 1440 + found
                return result < end ? result : nil
            }
            (day, minute) = (match + 1, 0)
        }
        return nil
    }

    private func firstMinute(ofDayFrom minute: Int) -> Int? {
        let (hour, within) = (minute / 60, minute % 60)
        if hours >> UInt64(hour) & 1 == 1 {
            let rest = minutes >> UInt64(within)
            if rest != 0 { return minute + rest.trailingZeroBitCount }
        }
        let later = hours >> UInt64(hour + 1)
        guard later != 0 else { return nil }
        return (hour + 1 + later.trailingZeroBitCount) * 60 + minutes.trailingZeroBitCount
    }
}
