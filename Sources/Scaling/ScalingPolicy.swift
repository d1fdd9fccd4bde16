// When a group gets more members or fewer: by what its members use of the processors that they have (percent; 100 is all of it).
// Values only, no I/O; who reads the statistics is Sources/Jobs/ScalingRound.swift.
package import HTTP

package struct ScalingPolicy: Sendable, Equatable {
    package enum Form: Sendable, Equatable {
        /// As many members as it takes for this average.
        case target(percent: Int)
        case steps([Step])
    }

    package struct Step: Sendable, Equatable {
        /// From this average on upwards, or downwards.
        package let percent: Int
        /// Members more where positive, which is for averages above, or fewer, for those below.
        package let change: Int
    }

    package let form: Form
    /// How long the group rests after its last change before this policy changes it again.
    package let cooldownSeconds: Int

    package init(_ form: Form, cooldownSeconds: Int) {
        self.form = form
        self.cooldownSeconds = cooldownSeconds
    }
}

extension ScalingPolicy.Step {
    /// Reads `{"above": percent, "change": n}` or `{"below": percent, "change": -n}`; `nil` for anything else.
    package init?(_ json: JSON) {
        let bounds = ["above", "below"].compactMap { name in json[name].flatMap { $0 == .null ? nil : (name, $0) } }
        guard bounds.count == 1, let percent = bounds[0].1.int, (0...100).contains(percent), let change = json["change"]?.int else {
            return nil
        }
        guard (bounds[0].0 == "above" ? 1...20 : -20 ... -1).contains(change) else { return nil }
        self.init(percent: percent, change: change)
    }

    package var json: JSON { .object([.init(change > 0 ? "above" : "below", .int(percent)), .init("change", .int(change))]) }
}

extension Rule where Value == [ScalingPolicy.Step] {
    package static let steps = Rule(
        #"must be a list of 1–20 steps such as {"above": 80, "change": 2} and {"below": 20, "change": -1}; percent 0–100, changes up to 20"#
    ) { json in
        guard let items = json.array, (1...20).contains(items.count) else { return nil }
        let steps = items.compactMap(ScalingPolicy.Step.init)
        return steps.count == items.count ? steps : nil
    }
}
