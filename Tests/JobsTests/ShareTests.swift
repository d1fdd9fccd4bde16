// Who may have how much of what all owners use: some owners, and some receivers and hosts of an owner, take whatever they are given and never
// give it back. Something must be left for the next owner, and for the next of an owner's own.
import HTTP
import Testing

@testable import Jobs

struct ShareTests {
    /// Takes slots one inside the other, each wish until it is refused; what is held when all are refused.
    private func taken(_ slots: DeliverySlots, _ wishes: ArraySlice<(owner: ID, receiver: String)>, _ held: [Int] = []) -> [Int] {
        guard let wish = wishes.first else { return held }
        var (counts, count) = (held, 0)
        func further() {
            let answer = slots.hold(for: wish.owner, to: wish.receiver) {
                count += 1
                further()
            }
            if case .full = answer { counts = taken(slots, wishes.dropFirst(), held + [count]) }
        }
        further()
        return counts
    }

    @Test func deliveriesLeaveSomethingToEveryOwnerAndReceiver() {
        let (a, b, c) = (ID(at: .now()), ID(at: .now()), ID(at: .now()))
        #expect(taken(DeliverySlots(count: 16), [(a, "1"), (a, "2"), (a, "3"), (a, "4")]) == [4, 2, 1, 1])
        #expect(taken(DeliverySlots(count: 16), [(a, "1"), (a, "2"), (b, "1"), (b, "2"), (c, "1"), (c, "2")]) == [4, 2, 3, 1, 2, 1])
        #expect(taken(DeliverySlots(count: 16), [(a, "1")]) == [4])
    }

    /// What the shares are for: whoever comes next gets something, and something is left.
    @Test(arguments: 1...4, 1...3)
    func whoeverComesNextGetsSomething(owners: Int, receivers: Int) {
        let ids = (0..<owners).map { _ in ID(at: .now()) }
        let wishes = ids.flatMap { owner in (0..<receivers).map { (owner: owner, receiver: "\($0)") } }
        let held = taken(DeliverySlots(count: 64), wishes[...])
        #expect(held.allSatisfy { $0 > 0 } && held.reduce(0, +) < 64, "\(held)")
        let runs = claimed(wishes.map { ($0.owner, $0.receiver) }, of: 512)
        #expect(runs.allSatisfy { $0 > 0 } && runs.reduce(0, +) < 512, "\(runs)")
    }

    /// Runs are claimed one by one until the shares forbid it.
    private func claimed(_ wishes: [(owner: ID, host: String)], of limit: Int, jobs: Int = 1) -> [Int] {
        var held: [CronShares.Holder] = []
        return wishes.map { wish in
            let ids = (0..<jobs).map { _ in ID(at: .now()) }
            var count = 0
            while held.count < limit {
                let shares = CronShares(held, free: limit - held.count)
                let job = ids.first { !shares.jobs.contains($0.description) }
                guard let job, !shares.owners.contains(wish.owner.description) else { break }
                held.append(.init(owner: wish.owner, job: job, url: "http://\(wish.host)/"))
                count += 1
            }
            return count
        }
    }

    @Test func cronJobsLeaveSomethingToEveryOwnerAndHost() {
        let (a, b) = (ID(at: .now()), ID(at: .now()))
        #expect(claimed([(a, "one"), (a, "two"), (a, "three"), (b, "one"), (b, "two")], of: 512) == [192, 48, 12, 98, 24])
        #expect(claimed([(a, "one"), (a, "two")], of: 512, jobs: 10) == [201, 51], "each further job of a host gets one in")
    }
}
