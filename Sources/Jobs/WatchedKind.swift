// A kind of resource whose containers are watched: EngineWatch wishes its job when a container is not as its row says, and for every
// container without a row.
import Docker
import Postgres

struct WatchedKind: Sendable {
    /// The label `thecloud.kind` of its containers, and the kind of its job, whose subject is the row's id.
    let kind: String
    /// A select of id, wish and status of the rows that should have a container, or have one of these ids.
    let rows: @Sendable (_ ids: [String]) -> SQL
    /// Whether there is nothing to do; state is `nil` where there is no container.
    let isSettled: @Sendable (_ wish: String, _ status: String, _ state: ContainerState?) -> Bool

    /// All that there are.
    static let all: [WatchedKind] = [InstanceJob.watched, CacheJob.watched, LoadBalancerJob.watched]
}
