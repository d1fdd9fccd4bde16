// Groups with all threads of thecloud-cron at work: real members behind a real load balancer.
import API
import Docker
import HTTP
import Postgres
import TestSupport
import Testing

@testable import Jobs

struct GroupLifeTests {
    let bench: Bench
    let cloud: TestCloud
    let owner: Owner
    let engine: Engine
    let vpc: String

    init() throws {
        try StandInImages.prepare(["haproxy:2.8-alpine"])
        bench = try Rig.shared.get().bench
        cloud = try bench.cloud()
        owner = try cloud.newOwner()
        engine = try #require(Engine())
        vpc = try cloud.vpc(of: owner)
    }

    private func create(_ path: String, _ body: JSON) throws -> String {
        let answer = cloud.call(.post, path, key: owner.key, json: body)
        return try #require(answer["data"]?["id"]?.string, "\(answer)")
    }

    private func shown(_ path: String) -> JSON { cloud.call(.get, path, key: owner.key)["data"] ?? .null }

    private func running(_ path: String) -> [String] {
        (shown(path)["instances"]?.array ?? []).filter { $0["status"] == "RUNNING" }.compactMap { $0["id"]?.string }
    }

    private func health(_ balancer: String) -> [String] {
        (cloud.call(.get, "/loadbalancers/\(balancer)/targets", key: owner.key)["data"]?.array ?? []).compactMap { $0["health"]?.string }
    }

    @Test func membersServeAndAreReplaced() throws {
        let port = try cloud.freePort()
        let balancer = try create("/loadbalancers", ["name": "lb", "vpc_id": .string(vpc), "port": .int(port)])
        let path =
            "/autoscaling/groups/"
            + (try create(
                "/autoscaling/groups",
                [
                    "name": "web", "vpc_id": .string(vpc), "image": "thecloud-test-busybox", "instance_type": "micro", "min_instances": 1,
                    "max_instances": 4, "desired_count": 3, "load_balancer_id": .string(balancer), "target_port": 80,
                    "command": "echo well >/tmp/index.html; exec httpd -f -p 80 -h /tmp",
                ]))
        try eventually("three run", holds: { running(path).count == 3 && shown(path)["status"] == "ACTIVE" })
        try eventually("all three are up", holds: { health(balancer) == ["UP", "UP", "UP"] })
        let load = Load(port: port, threads: 2)
        let first = running(path)

        // One whose container is removed is itself again; one that is deleted is replaced.
        try engine.remove(bench.names.instance(try #require(ID(first[0]))), force: true)
        #expect(cloud.call(.put, "/instances/\(first[1])", key: owner.key, json: ["status": "STOPPED"]).status == 200)
        try eventually("another one runs", holds: { running(path).count == 3 && !running(path).contains(first[1]) })
        try eventually("all three are up", holds: { health(balancer) == ["UP", "UP", "UP"] })
        #expect(cloud.call(.put, path, key: owner.key, json: ["desired_count": 1]).status == 200)
        try eventually("one is left", holds: { shown(path)["instances"]?.array?.count == 1 && shown(path)["status"] == "ACTIVE" })
        #expect(health(balancer) == ["UP"])
        #expect(load.stop().areOnlyThose(inFlightAt: 2))

        #expect(cloud.call(.delete, path, key: owner.key).status == 200)
        try eventually("it is gone", holds: { shown(path) == .null })
        #expect(cloud.call(.get, "/instances", key: owner.key)["data"] == [])
        #expect(cloud.call(.delete, "/loadbalancers/\(balancer)", key: owner.key).status == 200)
        try eventually("the load balancer is gone", holds: { shown("/loadbalancers/\(balancer)") == .null })
    }

    /// What the engine's statistics say of a member that burns all it has.
    @Test func aBurningMemberMakesTheGroupGrow() throws {
        let path =
            "/autoscaling/groups/"
            + (try create(
                "/autoscaling/groups",
                [
                    "name": "burn", "vpc_id": .string(vpc), "image": "thecloud-test-busybox", "instance_type": "nano", "min_instances": 1,
                    "max_instances": 2, "desired_count": 1, "command": "while true; do :; done",
                ]))
        // Ten percent are reached on the busiest machine.
        _ = try create(path + "/policies", ["metric": "cpu", "target": 10])
        try eventually("one runs", holds: { running(path).count == 1 })
        let workbench = try bench.workbench()
        let readings = CoreReadings(bench: workbench)
        let round = ScalingRound(bench: workbench, cores: readings.percent)
        try eventually(
            "there are to be two",
            holds: {
                readings.beginRound()
                try round.run()
                return shown(path)["desired_count"] == 2
            })
        try eventually("two run", holds: { running(path).count == 2 })
        #expect(cloud.call(.delete, path, key: owner.key).status == 200)
        try eventually("it is gone", holds: { shown(path) == .null })
    }
}
