// VPCs on the real engine: the networks behind them, who reaches whom, addresses, and what becomes of them when the engine or somebody
// at it has other ideas. Jobs are run by hand here; the last test has all threads of thecloud-cron at work.
import API
import Docker
import HTTP
import Postgres
import TestSupport
import Testing

@testable import Jobs

@Suite(.serialized)
struct VPCTests {
    private static let quiet: Result<Bench, any Error> = Result { try Bench("vpc_networks", pool: "10.124.0.0/20") }

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

    private static let forever = "trap 'exit 0' TERM; while true; do sleep 0.05; done"

    private func made(_ path: String, by owner: Owner? = nil, _ json: JSON) throws -> ID {
        let answer = cloud.call(.post, path, key: (owner ?? self.owner).key, json: json)
        return try #require(answer["data"]?["id"]?.string.flatMap { ID($0) }, "\(answer)")
    }

    private func shown(_ path: String, by owner: Owner? = nil) -> JSON {
        cloud.call(.get, path, key: (owner ?? self.owner).key)["data"] ?? .null
    }

    private func newVPC(by owner: Owner? = nil) throws -> (vpc: ID, subnet: ID) {
        let vpc = try made("/vpcs", by: owner, ["name": .string("v" + TestCloud.newEmail().prefix(18)), "cidr_block": "10.0.0.0/24"])
        return (vpc, try made("/vpcs/\(vpc)/subnets", by: owner, ["name": "s", "cidr_block": "10.0.0.64/26"]))
    }

    private func launch(_ name: String, by owner: Owner? = nil, command: String = forever, _ seat: KeyValuePairs<String, JSON>) throws -> ID
    {
        let body: JSON = [
            "name": .string(name), "image": "thecloud-test-busybox", "instance_type": "nano", "command": ["sh", "-c", .string(command)],
        ]
        let id = try made("/instances", by: owner, body.adding(seat))
        try bench.converge(id.description)
        return id
    }

    private func convergeVPC(_ id: ID) throws {
        let workbench = try bench.workbench()
        try eventually("the VPC's job is done", holds: { try VPCJob.job.run(workbench, id.description) == .done })
    }

    private func network(of vpc: ID) throws -> EngineNetwork { try engine.inspectNetwork(bench.names.network(vpc)) }

    private func container(_ id: ID) throws -> Container { try engine.inspect(bench.names.instance(id)) }

    @Test func aNetworkIsMadeAndRemoved() throws {
        let (vpc, subnet) = try newVPC()
        try convergeVPC(vpc)
        let (plan, part) = (shown("/vpcs/\(vpc)"), shown("/subnets/\(subnet)"))
        #expect(plan["status"] == "AVAILABLE")
        let first = try network(of: vpc)
        #expect(first.subnet == plan["network_cidr"]?.string && first.gateway == part["gateway_ip"]?.string)
        #expect(first.labels["thecloud.id"] == vpc.description && first.labels["thecloud.owner"] == owner.id)
        try convergeVPC(vpc)
        #expect(try network(of: vpc) == first, "once more changes nothing")

        let (inside, outside) = (
            try launch("inside", ["subnet_id": .string("\(subnet)")]), try launch("outside", ["vpc_id": .string("\(vpc)")])
        )
        let block = try #require(part["network_cidr"]?.string.flatMap { CIDR($0) })
        for (id, isIn) in [(inside, true), (outside, false)] {
            let address = try #require(shown("/instances/\(id)")["private_ip"]?.string)
            #expect(try container(id).addresses == [bench.names.network(vpc): address])
            #expect(block.contains(try #require(CIDR(address))) == isIn, "\(address) in \(block)")
        }
        for id in [inside, outside] {
            #expect(cloud.call(.delete, "/instances/\(id)", key: owner.key).status == 200)
            #expect(cloud.call(.delete, "/vpcs/\(vpc)", key: owner.key).status == 409, "until its container is gone, an instance counts")
            try bench.converge(id.description)
        }
        #expect(cloud.call(.delete, "/subnets/\(subnet)", key: owner.key).status == 200)
        #expect(cloud.call(.delete, "/vpcs/\(vpc)", key: owner.key).status == 200)
        #expect(try cloud.admin("select from networks where id = \(vpc)").count == 1, "the block is held as long as the engine has it")
        try convergeVPC(vpc)
        #expect(throws: EngineError.notFound) { try network(of: vpc) }
        #expect(try cloud.admin("select from networks where id = \(vpc)").isEmpty)
        try convergeVPC(vpc)
    }

