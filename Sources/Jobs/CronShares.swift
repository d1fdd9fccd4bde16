// Who is given no further senders of cron jobs: an owner that holds as many as are free, and of an owner's part a host that would leave too little
// to the others. So whatever hangs, something is left for everybody else.
import HTTP
import Outbound

struct CronShares {
    /// Whose run a sender has, and where it leads.
    struct Holder: Hashable {
        let owner: ID
        let job: ID
        let host: String

        /// - Parameter url: of the target.
        init(owner: ID, job: ID, url: String) {
            self.owner = owner
            self.job = job
            host = (try? Target(url).authority) ?? ""
        }
    }

    /// Ids.
    let owners: [String]
    /// Ids of those whose runs are at a host that has its share.
    let jobs: [String]

    /// - Parameter free: senders that nobody holds.
    init(_ held: [Holder] = [], free: Int = .max) {
        let ofOwners = Dictionary(grouping: held, by: \.owner)
        owners = ofOwners.filter { $0.value.count >= free }.map(\.key.description)
        jobs = ofOwners.values.flatMap { own in
            let share = max((free - own.count) * 3 / 2, 1)
            let greedy = Dictionary(grouping: own, by: \.host).values.filter { $0.count >= share }
            return Set(greedy.joined().map(\.job)).map(\.description)
        }
    }
}
