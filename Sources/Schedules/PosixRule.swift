// The rule at the end of a TZif file: the form of POSIX's TZ variable (POSIX.1-2017 §8.3) with the hours of RFC 9636, −167 to 167.
// `<+1030>-10:30<+11>-11,M10.1.0,M4.1.0`: offsets count westwards, a day is a week's day of a month or a number of the year.

struct PosixRule: Sendable {
    private let standard: Int
    private let summer: Summer?

    private struct Summer {
        let offset: Int
        let start: Moment
        let end: Moment
    }

    private enum Day {
        /// 1–365; 29 February is never counted.
        case julian(Int)
        /// 0–365.
        case ordinal(Int)
        /// The week 5 is the last.
        case weekday(month: Int, week: Int, day: Int)
    }

    private struct Moment {
        let day: Day
        /// Seconds after midnight, by the clock that is valid until then.
        let time: Int

        /// Seconds from 1970 by that clock.
        func local(in year: Int) -> Int {
            let newYear = CivilDate.days(year: year, month: 1, day: 1)
            let date: Int =
                switch day {
                case .julian(let number): newYear + number - 1 + (CivilDate.isLeap(year) && number >= 60 ? 1 : 0)
                case .ordinal(let number): newYear + number
                case .weekday(let month, let week, let day):
                    Self.date(year: year, month: month, week: week, weekday: day)
                }
            return date * 86400 + time
        }

        private static func date(year: Int, month: Int, week: Int, weekday: Int) -> Int {
            let first = CivilDate.days(year: year, month: month, day: 1)
            let start = CivilDate(day: first)
            var date = first + (weekday - start.weekday + 7) % 7 + (week - 1) * 7
            while date >= start.firstOfNextMonth { date -= 7 }
            return date
        }
    }

    func stretch(at second: Int) -> Zone.Stretch {
        guard let summer else { return Zone.Stretch(start: nil, offset: standard, end: nil) }
        let year = CivilDate(day: second.quotientAndFloorRemainder(by: 86400).0).year
        var events: [(at: Int, offset: Int)] = []
        for year in (year - 1)...(year + 2) {
            events.append((summer.start.local(in: year) - standard, summer.offset))
            events.append((summer.end.local(in: year) - summer.offset, standard))
        }
        // Summer that ends as the next begins goes on.
        events.sort { $0.at != $1.at ? $0.at < $1.at : $0.offset == standard && $1.offset != standard }
        var (start, offset): (Zone.Change?, Int) = (nil, events[0].offset)
        for (index, event) in events.enumerated() where index + 1 == events.count || events[index + 1].at != event.at {
            guard event.offset != offset else { continue }
            let change = Zone.Change(at: event.at, before: offset, after: event.offset)
            if event.at > second { return Zone.Stretch(start: start, offset: offset, end: change) }
            (start, offset) = (change, event.offset)
        }
        return Zone.Stretch(start: start, offset: offset, end: nil)
    }
}

extension PosixRule {
    /// - Returns: `nil` for a text of another form.
    init?(_ text: String) {
        var reader = Reader(rest: Substring(text))
        guard reader.name(), let west = reader.time() else { return nil }
        standard = -west
        if reader.rest.isEmpty {
            summer = nil
            return
        }
        guard reader.name() else { return nil }
        var offset = standard + 3600
        if reader.rest.first != "," {
            guard let west = reader.time() else { return nil }
            offset = -west
        }
        guard let start = reader.moment(), let end = reader.moment(), reader.rest.isEmpty else { return nil }
        summer = Summer(offset: offset, start: start, end: end)
    }

    private struct Reader {
        var rest: Substring

        mutating func take(_ character: Character) -> Bool {
            guard rest.first == character else { return false }
            rest.removeFirst()
            return true
        }

        mutating func name() -> Bool {
            if take("<") {
                guard let end = rest.firstIndex(of: ">") else { return false }
                rest = rest[rest.index(after: end)...]
                return true
            }
            let letters = rest.prefix { $0.isASCII && $0.isLetter }
            rest = rest[letters.endIndex...]
            return letters.count >= 3
        }

        mutating func number(_ range: ClosedRange<Int>) -> Int? {
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            guard digits.count <= 3, let value = Int(digits), range.contains(value) else { return nil }
            rest = rest[digits.endIndex...]
            return value
        }

        /// `[+-]h[:m[:s]]`, in seconds.
        mutating func time() -> Int? {
            let sign = take("-") ? -1 : 1
            if sign == 1 { _ = take("+") }
            guard let hours = number(0...167) else { return nil }
            var seconds = hours * 3600
            for unit in [60, 1] where take(":") {
                guard let value = number(0...59) else { return nil }
                seconds += value * unit
            }
            return sign * seconds
        }

        mutating func moment() -> Moment? {
            guard take(","), let day = day() else { return nil }
            guard take("/") else { return Moment(day: day, time: 7200) }
            return time().map { Moment(day: day, time: $0) }
        }

        private mutating func day() -> Day? {
            if take("J") { return number(1...365).map { .julian($0) } }
            guard take("M") else { return number(0...365).map { .ordinal($0) } }
            guard let month = number(1...12), take("."), let week = number(1...5), take("."), let day = number(0...6) else { return nil }
            return .weekday(month: month, week: week, day: day)
        }
    }
}