    @Test func aRefusedBlockLeadsToTheNextAndSubnetsMoveAlong() throws {
        let (vpc, subnet) = try newVPC()
        let refused = try #require(shown("/vpcs/\(vpc)")["network_cidr"]?.string)
        let label = ["thecloud.stack": bench.names.stack.description, "thecloud.test": "foreign"]
        // Unless somebody has the block already.
        let foreign = try? engine.createNetwork(name: "thecloud-test-\(ID(at: .now()))", subnet: refused, labels: label)
        defer { if let foreign { try? engine.removeNetwork(foreign) } }
        let instance = try launch("web", ["subnet_id": .string("\(subnet)")])
        try convergeVPC(vpc)
        let block = try #require(shown("/vpcs/\(vpc)")["network_cidr"]?.string)
        let actual = try network(of: vpc).subnet
        #expect(block != refused && block == actual)
        #expect(shown("/subnets/\(subnet)")["network_cidr"]?.string == block.replacing(".0/24", with: ".64/26"))
        #expect(shown("/subnets/\(subnet)")["gateway_ip"]?.string == block.replacing(".0/24", with: ".1"))
        #expect(shown("/instances/\(instance)")["private_ip"]?.string == block.replacing(".0/24", with: ".65"))
    }

    @Test func whatTheEngineLostIsMadeAgain() throws {
        let (vpc, subnet) = try newVPC()
        try convergeVPC(vpc)
        let stopped = try launch("stopped", ["subnet_id": .string("\(subnet)")])
        let address = shown("/instances/\(stopped)")["private_ip"]
        #expect(cloud.call(.put, "/instances/\(stopped)", key: owner.key, json: ["status": "STOPPED"]).status == 200)
        try bench.converge(stopped.description)
        try engine.removeNetwork(bench.names.network(vpc))
        try cloud.admin("delete from jobs where subject = \(vpc.description)")
        try EngineWatch(bench: try bench.workbench(), isStopping: { false }).sweep()
        #expect(try cloud.admin("select from jobs where kind = 'vpc' and subject = \(vpc.description)").count == 1)
        try convergeVPC(vpc)
        #expect(cloud.call(.put, "/instances/\(stopped)", key: owner.key, json: ["status": "RUNNING"]).status == 200)
        try bench.converge(stopped.description)
        #expect(shown("/instances/\(stopped)")["status"] == "RUNNING" && shown("/instances/\(stopped)")["private_ip"] == address)
    }

    /// Somebody at the engine has put a container of their own into the network.
    @Test func aTakenAddressIsExchanged() throws {
        let (vpc, subnet) = try newVPC()
        try convergeVPC(vpc)
        let block = try #require(shown("/subnets/\(subnet)")["network_cidr"]?.string.flatMap { CIDR($0) })
        var spec = ContainerSpec(
            name: "thecloud-test-\(ID(at: .now()))", image: try #require(ImageReference("thecloud-test-busybox")),
            limits: .init(nanoCPUs: 250_000_000, memory: 32 << 20, pids: 16),
            labels: ["thecloud.stack": bench.names.stack.description, "thecloud.test": "foreign"], command: ["sh", "-c", Self.forever])
        spec.attachment = .init(network: bench.names.network(vpc), address: block.address(1))
        let foreign = try engine.createContainer(spec)
        try engine.start(foreign)
        defer { try? engine.remove(foreign, force: true) }
        let instance = try launch("web", ["subnet_id": .string("\(subnet)")])
        #expect(shown("/instances/\(instance)")["status"] == "RUNNING")
        #expect(shown("/instances/\(instance)")["private_ip"]?.string == block.address(2))
        #expect(try container(instance).addresses.values.first == block.address(2))
    }

    @Test func withoutAFreeBlockAVPCSaysSo() throws {
        let (vpc, _) = try newVPC()
        let number = Int.random(in: 0...126) * 2
        let (own, pool) = ("10.127.\(number).0/24", "10.127.\(number + 1).0/24")
        let small = try TestCloud.config(["THECLOUD_NETWORK_POOL": pool], url: bench.database.cron)
        let label = ["thecloud.stack": bench.names.stack.description, "thecloud.test": "foreign"]
        let foreign = [own, pool].compactMap {
            try? engine.createNetwork(name: "thecloud-test-\(ID(at: .now()))", subnet: $0, labels: label)
        }
        defer { for network in foreign { try? engine.removeNetwork(network) } }
        try cloud.admin("update networks set network_cidr = \(own)::cidr where id = \(vpc)")
        let workbench = Workbench(
            config: small, connection: Connection(url: bench.database.cron), engine: engine, names: bench.names)
        #expect(try VPCJob.job.run(workbench, vpc.description) == .done)
        let given = shown("/vpcs/\(vpc)")
        #expect(given["status"] == "ERROR", "\(given.text)")
        #expect(given["status_reason"] == "No address block of size /24 is left on this installation")
        try convergeVPC(vpc)
        #expect(shown("/vpcs/\(vpc)")["status"] == "AVAILABLE" && shown("/vpcs/\(vpc)")["status_reason"] == .null)
    }

