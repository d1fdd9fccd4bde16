// Load balancers with all threads of thecloud-cron at work: targets come, go and die while requests go on.
import API
import Docker
import HTTP
import Postgres
import TestSupport
import Testing

@testable import Jobs

struct LoadBalancerLifeTests {
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
        return try #require((answer["data"]?["id"] ?? answer["data"]?["instance_id"])?.string, "\(answer)")
    }

    /// Answers its name.
    private func instance(_ name: String) throws -> String {
        try create(
            "/instances",
            [
                "name": .string(name), "image": "thecloud-test-busybox", "instance_type": "micro", "vpc_id": .string(vpc),
                "command": .string("echo \(name) >/tmp/index.html; exec httpd -f -p 80 -h /tmp"),
            ])
    }

    private func add(_ instance: String, to balancer: String) throws {
        _ = try create("/loadbalancers/\(balancer)/targets", ["instance_id": .string(instance), "port": 80])
    }

    private func health(_ balancer: String) -> [String: String] {
        let targets = cloud.call(.get, "/loadbalancers/\(balancer)/targets", key: owner.key)["data"]?.array ?? []
        return Dictionary(
            targets.map { ($0["instance_name"]?.string ?? "", $0["health"]?.string ?? "") }, uniquingKeysWith: { first, _ in first })
    }

    private func shown(_ balancer: String) -> JSON { cloud.call(.get, "/loadbalancers/\(balancer)", key: owner.key)["data"] ?? .null }

    private func proxy(_ balancer: String) throws -> Container {
        try engine.inspect(bench.names.name("loadbalancer", try #require(ID(balancer))))
    }

    @Test func targetsComeAndGoAndNoRequestFails() throws {
        let port = try cloud.freePort()
        let balancer = try create("/loadbalancers", ["name": "web", "vpc_id": .string(vpc), "port": .int(port)])
        let (one, two) = (try instance("one"), try instance("two"))
        for target in [one, two] { try add(target, to: balancer) }
        try eventually("both are up", holds: { health(balancer) == ["one": "UP", "two": "UP"] })
        #expect(shown(balancer)["status"] == "ACTIVE")
        #expect(shown(balancer)["private_ip"]?.string == (try proxy(balancer).addresses.values.first))

        let load = Load(port: port)
        func awaitShares(_ names: [String]) throws {
            let before = load.bodies
            try eventually(
                "requests for \(names)", holds: { names.allSatisfy { load.bodies[$0 + "\n"] ?? 0 > (before[$0 + "\n"] ?? 0) + 10 } })
        }
        try awaitShares(["one", "two"])
        // One that dies, and is back by itself.
        try engine.kill(bench.names.instance(try #require(ID(one))))
        try awaitShares(["two"])
        try awaitShares(["one", "two"])
        // One that is stopped by its owner.
        #expect(cloud.call(.put, "/instances/\(one)", key: owner.key, json: ["status": "STOPPED"]).status == 200)
        try eventually("one is offline", holds: { health(balancer) == ["one": "OFFLINE", "two": "UP"] })
        #expect(cloud.call(.put, "/instances/\(one)", key: owner.key, json: ["status": "RUNNING"]).status == 200)
        try eventually("one is up again", holds: { health(balancer) == ["one": "UP", "two": "UP"] })
        // One that is taken away.
        #expect(cloud.call(.delete, "/loadbalancers/\(balancer)/targets/\(two)", key: owner.key).status == 200)
        try awaitShares(["one"])
        #expect(cloud.call(.put, "/loadbalancers/\(balancer)", key: owner.key, json: ["algorithm": "least-conn"]).status == 200)
        try eventually(
            "two gets nothing",
            holds: {
                let before = load.bodies["two\n"]
                try awaitShares(["one"])
                return load.bodies["two\n"] == before
            })
        #expect(load.stop().areOnlyThose(inFlightAt: 2))

        #expect(cloud.call(.delete, "/instances/\(one)", key: owner.key).status == 200)
        try eventually(
            "none is left",
            holds: {
                let answer = Requester(port: port, keepsConnection: false).get("/")
                return answer?.status == 503 && answer?.body.contains(#""error_code":"UNAVAILABLE""#) == true
            })
        #expect(cloud.call(.delete, "/loadbalancers/\(balancer)", key: owner.key).status == 200)
        try eventually("it is gone", holds: { shown(balancer) == .null })
        #expect(throws: EngineError.notFound) { try proxy(balancer) }
        #expect(try cloud.admin("select 1 from host_ports where host_port = \(port)").isEmpty)
    }

    @Test func aProxyThatDiesIsBack() throws {
        let port = try cloud.freePort()
        let balancer = try create("/loadbalancers", ["name": "web", "vpc_id": .string(vpc), "port": .int(port)])
        try eventually("it is active", holds: { shown(balancer)["status"] == "ACTIVE" })
        let first = try proxy(balancer)
        try engine.kill(first.id)
        try eventually("it answers again", holds: { Requester(port: port, keepsConnection: false).get("/")?.status == 503 })
        #expect(try proxy(balancer).startedAt != first.startedAt)
        try engine.remove(first.id, force: true)
        try eventually("another one answers", holds: { Requester(port: port, keepsConnection: false).get("/")?.status == 503 })
        try eventually("it is active", holds: { shown(balancer)["status"] == "ACTIVE" })
        #expect(try proxy(balancer).id != first.id)
        #expect(cloud.call(.delete, "/loadbalancers/\(balancer)", key: owner.key).status == 200)
        try eventually("it is gone", holds: { shown(balancer) == .null })
    }
}
