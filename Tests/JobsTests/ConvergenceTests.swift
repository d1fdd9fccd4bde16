// Single steps of an instance's job, run by hand where the threads of thecloud-cron would be too quick: ports and blocks that others took.
import API
import Docker
import HTTP
import Postgres
import TestSupport
import Testing

@testable import Jobs

@Suite(.serialized)
struct ConvergenceTests {
    private static let quiet: Result<Bench, any Error> = Result { try Bench("quiet", pool: "10.126.0.0/16") }

    let bench: Bench
    let cloud: TestCloud
    let owner: Owner
    let engine: Engine

    init() throws {
        bench = try Self.quiet.get()
        cloud = try bench.cloud()
        owner = try cloud.newOwner()
        engine = try #require(Engine())
    }

    private func create(ports: String) throws -> ID {
        let answer = cloud.call(
            .post, "/instances", key: owner.key,
            json: [
                "name": "web", "image": "thecloud-test-busybox", "instance_type": "nano", "ports": .string(ports),
                "command": ["sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.05; done"],
            ])
        return try #require(answer["data"]?["id"]?.string.flatMap { ID($0) }, "\(answer)")
    }

    private func shown(_ id: ID) -> JSON { cloud.call(.get, "/instances/\(id)", key: owner.key)["data"] ?? .null }

    private func isWishedBySweep(_ id: ID) throws -> Bool {
        try cloud.admin("delete from jobs where subject = \(id.description)")
        let workbench = try bench.workbench()
        try EngineWatch(bench: workbench, isStopping: { false }).sweep()
        return try !workbench.connection.begin().commit("select 1 from jobs where subject = \(id.description)").isEmpty
    }

    private func delete(_ id: ID) throws {
        #expect(cloud.call(.delete, "/instances/\(id)", key: owner.key).status == 200)
        try bench.converge(id.description)
        #expect(shown(id) == .null)
    }

    @Test func aPickedPortThatSomebodyTookIsExchanged() throws {
        let id = try create(ports: "0:8080,0:8081")
        let picked = try #require(shown(id)["ports"]?.string)
        let squatter = try Squatter(port: try #require(Int(picked.prefix { $0 != ":" })))
        try bench.converge(id.description)
        let now = shown(id)
        #expect(now["status"] == "RUNNING" && now["ports"]?.string != picked, "\(now.text)")
        let published = try engine.inspect(bench.names.instance(id)).ports.filter { $0.hostAddress?.contains(":") != true }
        #expect(now["ports"]?.string == published.map { "\($0.hostPort):\($0.containerPort)" }.joined(separator: ","))
        #expect(!published.contains { $0.hostPort == squatter.port })
        try delete(id)
    }

    @Test func aNamedPortThatSomebodyTookIsAnErrorUntilItIsFree() throws {
        let free = try Squatter().port
        let id = try create(ports: "\(free):8080")
        try withExtendedLifetime(try Squatter(port: free)) {
            try bench.converge(id.description)
            #expect(shown(id)["status"] == "ERROR")
            #expect(shown(id)["status_reason"]?.string?.hasPrefix("A host port is in use on this machine") == true)
            // It waits: a container that is taken away would be heard of, and tried again at once.
            let waiting = try engine.inspect(bench.names.instance(id))
            #expect(waiting.state == .created)
            try bench.converge(id.description)
            #expect(try engine.inspect(bench.names.instance(id)).id == waiting.id)
        }
        #expect(try isWishedBySweep(id))
        try cloud.admin("update instances set restarts = 6 where id = \(id)")
        #expect(try !isWishedBySweep(id), "one that kept ending is given up")
        try bench.converge(id.description)
        #expect(shown(id)["status"] == "RUNNING" && shown(id)["status_reason"] == .null, "\(shown(id).text)")
        try delete(id)
    }

    @Test func aPortInUseIsRefusedAtOnce() throws {
        let squatter = try Squatter()
        let answer = cloud.call(
            .post, "/instances", key: owner.key,
            json: ["name": "web", "image": "thecloud-test-busybox", "ports": .string("\(squatter.port):80")])
        expect(answer, 409, error: "conflict", "CONFLICT", "Host port \(squatter.port) is in use on this machine")
    }

    /// The first block of the pool is somebody else's on this engine, or the first half of it.
    @Test(arguments: [("10.126.0.0/24", 1...1), ("10.126.0.0/17", 128...255)])
    func aRefusedBlockLeadsToTheNext(taken: String, expected: ClosedRange<Int>) throws {
        let label = ["thecloud.stack": bench.names.stack.description, "thecloud.test": "foreign"]
        let foreign = try engine.createNetwork(name: "thecloud-test-\(ID(at: .now()))", subnet: taken, labels: label)
        defer { try? engine.removeNetwork(foreign) }
        let id = try create(ports: "")
        try bench.converge(id.description)
        #expect(shown(id)["status"] == "RUNNING")
        let address = try #require(shown(id)["private_ip"]?.string?.split(separator: ".").compactMap { Int($0) })
        #expect(address.starts(with: [10, 126]) && expected.contains(address[2]), "\(address)")
        try delete(id)
    }

    /// However often and wherever it was interrupted: a run more changes nothing.
    @Test func runningAJobTwiceDoesNoHarm() throws {
        let id = try create(ports: "0:80")
        try bench.converge(id.description)
        // As text: parsed JSON has no order of members.
        func text() -> String { cloud.call(.get, "/instances/\(id)", key: owner.key).text }
        let (first, row) = (try engine.inspect(bench.names.instance(id)), text())
        try bench.converge(id.description)
        #expect(try engine.inspect(bench.names.instance(id)) == first)
        #expect(text() == row)
        try delete(id)
        try bench.converge(id.description)
    }

    @Test func whatWasStoppedBeforeItStartedHasNoContainer() throws {
        let id = try create(ports: "")
        #expect(cloud.call(.put, "/instances/\(id)", key: owner.key, json: ["status": "STOPPED"]).status == 200)
        try bench.converge(id.description)
        #expect(shown(id)["status"] == "STOPPED")
        #expect(throws: EngineError.notFound) { try engine.inspect(bench.names.instance(id)) }
        try delete(id)
    }

    @Test func otherInstallationsAreLeftAlone() throws {
        let id = try create(ports: "")
        try bench.converge(id.description)
        let workbench = try Rig.shared.get().bench.workbench()
        try EngineWatch(bench: workbench, isStopping: { false }).sweep()
        let wished = try Rig.shared.get().bench.database.administrator().begin().commit(
            "select 1 from jobs where subject = \(id.description)")
        #expect(wished.isEmpty)
        #expect(try engine.inspect(bench.names.instance(id)).state == .running)
        try delete(id)
    }
}
