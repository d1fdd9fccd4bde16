// What a load balancer promises, on the real proxy with real targets: who gets how much, who gets nothing, and that no change fails a request.
import Balancing
import Docker
import Glibc
import HTTP
import TestSupport
import Testing

struct TrafficTests {
    private func counts(_ lab: BalancerLab, _ requests: Int) throws -> [String: Int] {
        let requester = Requester(port: lab.port, keepsConnection: false)
        var counts: [String: Int] = [:]
        for _ in 0..<requests {
            let answer = try #require(requester.get("/"))
            counts["\(answer.status) \(answer.body)", default: 0] += 1
        }
        return counts
    }

    @Test func weightsAlgorithmAndHealth() throws {
        let lab = try BalancerLab()
        let (one, two) = (try lab.target("one"), try lab.target("two", weight: 3))
        try lab.startProxy(lab.configuration([one, two], path: "/health"))
        for target in [one, two] { try lab.await("healthy", of: target) { $0.isUp && $0.isChecked } }
        #expect(try counts(lab, 40) == ["200 one\n": 10, "200 two\n": 30])

        // One that says it is not well gets nothing, neither now nor under a new configuration.
        _ = try lab.engine.execute(["busybox", "rm", "/tmp/health"], in: lab.container(of: two))
        try lab.await("down", of: two) { !$0.isUp && $0.reason == "It answered with status 404" }
        #expect(try counts(lab, 10) == ["200 one\n": 10])
        try lab.console.apply(lab.configuration([one, two], .leastConnections, path: "/health"))
        #expect(try lab.console.state(port: lab.port).servers[two.id]?.isUp == false)
        #expect(try counts(lab, 10) == ["200 one\n": 10])
        _ = try lab.engine.execute(["sh", "-c", "echo well >/tmp/health"], in: lab.container(of: two))
        try lab.await("healthy again", of: two) { $0.isUp }

        // The one with a request at hand has the most connections for its weight, so the other gets the next.
        try lab.console.apply(lab.configuration([one, .init(id: two.id, address: two.address, port: 80, weight: 1)], .leastConnections))
        let slow = Load.one(port: lab.port, "/cgi-bin/slow")
        usleep(500_000)
        let busy = try counts(lab, 10)
        #expect(busy.count == 1 && busy.values.first == 10, "\(busy)")
        #expect(slow.value() == "200 slow\n")
    }

    @Test func noChangeFailsARequest() throws {
        let lab = try BalancerLab()
        let (one, two, three) = (try lab.target("one"), try lab.target("two"), try lab.target("three"))
        try lab.startProxy(lab.configuration([one, two]))
        for target in [one, two] { try lab.await("healthy", of: target) { $0.isUp && $0.isChecked } }
        let load = Load(port: lab.port)

        // One that is killed, and one that is added.
        try lab.engine.kill(lab.container(of: one))
        try lab.await("down", of: one) { !$0.isUp }
        let before = load.bodies["one\n"]
        try lab.console.apply(lab.configuration([one, two, three]))
        try lab.await("healthy", of: three) { $0.isUp }
        let share = load.bodies["three\n"] ?? 0
        while load.bodies["three\n"] ?? 0 < share + 20 { usleep(10_000) }
        #expect(load.bodies["one\n"] == before)

        // One that is not ready yet gets nothing.
        let nobody = ProxyConfiguration.Target(id: ID(at: .now()), address: three.address, port: 81, weight: 256)
        // Removed while it has a request: it may finish that.
        let slow = (0..<2).map { _ in Load.one(port: lab.port, "/cgi-bin/slow") }
        usleep(500_000)
        try lab.console.apply(lab.configuration([two, nobody]))
        try lab.console.apply(lab.configuration([two]))
        #expect(slow.map { $0.value() } == ["200 slow\n", "200 slow\n"])
        let removed = load.bodies["three\n"]
        for algorithm in [ProxyConfiguration.Algorithm.leastConnections, .roundRobin] {
            try lab.console.apply(lab.configuration([two], algorithm))
        }
        #expect(load.bodies["three\n"] == removed)
        #expect(load.stop().areOnlyThose(inFlightAt: 1))

        try lab.console.apply(lab.configuration([]))
        let answer = try #require(Requester(port: lab.port, keepsConnection: false).get("/"))
        let id = try #require(answer.headers.first { $0.hasPrefix("x-request-id: ") }?.dropFirst(14))
        #expect(answer.status == 503 && answer.headers.contains("content-type: application/json; charset=utf-8"))
        #expect(
            answer.body == """
                {"error":"unavailable","message":"No healthy target is left","code":503,"detail":"No healthy target is left",\
                "error_code":"UNAVAILABLE","status_code":503,"request_id":"\(id)","errors":[]}
                """)
    }
}
