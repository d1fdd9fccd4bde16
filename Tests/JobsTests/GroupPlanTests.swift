// What is done about the members of a group, by what they are.
import HTTP
import Testing

@testable import Jobs

struct GroupPlanTests {
    private let now = Timestamp(rfc3339: "2026-01-05T12:00:00Z")!

    private func id(_ number: Int) -> ID { ID("01890000-0000-7000-8000-00000000000\(number)")! }

    private func member(_ number: Int, _ status: String, desired: String = "RUNNING", reason: String? = nil, leavesIn seconds: Int? = nil)
        -> GroupPlan.Member
    {
        .init(id: id(number), status: status, reason: reason, desired: desired, leavesAt: seconds.map { now.advanced(seconds: $0) })
    }

    private func plan(
        _ desired: Int, _ members: [GroupPlan.Member], isBalanced: Bool = false, trouble: GroupPlan.Trouble = .init()
    ) -> GroupPlan {
        GroupPlan(desired: desired, isBalanced: isBalanced, members: members, trouble: trouble, now: now)
    }

    @Test func aWholeGroupIsLeftAlone() {
        let whole = plan(2, [member(1, "RUNNING"), member(2, "RUNNING")])
        #expect(whole.removed == [] && whole.retired == [] && whole.made == 0 && whole.nextLook == nil)
        #expect(whole.status == "ACTIVE" && whole.statusReason == nil)
    }

    @Test func whoIsMissingIsMade() {
        #expect(plan(3, []).made == 3)
        let some = plan(3, [member(1, "STARTING"), member(2, "RUNNING")])
        #expect(some.made == 1 && some.status == "SCALING" && some.statusReason == nil)
        // One that is being removed keeps its place.
        #expect(plan(1, [member(1, "TERMINATING", desired: "DELETED")]).made == 0)
    }

    @Test func whoIsTooMuchGoesTheNewestFirst() {
        let members = [member(1, "RUNNING"), member(2, "STARTING"), member(3, "RUNNING"), member(4, "RUNNING")]
        #expect(plan(2, members).removed == [id(2), id(4)])
        let drained = plan(2, members, isBalanced: true)
        #expect(drained.removed == [] && drained.retired == [id(2), id(4)] && drained.made == 0)
        #expect(drained.nextLook == now.advanced(seconds: 10))
    }

    @Test func whoLeavesGoesWhenItsTimeHasCome() {
        let members = [member(1, "RUNNING"), member(2, "RUNNING", leavesIn: 4), member(3, "RUNNING", leavesIn: 0)]
        let leaving = plan(1, members, isBalanced: true)
        #expect(leaving.removed == [id(3)] && leaving.retired == [] && leaving.nextLook == now.advanced(seconds: 4))
    }

    @Test func whatWasStoppedByHandIsReplaced() {
        let stopped = plan(1, [member(1, "RUNNING", desired: "STOPPED")])
        #expect(stopped.removed == [id(1)] && stopped.made == 0 && stopped.trouble.failures == 0)
    }

    @Test func failuresCountAndPausesGrow() {
        var trouble = GroupPlan.Trouble()
        var pauses: [Int] = []
        for _ in 0..<12 {
            let failed = plan(1, [member(1, "ERROR", reason: "no such image")], trouble: trouble)
            #expect(failed.removed == [id(1)] && failed.made == 0)
            trouble = failed.trouble
            pauses.append(((trouble.retryAt ?? now).microseconds - now.microseconds) / 1_000_000)
            #expect(plan(1, [], trouble: trouble).made == 0)
            #expect(plan(1, [], trouble: trouble).nextLook == trouble.retryAt)
        }
        #expect(pauses == [1, 2, 4, 8, 10, 20, 40, 80, 160, 320, 600, 600])
        let due = GroupPlan(desired: 1, isBalanced: false, members: [], trouble: trouble, now: now.advanced(seconds: 600))
        #expect(due.made == 1 && due.status == "ERROR")
    }

    @Test func fiveFailuresAreTold() {
        let four = plan(1, [], trouble: .init(failures: 4, failedAt: now, reason: "no such image", retryAt: now))
        #expect(four.status == "SCALING" && four.statusReason == "4 instances in a row failed: no such image")
        let five = plan(1, [member(1, "ERROR", reason: "no such image")], trouble: four.trouble)
        #expect(five.status == "ERROR")
        #expect(
            five.statusReason == "5 instances in a row failed; not tried again before 2026-01-05T12:00:10.000000Z: no such image")
    }

    /// Only what has been well for a minute is well again: one that keeps ending runs now and then.
    @Test func failuresAreForgottenAfterAMinute() {
        let trouble = GroupPlan.Trouble(failures: 5, failedAt: now.advanced(seconds: -59), reason: "r", retryAt: now)
        let soon = plan(1, [member(1, "RUNNING")], trouble: trouble)
        #expect(soon.trouble == trouble && soon.status == "ERROR" && soon.nextLook == now.advanced(seconds: 1))
        let well = GroupPlan(
            desired: 1, isBalanced: false, members: [member(1, "RUNNING")], trouble: trouble, now: now.advanced(seconds: 1))
        #expect(well.trouble == .init() && well.status == "ACTIVE" && well.statusReason == nil && well.nextLook == nil)
        let starting = GroupPlan(
            desired: 1, isBalanced: false, members: [member(1, "STARTING")], trouble: trouble, now: now.advanced(seconds: 99))
        #expect(starting.trouble == trouble)
    }
}
