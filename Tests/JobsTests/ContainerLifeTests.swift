// Instances from the wish to the container, with all threads of thecloud-cron at work: what a client sees, and what the engine says.
import API
import Docker
import HTTP
import Postgres
import TestSupport
import Testing

@testable import Jobs

struct ContainerLifeTests {
    let bench: Bench
    let cloud: TestCloud
    let owner: Owner
    let engine: Engine

    init() throws {
        bench = try Rig.shared.get().bench
        cloud = try bench.cloud()
        owner = try cloud.newOwner()
        engine = try #require(Engine())
    }

    private static let forever = "trap 'exit 0' TERM; while true; do sleep 0.05; done"

    private func create(_ name: String, command: JSON = .string(forever), _ members: KeyValuePairs<String, JSON> = [:]) throws -> ID {
        let body: JSON = ["name": .string(name), "instance_type": "nano", "command": command]
        let image: JSON = members.contains { $0.key == "image" } ? [:] : ["image": "thecloud-test-busybox"]
        guard case .object(let usual) = body.adding(members), case .object(let further) = image else { throw Unexpected(description: name) }
        let answer = cloud.call(.post, "/instances", key: owner.key, json: .object(usual + further))
        return try #require(answer["data"]?["id"]?.string.flatMap { ID($0) }, "\(answer)")
    }

    private func wish(_ id: ID, _ status: String) {
        #expect(cloud.call(.put, "/instances/\(id)", key: owner.key, json: ["status": .string(status)]).status == 200)
    }

    @discardableResult
    private func awaited(_ id: ID, _ status: String, sourceLocation: SourceLocation = #_sourceLocation) throws -> JSON {
        try eventually("\(id) is \(status)", sourceLocation: sourceLocation) {
            let answer = cloud.call(.get, "/instances/\(id)", key: owner.key)
            let isThere = status == "gone" ? answer.status == 404 : answer["data"]?["status"]?.string == status
            return isThere ? .some(answer["data"] ?? .null) : .none
        }
    }

    private func container(_ id: ID) throws -> Container { try engine.inspect(bench.names.instance(id)) }

    @Test func aWholeLife() throws {
        let id = try create(
            "web", command: .string("echo $GREETING; \(Self.forever)"), ["ports": "0:8080", "env": ["GREETING": "a secret 'greeting'"]])
        let running = try awaited(id, "RUNNING")
        var present = try container(id)
        #expect(
            present.state == .running && present.labels["thecloud.owner"] == owner.id && present.labels["thecloud.id"] == id.description)
        #expect(running["private_ip"]?.string == present.addresses.values.first)
        #expect(running["ports"]?.string == present.ports.first.map { "\($0.hostPort):8080" })
        let logs = try eventually("the log") {
            let answer = cloud.call(.get, "/instances/\(id)/logs?tail=1", key: owner.key)
            return answer["data"]?["logs"] == "" ? nil : answer
        }
        expect(logs, 200, #"{"data": {"logs": "a secret 'greeting'\n", "is_truncated": false}}"#)
        let stats = cloud.call(.get, "/instances/\(id)/stats", key: owner.key)
        #expect(stats.status == 200 && stats["data"]?["memory_limit_bytes"] == .int(64 << 20), "\(stats)")

        wish(id, "PAUSED")
        try awaited(id, "PAUSED")
        #expect(try container(id).state == .paused)
        wish(id, "RUNNING")
        try awaited(id, "RUNNING")
        wish(id, "STOPPED")
        let stopped = try awaited(id, "STOPPED")
        #expect(try container(id).state == .exited && stopped["private_ip"] == .null)
        #expect(cloud.call(.get, "/instances/\(id)/stats", key: owner.key).code == "CONFLICT")
        wish(id, "RUNNING")
        try awaited(id, "RUNNING")
        present = try container(id)
        #expect(present.state == .running)

        #expect(cloud.call(.delete, "/instances/\(id)", key: owner.key).status == 200)
        try awaited(id, "gone")
        #expect(throws: EngineError.notFound) { try container(id) }
        try eventually("the job is settled", holds: { try cloud.admin("select 1 from jobs where subject = \(id.description)").isEmpty })
    }

