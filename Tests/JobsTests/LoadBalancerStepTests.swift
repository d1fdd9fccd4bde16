// Single steps of a load balancer's job, run by hand: whatever was done before a crash is found again.
import API
import Docker
import HTTP
import Postgres
import TestSupport
import Testing

@testable import Jobs

@Suite(.serialized)
struct LoadBalancerStepTests {
    private static let quiet: Result<Bench, any Error> = Result {
        try StandInImages.prepare(["haproxy:2.8-alpine"])
        return try Bench("balancers", pool: "10.122.0.0/16")
    }

    let bench: Bench
    let cloud: TestCloud
    let owner: Owner
    let engine: Engine
    let port: Int
    let id: ID

    init() throws {
        bench = try Self.quiet.get()
        cloud = try bench.cloud()
        owner = try cloud.newOwner()
        engine = try #require(Engine())
        port = try cloud.freePort()
        let body: JSON = ["name": "web", "vpc_id": .string(try cloud.vpc(of: owner)), "port": .int(port)]
        let answer = cloud.call(.post, "/loadbalancers", key: owner.key, json: body)
        id = try #require(answer["data"]?["id"]?.string.flatMap { ID($0) }, "\(answer)")
    }

    private var name: String { bench.names.name("loadbalancer", id) }
    private var shown: JSON { cloud.call(.get, "/loadbalancers/\(id)", key: owner.key)["data"] ?? .null }

    private func step() throws -> Job.Outcome { try LoadBalancerJob.job.run(try bench.workbench(), id.description) }

    private func converge() throws {
        for _ in 0..<50 where try step() == .done { return }
        throw Unexpected(description: "the load balancer's job never ends")
    }

    private func delete() throws {
        #expect(cloud.call(.delete, "/loadbalancers/\(id)", key: owner.key).status == 200)
        try converge()
        #expect(shown == .null)
        #expect(throws: EngineError.notFound) { try engine.inspect(name) }
    }

    @Test func everyStepMayBeTheLast() throws {
        // Made, and nobody has started it.
        #expect(try step() == .again(seconds: 0))
        #expect(try engine.inspect(name).state == .created)
        #expect(shown["status"] == "CREATING")
        #expect(try step() == .again(seconds: 0))
        try converge()
        #expect(shown["status"] == "ACTIVE")
        let (present, row) = (try engine.inspect(name), shown)
        let log = try engine.logs(name).text
        try converge()
        #expect(try engine.inspect(name) == present)
        #expect(shown["updated_at"] == row["updated_at"])
        #expect(try engine.logs(name).text == log, "nothing was changed")
        // Ended: started again, with what it had.
        try engine.kill(name)
        #expect(try engine.wait(name, timeout: 60_000) != nil)
        try converge()
        #expect(try engine.inspect(name).state == .running && shown["status"] == "ACTIVE")
        try delete()
        try converge()
    }

    @Test func aPortThatSomebodyTookIsAnErrorUntilItIsFree() throws {
        try withExtendedLifetime(try Squatter(port: port)) {
            try converge()
            #expect(
                shown["status"] == "ERROR" && shown["status_reason"]?.string == "Host port \(port) is in use on this machine",
                "\(shown.text)")
            // It waits: a container that is taken away would be heard of, and tried again at once.
            let waiting = try engine.inspect(name)
            #expect(waiting.state == .created)
            try converge()
            #expect(try engine.inspect(name).id == waiting.id)
            #expect(!LoadBalancerJob.watched.isSettled("ACTIVE", "ERROR", .created))
        }
        try converge()
        #expect(shown["status"] == "ACTIVE" && shown["status_reason"] == .null, "\(shown.text)")
        try delete()
    }

    @Test func whatHasNoRowIsRemoved() throws {
        try converge()
        try cloud.admin("delete from load_balancers where id = \(id)")
        try converge()
        #expect(throws: EngineError.notFound) { try engine.inspect(name) }
    }

    /// It keeps ending: the pauses grow, and from the fifth time on it is told.
    @Test func onePauseAfterTheOther() throws {
        try converge()
        try cloud.admin("update load_balancers set restarts = 5 where id = \(id)")
        try engine.kill(name)
        #expect(try engine.wait(name, timeout: 60_000) != nil)
        guard case .again(let seconds) = try step() else { throw Unexpected(description: "it should wait") }
        #expect(seconds > 0 && seconds <= 8)
        #expect(shown["status"] == "ERROR" && shown["status_reason"]?.string == "The proxy keeps ending: it ended with exit code 137")
        #expect(try engine.inspect(name).state == .exited)
        try delete()
    }
}
