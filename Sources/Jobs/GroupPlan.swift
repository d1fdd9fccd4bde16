// What is to be done about the members of an auto-scaling group, as a function of what they are: whom to remove, how many to make, and what
// to say of it. No I/O; ScalingGroupJob carries it out.
import HTTP

struct GroupPlan: Equatable {
    struct Member: Equatable {
        let id: ID
        let status: String
        let reason: String?
        let desired: String
        /// It gets no requests any more and goes then.
        let leavesAt: Timestamp?
    }

    /// Failures in a row.
    struct Trouble: Equatable {
        var failures = 0
        var failedAt: Timestamp?
        var reason: String?
        /// No member is made before.
        var retryAt: Timestamp?
    }

    private(set) var trouble: Trouble
    /// To be removed at once.
    private(set) var removed: [ID] = []
    /// To be taken from the load balancer now, and removed later.
    private(set) var retired: [ID] = []
    private(set) var made = 0
    private(set) var status: String
    private(set) var statusReason: String?
    /// When to look again though nothing has happened.
    private(set) var nextLook: Timestamp?

    /// From so many failures in a row on, it is told and the pauses are long.
    static let failureLimit = 5
    /// So long after the last failure all is well again, in seconds.
    static let probation = 60
    /// What a member that leaves has for the requests at hand, in seconds.
    static let drainSeconds = 10

    /// Before the next attempt, in seconds.
    static func pause(after failures: Int) -> Int {
        failures < failureLimit ? 1 << max(failures - 1, 0) : min(10 << min(failures - failureLimit, 10), 600)
    }

    /// - Parameter isBalanced: there is a load balancer that sends requests to members.
    init(desired: Int, isBalanced: Bool, members: [Member], trouble: Trouble, now: Timestamp) {
        self.trouble = trouble
        let staying = members.filter { $0.desired != "DELETED" && $0.leavesAt == nil }
        let isGood: (Member) -> Bool = { $0.desired == "RUNNING" && ["STARTING", "RUNNING"].contains($0.status) }
        let good = staying.filter(isGood)
        let bad = staying.filter { !isGood($0) }
        let running = good.count { $0.status == "RUNNING" }
        let isWhole = running == desired && good.count == desired && bad.isEmpty
        removed = bad.map(\.id)
        self.trouble.note(bad.filter { $0.status == "ERROR" }.map { $0.reason ?? "it failed" }, isWhole: isWhole, now)
        var looks: [Timestamp] = []

        // Those that don't run yet, then the newest.
        let surplus = good.sorted { ($0.status == "RUNNING" ? 1 : 0, $1.id) < ($1.status == "RUNNING" ? 1 : 0, $0.id) }
            .prefix(max(good.count - desired, 0)).map(\.id)
        if isBalanced {
            retired = surplus
            if !surplus.isEmpty { looks.append(now.advanced(seconds: Self.drainSeconds)) }
        } else {
            removed += surplus
        }
        for member in members where member.desired != "DELETED" {
            guard let time = member.leavesAt else { continue }
            if time <= now { removed.append(member.id) } else { looks.append(time) }
        }

        // One that is being removed keeps its place until it is gone, so a group never takes more of its owner's quota than it should.
        let missing = desired - good.count - members.count { $0.desired == "DELETED" } - removed.count
        if missing > 0 {
            if let retry = self.trouble.retryAt, retry > now { looks.append(retry) } else { made = missing }
        }
        if let failedAt = self.trouble.failedAt, isWhole { looks.append(failedAt.advanced(seconds: Self.probation)) }
        nextLook = looks.min()
        status = self.trouble.failures >= Self.failureLimit ? "ERROR" : isWhole ? "ACTIVE" : "SCALING"
        statusReason = self.trouble.sentence
    }
}

extension GroupPlan.Trouble {
    /// Counts failures, or forgets them when all has been well for a while.
    mutating func note(_ reasons: [String], isWhole: Bool, _ now: Timestamp) {
        if let reason = reasons.first {
            failures += reasons.count
            (failedAt, self.reason) = (now, reason)
            retryAt = now.advanced(seconds: GroupPlan.pause(after: failures))
        } else if isWhole, let failedAt, failedAt.advanced(seconds: GroupPlan.probation) <= now {
            self = Self()
        }
    }

    fileprivate var sentence: String? {
        guard failures > 0, let reason else { return nil }
        let times = failures == 1 ? "An instance failed" : "\(failures) instances in a row failed"
        let next = failures >= GroupPlan.failureLimit ? retryAt.map { "; not tried again before \($0)" } ?? "" : ""
        return "\(times)\(next): \(reason)"
    }
}
