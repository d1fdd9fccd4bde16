// What schedules may say, what they mean on the calendar, and what is refused with which sentence.
import HTTP
import Testing

@testable import Schedules

struct ParserTests {
    private func times(_ text: String, from start: String, _ count: Int = 3, zone: String = "UTC") throws -> [String] {
        let (schedule, zone) = (try CronSchedule(text), try #require(Zone.named(zone)))
        return schedule.next(count, after: try #require(Timestamp(rfc3339: start)), in: zone).map { String($0.description.prefix(16)) }
    }

    @Test(arguments: [
        ("@hourly", "0 * * * *"), ("@daily", "0 0 * * *"), ("@midnight", "0 0 * * *"), ("@weekly", "0 0 * * 0"), ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"), ("@annually", "0 0 1 1 *"), ("@Daily", "0 0 * * *"), ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 * jan,DEC mon-FRI", "0 0 * 1,12 1-5"), ("0 0 * * fri-sun", "0 0 * * 5,6,0"), ("0 0 * * 5-7", "0 0 * * 0,5,6"),
        ("0-10/5,30 0 * * *", "0,5,10,30 0 * * *"), ("  0\t0  *  * * ", "0 0 * * *"), ("0 0 * * sat-0", "0 0 * * 6,7"),
    ])
    func sameMeaning(left: String, right: String) throws {
        let (left, right) = (try CronSchedule(left), try CronSchedule(right))
        #expect(left.minutes == right.minutes && left.hours == right.hours && left.days == right.days)
        #expect(left.months == right.months && left.weekdays == right.weekdays && left.isEitherDay == right.isEitherDay)
    }

    @Test(arguments: [
        "", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 0 *", "* * * 13 *", "* * * * 8",
        "5/15 * * * *", "*/0 * * * *", "*/60 * * * *", "10-5 * * * *", "1-2-3 * * * *", ", * * * *", "1, * * * *", "- * * * *",
        "-1 * * * *",
        "* * * foo *", "* * * * mo", "+1 * * * *", "1.5 * * * *", "* * * jan-x *", "@reboot", "@every 5m", "@", "@daily x", "* * ? * *",
        "* * L * *", "* * * * 1#2", "０ 0 * * *", "001 * * * *", "*/ * * * *", "/5 * * * *", "** * * * *", "0 0\n* * *",
    ])
    func nonsense(text: String) { #expect(throws: CronSchedule.Problem.self) { try CronSchedule(text) } }

    @Test(arguments: ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30-31 feb */2"])
    func whatNeverComes(text: String) {
        #expect(throws: CronSchedule.Problem(description: "names no day that ever comes")) { try CronSchedule(text) }
    }

    @Test func eachProblemHasItsSentence() {
        func sentence(_ text: String) -> String? {
            do {
                _ = try CronSchedule(text)
                return nil
            } catch { return error.description }
        }
        #expect(sentence("61 * * * *") == "minute must be made of *, 0–59, ranges a-b, steps /n and commas")
        #expect(sentence("* * * * mon-tues") == "day of week must be made of *, 0–7 or names, ranges a-b, steps /n and commas")
        #expect(sentence("@reboot") == "may be named @hourly, @daily, @midnight, @weekly, @monthly, @yearly or @annually")
        #expect(sentence("0 0 31 2 *") == "names no day that ever comes")
        #expect(sentence("often") == "must have the five fields minute, hour, day of month, month, day of week, or a name such as @daily")
    }

    @Test func rareDays() throws {
        #expect(try times("0 0 29 2 *", from: "2026-01-01T00:00:00Z") == ["2028-02-29T00:00", "2032-02-29T00:00", "2036-02-29T00:00"])
        #expect(try times("0 0 29 2 *", from: "2096-03-01T00:00:00Z", 1) == ["2104-02-29T00:00"])
        // Begins with a star, so both day fields count: a leap day that is a Sunday, Tuesday, Thursday or Saturday.
        #expect(try times("0 0 29 2 */2", from: "2026-01-01T00:00:00Z", 2) == ["2028-02-29T00:00", "2032-02-29T00:00"])
    }

    @Test func eitherDayWhereBothAreSet() throws {
        #expect(
            try times("0 12 13 * 5", from: "2026-02-01T00:00:00Z", 5) == [
                "2026-02-06T12:00", "2026-02-13T12:00", "2026-02-20T12:00", "2026-02-27T12:00", "2026-03-06T12:00",
            ])
        #expect(try times("0 12 */7 * 5", from: "2026-01-01T00:00:00Z", 2) == ["2026-05-01T12:00", "2026-05-08T12:00"])
        #expect(try CronSchedule("0 0 31 2 1").isEitherDay, "February has Mondays")
    }

    @Test func laterThanTheMomentItself() throws {
        #expect(try times("0 0 * * *", from: "2026-01-05T00:00:00Z", 1) == ["2026-01-06T00:00"])
        #expect(try times("0 0 * * *", from: "2026-01-04T23:59:59.999999Z", 1) == ["2026-01-05T00:00"])
        #expect(try times("* * * * *", from: "2026-01-05T00:00:59.999999Z", 2) == ["2026-01-05T00:01", "2026-01-05T00:02"])
    }

    @Test func latestOfAPast() throws {
        let zone = try #require(Zone.named("UTC"))
        func latest(_ text: String, _ start: String, _ end: String) throws -> String? {
            try CronSchedule(text).latest(
                after: try #require(Timestamp(rfc3339: start)), through: try #require(Timestamp(rfc3339: end)), in: zone)?.description
        }
        #expect(try latest("* * * * *", "2020-01-01T00:00:00Z", "2026-01-01T10:00:30Z") == "2026-01-01T10:00:00.000000Z")
        #expect(try latest("0 3 * * *", "2025-12-01T00:00:00Z", "2026-01-01T02:59:59Z") == "2025-12-31T03:00:00.000000Z")
        #expect(try latest("0 3 * * *", "2026-01-01T03:00:00Z", "2026-01-01T10:00:00Z") == nil)
        #expect(try latest("0 3 * * *", "2026-01-01T02:00:00Z", "2026-01-01T03:00:00Z") == "2026-01-01T03:00:00.000000Z")
    }
}
