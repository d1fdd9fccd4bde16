// What policies make of what members use.
import HTTP
import Testing

@testable import Scaling

struct DecisionTests {
    /// Members that were so busy for three rounds; `nil` is one without a reading.
    private func usage(_ percents: [Double?]) -> [Usage] {
        percents.map { percent in
            var usage = Usage()
            if let percent { for _ in 0..<3 { usage.note(percent) } }
            return usage
        }
    }

    private func outcome(
        _ desired: Int, _ percents: [Double?], _ policies: [ScalingPolicy], in range: ClosedRange<Int> = 1...10, since: Double? = nil
    ) -> Int {
        ScalingDecision(desired: desired, range: range, usage: usage(percents), secondsSinceChange: since).outcome(policies)
    }

    private let half = ScalingPolicy(.target(percent: 50), cooldownSeconds: 300)

    @Test(
        arguments: [
            (2, [100, 100], 4), (2, [60, 60], 3), (2, [54, 54], 2), (2, [46, 46], 2), (4, [20, 20, 20, 20], 2), (4, [0, 0, 0, 0], 1),
            (10, Array(repeating: 100, count: 10), 10), (1, [0], 1), (3, [90, 0, 0], 2),
        ] as [(Int, [Double], Int)])
    func aTargetIsTracked(desired: Int, percents: [Double], wanted: Int) {
        #expect(outcome(desired, percents, [half]) == wanted)
    }

    @Test func noDataNeverMeansFewer() {
        #expect(outcome(4, [], [half]) == 4)
        #expect(outcome(4, [nil, nil, nil, nil], [half]) == 4)
        // One that is not known may be fully at work.
        #expect(outcome(4, [0, 0, 0, nil], [half]) == 1)
        #expect(outcome(4, [40, 40, nil, nil], [half]) == 4)
        // And may be idle: no more because of it.
        #expect(outcome(4, [100, 90, nil, nil], [half]) == 4)
        #expect(outcome(4, [100, 100, 100, nil], [half]) == 6)
        let steps = ScalingPolicy(.steps([.init(percent: 20, change: -1)]), cooldownSeconds: 60)
        #expect(outcome(4, [], [steps]) == 4 && outcome(4, [0, 0, 0, nil], [steps]) == 4 && outcome(4, [0, 0, 0, 0], [steps]) == 3)
    }

    @Test func calmTakesThreeReadings() {
        var usage = Usage()
        func wanted() -> Int { ScalingDecision(desired: 2, range: 1...10, usage: [usage, usage], secondsSinceChange: nil).outcome([half]) }
        for percent in [100, 0, 0] as [Double] { usage.note(percent) }
        #expect(wanted() == 2)
        usage.note(0)
        #expect(wanted() == 1)
        usage.note(100)
        #expect(wanted() == 4)
    }

    @Test func steps() {
        let steps = ScalingPolicy(
            .steps([
                .init(percent: 70, change: 1), .init(percent: 90, change: 3), .init(percent: 30, change: -1),
                .init(percent: 10, change: -2),
            ]),
            cooldownSeconds: 60)
        let wanted = [100, 90, 89, 70, 69, 31, 30, 11, 10, 0].map { outcome(5, Array(repeating: $0, count: 5), [steps]) }
        #expect(wanted == [8, 8, 6, 6, 5, 5, 4, 4, 3, 3])
    }

    @Test func cooldownsHold() {
        #expect(outcome(2, [100, 100], [half], since: 299) == 2)
        #expect(outcome(2, [100, 100], [half], since: 300) == 4)
        #expect(outcome(2, [0, 0], [half], since: 299.9) == 2)
    }

    @Test func theMostThatIsWantedCounts() {
        let idle = ScalingPolicy(.target(percent: 90), cooldownSeconds: 60)
        #expect(outcome(4, [40, 40, 40, 40], [half, idle]) == 4)
        #expect(outcome(4, [80, 80, 80, 80], [half, idle]) == 7)
        #expect(outcome(4, [10, 10, 10, 10], [half, idle]) == 1)
        // While one rests, the other makes nothing smaller.
        #expect(outcome(4, [10, 10, 10, 10], [half, idle], since: 100) == 4)
        #expect(outcome(4, [10, 10, 10, 10], []) == 4)
    }

    @Test func neverOutOfRange() {
        #expect(outcome(3, [100, 100, 100], [half], in: 1...4) == 4)
        #expect(outcome(3, [0, 0, 0], [half], in: 2...4) == 2)
    }

    @Test(arguments: [
        #"[{"above": 80, "change": 2}, {"below": 20, "change": -1}]"#, #"[{"above": 0, "change": 20}]"#,
    ])
    func stepsAreReadAsTheyAreWritten(text: String) throws {
        let json = try JSON(parsing: Array(text.utf8))
        let steps = try #require(Rule.steps.parse(json))
        #expect(try JSON(parsing: JSON.array(steps.map(\.json)).bytes) == json)
    }

    @Test(arguments: [
        "[]", "{}", "7", #"[{"above": 80}]"#, #"[{"change": 1}]"#, #"[{"above": 80, "below": 20, "change": 1}]"#,
        #"[{"above": 101, "change": 1}]"#, #"[{"above": 80, "change": -1}]"#, #"[{"below": 20, "change": 1}]"#,
        #"[{"below": 20, "change": 0}]"#, #"[{"above": 80, "change": 21}]"#, #"[{"above": 80.5, "change": 1}]"#,
    ])
    func otherStepsAreRefused(text: String) throws {
        #expect(Rule.steps.parse(try JSON(parsing: Array(text.utf8))) == nil)
    }
}
