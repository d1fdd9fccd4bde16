// From a schedule to moments, across changes of the clocks. Between two changes local time runs evenly, so each such stretch is searched
// by the calendar alone. A schedule with a wildcard or a step in minute or hour follows elapsed time: it runs whenever the clock shows
// a matching minute. A fixed time that a change skips runs once, when the clocks have changed; one that comes twice runs the first time only.
package import HTTP

extension CronSchedule {
    /// The first due time behind a moment; `nil` where none comes within 400 years.
    package func next(after moment: Timestamp, in zone: Zone) -> Timestamp? {
        let first = moment.microseconds.quotientAndFloorRemainder(by: 1_000_000).0 + 1
        var second = first
        let horizon = first + CivilDate.daysIn400Years * 86400
        while second < horizon {
            let stretch = zone.stretch(at: second)
            var local = second + stretch.offset
            if let start = stretch.start, !followsElapsedTime {
                let (old, new) = (start.at + start.before, start.at + start.after)
                if start.at >= first, firstMinute(from: Self.minute(old), before: Self.minute(new)) != nil {
                    return Timestamp(microseconds: start.at * 1_000_000)
                }
                // What the clock shows for the second time.
                local = max(local, old)
            }
            let end = Self.minute((stretch.end?.at ?? horizon) + stretch.offset)
            if let minute = firstMinute(from: Self.minute(local), before: end) {
                return Timestamp(microseconds: (minute * 60 - stretch.offset) * 1_000_000)
            }
            guard let end = stretch.end else { return nil }
            second = end.at
        }
        return nil
    }

    /// The next so many due times.
    package func next(_ count: Int, after moment: Timestamp, in zone: Zone) -> [Timestamp] {
        var times: [Timestamp] = []
        while times.count < count, let time = next(after: times.last ?? moment, in: zone) { times.append(time) }
        return times
    }

    /// The last due time that is later than one moment and not later than another.
    package func latest(after start: Timestamp, through end: Timestamp, in zone: Zone) -> Timestamp? {
        // From windows that grow backwards, so that a year of minutes is not walked through.
        var window = 60
        while true {
            let from = max(start, end.advanced(seconds: -window))
            if var found = next(after: from, in: zone), found <= end {
                while let later = next(after: found, in: zone), later <= end { found = later }
                return found
            }
            if from == start { return nil }
            window *= 4
        }
    }

    /// The first whole minute that has not begun before a second.
    private static func minute(_ second: Int) -> Int {
        let (minute, rest) = second.quotientAndFloorRemainder(by: 60)
        return rest == 0 ? minute : minute + 1
    }
}