    /// Everybody is one's neighbour's name away within a VPC, and nobody by any address beyond it.
    @Test func whoReachesWhom() throws {
        let stranger = try cloud.newOwner()
        let (home, other, theirs) = (try newVPC(), try newVPC(), try newVPC(by: stranger))
        let serve = "echo found > /tmp/index.html; httpd -f -p 80 -h /tmp"
        let servers = [
            try launch("server", command: serve, ["subnet_id": .string("\(home.subnet)")]), try launch("plain", command: serve, [:]),
        ]
        let addresses = try servers.map { try #require(shown("/instances/\($0)")["private_ip"]?.string) }
        // Whoever should be reached is asked until it answers. Others count as reached when they answer ten times in a row: an engine that
        // makes a network, for anybody, has no rules between networks for a moment, unless scripts/up has seen to it. (A static busybox
        // crashes of wget's own -T.)
        func reaching(_ host: String) -> String { "until wget -q -O - http://\(host)/; do sleep 0.2; done; " }
        func missing(_ host: String) -> String {
            """
            for n in $(seq 11); do
                if [ $n = 11 ]; then echo found; break; fi
                wget -q -O /dev/null http://\(host)/ & asked=$!
                { sleep 3; kill $asked; } & wait $asked || { echo nothing; break; }
                sleep 0.3
            done;
            """
        }
        func log(_ id: ID, by owner: Owner? = nil) throws -> [Substring] {
            try eventually("three answers of \(id)") {
                let lines = (shown("/instances/\(id)/logs", by: owner)["logs"]?.string ?? "").split(separator: "\n")
                    .filter { $0 == "found" || $0 == "nothing" }
                return lines.count >= 3 ? lines : nil
            }
        }
        // Neighbours first: then the servers are known to answer.
        let near = reaching("server") + reaching(addresses[0]) + missing(addresses[1]) + Self.forever
        #expect(try log(try launch("near", command: near, ["vpc_id": .string("\(home.vpc)")])) == ["found", "found", "nothing"])
        let usual = reaching("plain") + reaching(addresses[1]) + missing(addresses[0]) + Self.forever
        #expect(try log(try launch("usual", command: usual, [:])) == ["found", "found", "nothing"])
        let far = missing("server") + addresses.map(missing).joined() + Self.forever
        let outsiders = [
            (try launch("second", command: far, ["vpc_id": .string("\(other.vpc)")]), owner),
            (try launch("third", by: stranger, command: far, ["subnet_id": .string("\(theirs.subnet)")]), stranger),
            (try launch("fourth", by: stranger, command: far, [:]), stranger),
        ]
        for (id, owner) in outsiders {
            let answers = try log(id, by: owner)
            #expect(answers == ["nothing", "nothing", "nothing"], "\(shown("/instances/\(id)/logs", by: owner).text)")
        }
    }

    @Test func withAllThreadsAtWork() throws {
        let bench = try Rig.shared.get().bench
        let cloud = try bench.cloud()
        let owners = [try cloud.newOwner(), try cloud.newOwner()]
        let body: JSON = ["name": "main", "cidr_block": "10.0.0.0/24"]
        let vpcs = try owners.map { owner in
            let answer = cloud.call(.post, "/vpcs", key: owner.key, json: body)
            return try #require(answer["data"]?["id"]?.string, "\(answer)")
        }
        for (owner, vpc) in zip(owners, vpcs) {
            try eventually("it is there", holds: { cloud.call(.get, "/vpcs/\(vpc)", key: owner.key)["data"]?["status"] == "AVAILABLE" })
        }
        let networks = try vpcs.map { try engine.inspectNetwork(bench.names.network(try #require(ID($0)))) }
        #expect(networks[0].subnet != networks[1].subnet)
        for (owner, vpc) in zip(owners, vpcs) { #expect(cloud.call(.delete, "/vpcs/\(vpc)", key: owner.key).status == 200) }
        try eventually("both are gone", holds: { networks.allSatisfy { (try? engine.inspectNetwork($0.id)) == nil } })
    }
}
