// Groups step by step, with a clock of the test's own and without an engine: members are what the test says of their rows.
import API
import HTTP
import Postgres
import Synchronization
import TestSupport
import Testing

@testable import Jobs

private final class Clock: Sendable {
    private let time = Mutex(Timestamp.now())

    var now: Timestamp { time.withLock { $0 } }

    func advance(seconds: Int) { time.withLock { $0 = $0.advanced(seconds: seconds) } }
}

struct GroupStepTests {
    private static let quiet: Result<Bench, any Error> = Result { try Bench("groups", pool: "10.120.0.0/16") }

    private let bench: Bench
    private let cloud: TestCloud
    private let owner: Owner
    private let clock = Clock()
    private let workbench: Workbench

    init() throws {
        bench = try Self.quiet.get()
        cloud = try bench.cloud()
        owner = try cloud.newOwner()
        let clock = clock
        var workbench = try bench.workbench()
        workbench.now = { clock.now }
        self.workbench = workbench
    }

    private func create(_ more: KeyValuePairs<String, JSON> = [:]) throws -> ID {
        let usual: JSON = [
            "name": "web", "vpc_id": .string(try cloud.vpc(of: owner)), "image": "nginx", "instance_type": "nano", "min_instances": 1,
            "max_instances": 8, "ports": "0:80",
        ]
        let answer = cloud.call(
            .post, "/autoscaling/groups", key: owner.key,
            json: more.contains { $0.key == "desired_count" } ? usual.adding(more) : usual.adding(["desired_count": 2]).adding(more))
        return try #require(answer["data"]?["id"]?.string.flatMap { ID($0) }, "\(answer)")
    }

    private func shown(_ id: ID) -> JSON { cloud.call(.get, "/autoscaling/groups/\(id)", key: owner.key)["data"] ?? .null }

    @discardableResult
    private func step(_ id: ID) throws -> Job.Outcome { try ScalingGroupJob.job.run(workbench, id.description) }

    private func members(_ id: ID) -> [ID] {
        (shown(id)["instances"]?.array ?? []).filter { $0["status"] != "TERMINATING" }.compactMap { $0["id"]?.string.flatMap { ID($0) } }
    }

    /// What the members' own jobs would do: those that are wanted run, those that are to go are gone.
    private func settleMembers(_ id: ID, status: String = "RUNNING", reason: String? = nil) throws {
        try cloud.admin("delete from instances where group_id = \(id) and desired = 'DELETED'")
        try cloud.admin("update instances set status = \(status), status_reason = \(reason) where group_id = \(id)")
    }

    @Test func membersComeAndGo() throws {
        let id = try create(["env": ["A": "secret"]])
        #expect(try step(id) == .done)
        let first = members(id)
        #expect(first.count == 2 && shown(id)["status"] == "SCALING")
        try settleMembers(id)
        #expect(try step(id) == .done)
        #expect(shown(id)["status"] == "ACTIVE" && members(id) == first)

        // Each is an instance like any, called after the group, with an environment and a picked port of its own.
        let instance = cloud.call(.get, "/instances/\(first[0])", key: owner.key)["data"] ?? .null
        #expect(instance["name"]?.string == "web-\(first[0].description.suffix(8))" && instance["env"] == ["A": "********"])
        #expect(instance["ports"]?.string?.wholeMatch(of: /[23]\d{4}:80/) != nil, "\(instance.text)")
        let sealed = try cloud.admin("select env_sealed from instances where id = \(first[0])").scalar([UInt8].self)
        #expect(try bench.config.keyring.openEnvironment(sealed, of: first[0]) == ["A": "secret"])
        #expect(try cloud.admin("select 1 from jobs where kind = 'instance' and subject = \(first[0].description)").count == 1)

        // One that is deleted by hand is replaced, once it is gone.
        #expect(cloud.call(.delete, "/instances/\(first[0])", key: owner.key).status == 200)
        #expect(try !cloud.admin("select 1 from jobs where kind = 'scaling_group' and subject = \(id.description)").isEmpty)
        try step(id)
        #expect(members(id) == [first[1]])
        try settleMembers(id)
        try step(id)
        #expect(members(id).count == 2 && members(id).contains(first[1]))

        // The numbers of its owner hold.
        try settleMembers(id)
        #expect(cloud.call(.put, "/autoscaling/groups/\(id)", key: owner.key, json: ["desired_count": 4]).status == 200)
        try step(id)
        try settleMembers(id)
        #expect(members(id).count == 4)
        #expect(cloud.call(.put, "/autoscaling/groups/\(id)", key: owner.key, json: ["desired_count": 1]).status == 200)
        try step(id)
        #expect(members(id) == [first[1]])

        #expect(cloud.call(.delete, "/autoscaling/groups/\(id)", key: owner.key).status == 200)
        try step(id)
        #expect(members(id) == [] && shown(id)["status"] == "TERMINATING")
        try settleMembers(id)
        try step(id)
        #expect(shown(id) == .null)
        try step(id)
    }

