// What the members of a group use, and how many of them its policies make of it. What is not known never makes a group smaller: a member
// without a reading counts as idle where it is about more, and as fully at work where it is about fewer.

/// Of one member, in percent of the processors that it has.
package struct Usage: Sendable, Equatable {
    /// Of the last readings, oldest first.
    private var readings: [Double] = []

    /// So many in a row are needed before a member counts as calm.
    private static let depth = 3

    package init() {}

    package mutating func note(_ percent: Double) { readings = (readings + [percent]).suffix(Self.depth) }

    /// The last reading; `nil` when there is none.
    var latest: Double? { readings.last }

    /// The highest of the last readings; `nil` when there are too few.
    var calm: Double? { readings.count == Self.depth ? readings.max() : nil }
}

package struct ScalingDecision: Sendable {
    package let desired: Int
    /// How many there may be.
    package let range: ClosedRange<Int>
    /// Of the members that run.
    package let usage: [Usage]
    /// Since a policy changed the group last; `nil`: never.
    package let secondsSinceChange: Double?

    /// Averages this near to their target are good enough.
    private static let tolerance = 0.1

    package init(desired: Int, range: ClosedRange<Int>, usage: [Usage], secondsSinceChange: Double?) {
        self.desired = desired
        self.range = range
        self.usage = usage
        self.secondsSinceChange = secondsSinceChange
    }

    /// How many members there shall be: the most that one of the policies wants, so a group grows when one says so and shrinks when all do.
    package func outcome(_ policies: [ScalingPolicy]) -> Int {
        let wanted = policies.map { isResting($0) ? desired : wish(of: $0) }.max() ?? desired
        return min(max(wanted, range.lowerBound), range.upperBound)
    }

    private func isResting(_ policy: ScalingPolicy) -> Bool { secondsSinceChange.map { $0 < Double(policy.cooldownSeconds) } ?? false }

    private func wish(of policy: ScalingPolicy) -> Int {
        let (busy, calm) = (sum(missing: 0, \.latest), sum(missing: full(policy), \.calm))
        switch policy.form {
        case .target(let percent):
            let target = Double(percent)
            if busy / Double(count) > target * (1 + Self.tolerance) { return max(Int((busy / target).rounded(.up)), desired) }
            if calm / Double(count) < target * (1 - Self.tolerance) { return min(Int((calm / target).rounded(.up)), desired) }
            return desired
        case .steps(let steps):
            let more = steps.filter { $0.change > 0 && busy / Double(count) >= Double($0.percent) }.map(\.change).max()
            let fewer = steps.filter { $0.change < 0 && calm / Double(count) <= Double($0.percent) }.map(\.change).min()
            return desired + (more ?? fewer ?? 0)
        }
    }

    private var count: Int { max(usage.count, desired, 1) }

    private func full(_ policy: ScalingPolicy) -> Double { if case .target(let percent) = policy.form { Double(percent) } else { 100 } }

    private func sum(missing: Double, _ reading: (Usage) -> Double?) -> Double {
        let known = usage.compactMap(reading)
        return known.reduce(0, +) + Double(count - known.count) * missing
    }
}