    @Test func aKilledContainerIsStartedAgain() throws {
        let id = try create("web")
        try awaited(id, "RUNNING")
        let first = try container(id).startedAt
        try engine.kill(bench.names.instance(id))
        try eventually(
            "it runs again",
            holds: {
                let present = try container(id)
                return present.state == .running && present.startedAt != first
            })
        try awaited(id, "RUNNING")
    }

    @Test func aRemovedContainerIsMadeAgain() throws {
        let id = try create("web")
        try awaited(id, "RUNNING")
        let first = try container(id).id
        try engine.remove(bench.names.instance(id), force: true)
        try eventually("another one runs", holds: { (try? container(id)).map { $0.id != first && $0.state == .running } ?? false })
    }

    @Test func whatKeepsEndingIsGivenUp() throws {
        let id = try create("web", command: "exit 3")
        let given = try awaited(id, "ERROR")
        #expect(given["status_reason"] == "its command ended with exit code 3")
        #expect(cloud.call(.delete, "/instances/\(id)", key: owner.key).status == 200)
        try awaited(id, "gone")
    }

    @Test func anImageThatIsNowhereIsAnError() throws {
        let id = try create("web", ["image": "localhost:1/nowhere/nothing:0"])
        let given = try awaited(id, "ERROR")
        #expect(
            given["status_reason"]?.string?.hasPrefix("The image localhost:1/nowhere/nothing:0 can't be pulled: ") == true, "\(given.text)")
    }

    @Test func aCommandThatIsNowhereIsAnError() throws {
        let id = try create("web", command: ["/no/such/program"])
        let given = try awaited(id, "ERROR")
        #expect(given["status_reason"] == "its command ended with exit code 127", "\(given.text)")
        wish(id, "STOPPED")
        try awaited(id, "STOPPED")
    }

    /// Made with the first instance, shared by the owner's own, never with anybody else's, removed with the last.
    @Test func theDefaultNetwork() throws {
        let stranger = try cloud.newOwner()
        let (first, second) = (try create("first"), try create("second"))
        let foreign = cloud.call(
            .post, "/instances", key: stranger.key,
            json: ["name": "theirs", "image": "thecloud-test-busybox", "instance_type": "nano", "command": .string(Self.forever)])
        let theirs = try #require(foreign["data"]?["id"]?.string.flatMap { ID($0) })
        for id in [first, second] { try awaited(id, "RUNNING") }
        try eventually(
            "theirs runs",
            holds: {
                cloud.call(.get, "/instances/\(theirs)", key: stranger.key)["data"]?["status"] == "RUNNING"
            })
        let networks = try [first, second, theirs].map { Set(try container($0).addresses.keys) }
        #expect(networks[0] == networks[1] && networks[0].count == 1 && networks[0].isDisjoint(with: networks[2]))
        let name = try #require(networks[0].first)
        #expect(cloud.call(.delete, "/instances/\(first)", key: owner.key).status == 200)
        try awaited(first, "gone")
        _ = try engine.inspectNetwork(name)
        #expect(cloud.call(.delete, "/instances/\(second)", key: owner.key).status == 200)
        try awaited(second, "gone")
        try eventually("the network is gone", holds: { (try? engine.inspectNetwork(name)) == nil })
        #expect(cloud.call(.delete, "/instances/\(theirs)", key: stranger.key).status == 200)
    }

    /// Under any name: what counts is the label of this installation.
    @Test(arguments: [false, true])
    func aContainerWithoutARowIsRemoved(isRenamed: Bool) throws {
        let id = ID(at: .now())
        let name = isRenamed ? "thecloud-test-orphan-\(id)" : bench.names.instance(id)
        var spec = ContainerSpec(
            name: name, image: try #require(ImageReference("thecloud-test-busybox")),
            limits: .init(nanoCPUs: 500_000_000, memory: 64 << 20, pids: 16),
            labels: bench.names.labels(kind: "instance", id: id, owner: ID(at: .now())), command: ["sh", "-c", Self.forever])
        spec.hostname = "orphan"
        try engine.start(try engine.createContainer(spec))
        try eventually("the orphan is gone", holds: { (try? engine.inspect(name)) == nil })
    }

    @Test func theSystemIsReady() {
        expect(
            cloud.call(.get, "/health/ready"), 200,
            #"{"status": "UP", "checks": {"database": "CONNECTED", "docker": "CONNECTED"}, "time": "$time"}"#)
    }
}
