// Zones: which names there are, what their files say far ahead, and the contract's sentence on changes of the clocks, case by case.
import HTTP
import Testing

@testable import Schedules

struct ZoneTests {
    @Test(arguments: [
        "", "/etc/passwd", "../zoneinfo/UTC", "America/../UTC", "America/", "America", "america/new_york", "Mars/Olympus", "posix/UTC",
        "right/UTC", "posixrules", "localtime", "Factory", "zone.tab", "tzdata.zi", "UTC\u{0}", "UTC ", "UTC\n", "./UTC", "Etc//UTC", "+1",
        "é",
    ])
    func noZone(name: String) { #expect(Zone.named(name) == nil) }

    @Test(arguments: [
        "UTC", "Etc/UTC", "Etc/GMT+5", "Etc/GMT-14", "America/Argentina/Buenos_Aires", "America/Port-au-Prince", "EST5EDT", "GMT0",
        "NZ-CHAT",
        "Asia/Kathmandu", "Africa/Casablanca", "Europe/Dublin", "America/Nuuk",
    ])
    func zones(name: String) { #expect(Zone.named(name) != nil) }

    private func offset(_ name: String, _ time: String) throws -> Int {
        try #require(Zone.named(name)).stretch(at: try #require(Timestamp(rfc3339: time)).microseconds / 1_000_000).offset
    }

    /// Beyond what files list, the rule at their end goes on.
    @Test func farAhead() throws {
        for year in ["2027", "2037", "2038", "2060", "2399"] {
            #expect(try offset("America/New_York", "\(year)-01-15T12:00:00Z") == -18000)
            #expect(try offset("America/New_York", "\(year)-07-15T12:00:00Z") == -14400)
            #expect(try offset("Australia/Lord_Howe", "\(year)-01-15T12:00:00Z") == 39600)
            #expect(try offset("Australia/Lord_Howe", "\(year)-07-15T12:00:00Z") == 37800)
            #expect(try offset("Europe/Dublin", "\(year)-07-15T12:00:00Z") == 3600)
            #expect(try offset("Asia/Kolkata", "\(year)-07-15T12:00:00Z") == 19800)
        }
        #expect(try offset("Europe/London", "2060-03-28T00:59:59Z") == 0)
        #expect(try offset("Europe/London", "2060-03-28T01:00:00Z") == 3600)
        #expect(try offset("Asia/Kathmandu", "2026-01-01T00:00:00Z") == 20700)
        #expect(try offset("America/New_York", "1970-01-01T00:00:00Z") == -18000)
    }

    @Test func posixRules() throws {
        func offsets(_ rule: String, _ times: [String]) throws -> [Int] {
            let rule = try #require(PosixRule(rule))
            return try times.map { rule.stretch(at: try #require(Timestamp(rfc3339: $0)).microseconds / 1_000_000).offset }
        }
        #expect(try offsets("<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", ["2026-01-01T00:00:00Z", "2026-06-01T00:00:00Z"]) == [39600, 37800])
        #expect(
            try offsets("EST5EDT,0/0,J365/25", ["2026-01-01T04:30:00Z", "2026-07-01T00:00:00Z", "2026-12-31T23:00:00Z"]) == [
                -14400, -14400, -14400,
            ])
        #expect(try offsets("IST-1GMT0,M10.5.0,M3.5.0/1", ["2026-01-01T00:00:00Z", "2026-06-01T00:00:00Z"]) == [0, 3600])
        #expect(try offsets("XXX3YYY,J60/0,60/0", ["2028-02-29T12:00:00Z", "2028-03-01T02:30:00Z"]) == [-10800, -10800])
        #expect(try offsets("<-02>2<-01>,M3.5.0/-1,M10.5.0/0", ["2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z"]) == [-7200, -3600])
        for bad in ["", "EST", "5", "EST5EDT,M3.2.0", "EST5EDT,M13.2.0,M11.1.0", "EST5EDT,M3.2.0,M11.1.0x", "<+03-3", "AB3"] {
            #expect(PosixRule(bad) == nil, "\(bad)")
        }
    }

    @Test func brokenFilesAreNoZones() {
        #expect(Zone(tzif: []) == nil)
        #expect(Zone(tzif: Array("TZif".utf8) + [UInt8](repeating: 0, count: 40)) == nil)
        #expect(Zone(tzif: Array("TZif2".utf8) + [UInt8](repeating: 0xFF, count: 400)) == nil)
    }

    private func times(_ schedule: String, _ zone: String, from start: String, _ count: Int) throws -> [String] {
        try CronSchedule(schedule).next(count, after: try #require(Timestamp(rfc3339: start)), in: try #require(Zone.named(zone))).map {
            String($0.description.dropFirst(5).prefix(11))
        }
    }

    /// New York, 8 March 2026: 02:00 EST is 03:00 EDT, at 07:00 UTC.
    @Test func aSkippedHour() throws {
        let night = "2026-03-08T05:30:00Z"
        #expect(try times("30 2 * * *", "America/New_York", from: night, 2) == ["03-08T07:00", "03-09T06:30"])
        #expect(try times("0,30 2 * * *", "America/New_York", from: night, 2) == ["03-08T07:00", "03-09T06:00"])
        #expect(try times("0 2,3 * * *", "America/New_York", from: night, 2) == ["03-08T07:00", "03-09T06:00"])
        #expect(
            try times("0 1-4 * * *", "America/New_York", from: night, 4) == ["03-08T06:00", "03-08T07:00", "03-08T08:00", "03-09T05:00"])
        #expect(try times("0 * * * *", "America/New_York", from: night, 3) == ["03-08T06:00", "03-08T07:00", "03-08T08:00"])
        #expect(try times("*/30 2 * * *", "America/New_York", from: night, 1) == ["03-09T06:00"])
        // From within the night: what has run runs no second time.
        #expect(try times("30 2 * * *", "America/New_York", from: "2026-03-08T07:00:00Z", 1) == ["03-09T06:30"])
    }

    /// New York, 1 November 2026: 02:00 EDT is 01:00 EST, at 06:00 UTC.
    @Test func aRepeatedHour() throws {
        let night = "2026-11-01T04:30:00Z"
        #expect(try times("30 1 * * *", "America/New_York", from: night, 2) == ["11-01T05:30", "11-02T06:30"])
        #expect(try times("30 1 * * *", "America/New_York", from: "2026-11-01T05:45:00Z", 1) == ["11-02T06:30"])
        #expect(try times("30 1 * * *", "America/New_York", from: "2026-11-01T06:15:00Z", 1) == ["11-02T06:30"])
        #expect(try times("0 2 * * *", "America/New_York", from: night, 1) == ["11-01T07:00"])
        #expect(try times("0 * * * *", "America/New_York", from: night, 4) == ["11-01T05:00", "11-01T06:00", "11-01T07:00", "11-01T08:00"])
        #expect(
            try times("*/30 1 * * *", "America/New_York", from: night, 4) == ["11-01T05:00", "11-01T05:30", "11-01T06:00", "11-01T06:30"])
    }

    /// Lord Howe moves by half an hour: 4 October 2026 02:00 becomes 02:30 at 15:30 UTC; 5 April 02:00 becomes 01:30 at 15:00 UTC the day before.
    @Test func halfAnHour() throws {
        #expect(try times("15 2 * * *", "Australia/Lord_Howe", from: "2026-10-03T12:00:00Z", 2) == ["10-03T15:30", "10-04T15:15"])
        #expect(try times("45 1 * * *", "Australia/Lord_Howe", from: "2026-04-04T12:00:00Z", 2) == ["04-04T14:45", "04-05T15:15"])
        #expect(
            try times("45 * * * *", "Australia/Lord_Howe", from: "2026-04-04T14:00:00Z", 3) == [
                "04-04T14:45", "04-04T15:15", "04-04T16:15",
            ])
    }
}