    @Test func whatCannotBeLaunchedIsTriedLaterEachTime() throws {
        let id = try create(["desired_count": 1])
        for failure in 1...5 {
            try step(id)
            #expect(members(id).count == 1, "attempt \(failure)")
            try settleMembers(id, status: "ERROR", reason: "The image nginx can't be pulled")
            try step(id)
            try settleMembers(id)
            #expect(try step(id) == .again(seconds: Double(GroupPlan.pause(after: failure))))
            #expect(members(id) == [], "it waits")
            clock.advance(seconds: GroupPlan.pause(after: failure) - 1)
            try step(id)
            #expect(members(id) == [], "it still waits")
            if failure < 5 { clock.advance(seconds: 1) }
        }
        let rested = shown(id)
        #expect(rested["status"] == "ERROR")
        #expect(
            rested["status_reason"]?.string?.hasPrefix("5 instances in a row failed; not tried again before 20") == true, "\(rested.text)")
        #expect(rested["status_reason"]?.string?.hasSuffix(": The image nginx can't be pulled") == true)
        // Its owner may have mended it: tried at once.
        #expect(cloud.call(.put, "/autoscaling/groups/\(id)", key: owner.key, json: ["min_instances": 0]).status == 200)
        try step(id)
        #expect(members(id).count == 1 && shown(id)["status"] == "SCALING")
        try settleMembers(id)
        try step(id)
        #expect(shown(id)["status"] == "ACTIVE")
    }

    @Test func aQuotaInTheWayIsTold() throws {
        let id = try create(["desired_count": 2])
        var small = workbench
        small = Workbench(
            config: try TestCloud.config(["THECLOUD_QUOTA_INSTANCES": "1"], url: bench.database.cron), connection: small.connection,
            engine: small.engine, names: small.names, now: small.now)
        #expect(try ScalingGroupJob.job.run(small, id.description) == .again(seconds: 1))
        #expect(members(id) == [])
        #expect(shown(id)["status_reason"] == "An instance failed: Quota exceeded: at most 1 instances")
        clock.advance(seconds: 1)
        try step(id)
        #expect(members(id).count == 2)
    }

    @Test func whoLeavesALoadBalancerFinishesFirst() throws {
        let balancer: JSON = ["name": "lb", "vpc_id": .string(try cloud.vpc(of: owner)), "port": .int(try cloud.freePort())]
        let made = cloud.call(.post, "/loadbalancers", key: owner.key, json: balancer)
        let lb = try #require(made["data"]?["id"], "\(made)")
        let id = try create(["load_balancer_id": lb])
        try step(id)
        try settleMembers(id)
        func targets() throws -> [String] {
            try cloud.admin(
                "select coalesce(array_agg(instance_id::text order by id), '{}') from load_balancer_targets where port = 80 and load_balancer_id = \(lb.string ?? "")::uuid"
            )
            .scalar([String].self) ?? []
        }
        let both = members(id)
        #expect(try targets() == both.map(\.description))
        #expect(cloud.call(.put, "/autoscaling/groups/\(id)", key: owner.key, json: ["desired_count": 1]).status == 200)
        #expect(try step(id) == .again(seconds: 10))
        #expect(try targets() == [both[0].description] && members(id) == both, "it has no target and still runs")
        clock.advance(seconds: 9)
        #expect(try step(id) == .again(seconds: 1))
        #expect(members(id) == both)
        clock.advance(seconds: 1)
        try step(id)
        #expect(members(id) == [both[0]])
    }

    @Test func policiesScaleOutAndInWithTheirCooldowns() throws {
        let id = try create(["desired_count": 2])
        let policy: JSON = ["metric": "cpu", "target": 50, "cooldown_seconds": 120]
        #expect(cloud.call(.post, "/autoscaling/groups/\(id)/policies", key: owner.key, json: policy).status == 201)
        try step(id)
        try settleMembers(id)
        // Of a quarter of a core, which a nano has.
        let cores = Mutex<Double?>(nil)
        let round = ScalingRound(bench: workbench) { _ in cores.withLock { $0 } }
        func rounds(_ count: Int, cores percent: Double?) throws -> JSON? {
            cores.withLock { $0 = percent }
            for _ in 0..<count { try round.run() }
            try step(id)
            try settleMembers(id)
            return shown(id)["desired_count"]
        }
        #expect(try rounds(5, cores: nil) == 2, "nothing is known")
        #expect(try rounds(1, cores: 12) == 2, "48 % is near enough")
        #expect(try rounds(1, cores: 20) == 4, "80 % of two are 50 % of 3.2")
        #expect(members(id).count == 4)
        clock.advance(seconds: 119)
        #expect(try rounds(3, cores: 25) == 4, "it rests")
        clock.advance(seconds: 1)
        #expect(try rounds(1, cores: 25) == 8, "100 % of four; not more than there may be")
        clock.advance(seconds: 120)
        #expect(try rounds(2, cores: 0) == 8, "two calm readings are not enough")
        #expect(try rounds(4, cores: nil) == 8, "no statistics are no calm")
        #expect(try rounds(2, cores: 0) == 8)
        #expect(try rounds(1, cores: 0) == 1, "three are")
        #expect(members(id).count == 1)
        let told = try cloud.admin(
            "select array_agg((data ->> 'from') || '-' || (data ->> 'to') order by id) from events where resource_id = \(id) and type = 'autoscaling.scaled'"
        ).scalar([String].self)
        #expect(told == ["2-4", "4-8", "8-1"])
        // What its owner says holds, until the policies say otherwise.
        #expect(
            cloud.call(.put, "/autoscaling/groups/\(id)", key: owner.key, json: ["desired_count": 3, "min_instances": 3]).status == 200)
        clock.advance(seconds: 120)
        #expect(try rounds(3, cores: 0) == 3)
    }
}
