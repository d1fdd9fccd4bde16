// Where names of targets lead, by a resolver that the test turns: what is stored, what is told, and when it is looked at again.
import API
import HTTP
import Outbound
import Postgres
import Synchronization
import TestSupport
import Testing

@testable import Jobs

struct GatewayTargetTests {
    let cloud: TestCloud
    let owner: Owner
    private let names = Names()

    init() throws {
        cloud = try TestCloud()
        owner = try cloud.newOwner()
    }

    private final class Names: Sendable {
        let addresses = Mutex<[CIDR]>([])
        func set(_ texts: String...) { addresses.withLock { $0 = texts.compactMap { CIDR($0) } } }
    }

    private func route(_ target: String) throws -> ID {
        let answer = cloud.call(.post, "/routes", key: owner.key, json: ["name": "n", "prefix": "/n", "target": .string(target)])
        return try #require(answer["data"]?["id"]?.string.flatMap { ID($0) }, "\(answer)")
    }

    private func resolve(_ id: ID, allow: [CIDR] = []) throws -> Job.Outcome {
        let bench = Workbench(
            config: try TestCloud.config(url: cloud.database.cron), connection: Connection(url: cloud.database.cron),
            engine: try #require(TestCloud.deadEngine()), names: EngineNames(stack: ID(at: .now())))
        let rule = EgressRule(allow: allow) { [names] _ in names.addresses.withLock { $0 } }
        return try TargetResolution(bench: bench, id: id, rule: rule).run()
    }

    private func address(_ id: ID) throws -> String? {
        try cloud.admin("select address from routes where id = \(id)").scalar(String.self)
    }

    private func status(_ id: ID) -> [JSON?] {
        let data = cloud.call(.get, "/routes/\(id)", key: owner.key)["data"]
        return [data?["status"], data?["status_reason"]]
    }

    private func events() throws -> [String] {
        try cloud.admin("select type from events where owner_id = \(owner.id)::uuid order by id").map { row in
            var row = row
            return row.next(String.self)
        }
    }

    private func isLater(_ outcome: Job.Outcome) -> Bool { if case .again(let seconds) = outcome { seconds >= 30 } else { false } }

    @Test func aNameIsResolvedAndFollowed() throws {
        let id = try route("http://service.example:8080")
        #expect(try cloud.admin("select count(*) from jobs where kind = 'gateway_target' and subject = \(id.description)").scalar() == 1)
        for address in ["93.184.216.34", "93.184.216.35"] {
            names.set(address)
            #expect(isLater(try resolve(id)))
            #expect(try self.address(id) == address && status(id) == ["ACTIVE", .null])
        }
        #expect(try events() == ["route.created", "route.active"])
    }

    @Test func aNameThatLeadsNowhereKeepsItsLastAddressForAWhile() throws {
        let id = try route("http://service.example:8080")
        #expect(isLater(try resolve(id)))
        let lost: [JSON?] = ["ERROR", "Could not resolve host: service.example"]
        #expect(try address(id) == nil && status(id) == lost)
        names.set("93.184.216.34")
        _ = try resolve(id)
        names.set()
        _ = try resolve(id)
        #expect(try address(id) == "93.184.216.34" && status(id) == lost)
        try cloud.admin("update routes set failing_since = now() - interval '6 minutes' where id = \(id)")
        _ = try resolve(id)
        #expect(try address(id) == nil && status(id) == lost)
        #expect(try events() == ["route.created", "route.error", "route.active", "route.error"])
    }

    @Test func aNameThatLeadsInsideIsRefusedAtOnce() throws {
        let id = try route("http://service.example:8080")
        names.set("93.184.216.34")
        _ = try resolve(id)
        for inside in ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "fd00::1"] {
            names.set("93.184.216.34", inside)
            #expect(isLater(try resolve(id)))
            #expect(try address(id) == nil)
            #expect(status(id) == ["ERROR", .string("The target " + EgressRule.refusal)])
        }
        names.set("127.0.0.1")
        _ = try resolve(id, allow: [try #require(CIDR("127.0.0.0/8"))])
        #expect(try address(id) == "127.0.0.1")
    }

    /// `localhost` is two addresses on many machines, and servers often listen at one.
    @Test func ofSeveralAddressesTheOneThatTakesConnectionsIsUsed() throws {
        let server = LocalServer.http { _ in ok("") }
        let id = try route("http://service.example:\(server.port)")
        let allow = [try #require(CIDR("127.0.0.0/8")), try #require(CIDR("::1"))]
        for order in [["::1", "127.0.0.1"], ["127.0.0.1", "::1"], ["127.0.0.9", "127.0.0.1"]] {
            names.addresses.withLock { $0 = order.compactMap { CIDR($0) } }
            _ = try resolve(id, allow: allow)
            #expect(try address(id) == "127.0.0.1")
        }
    }

    @Test func thereIsNothingToResolveInAnAddressOrADeletedRoute() throws {
        let id = try route("http://93.184.216.34")
        #expect(try cloud.admin("select count(*) from jobs where kind = 'gateway_target' and subject = \(id.description)").scalar() == 0)
        #expect(try resolve(id) == .done && address(id) == "93.184.216.34")
        #expect(cloud.call(.delete, "/routes/\(id)", key: owner.key).status == 200)
        #expect(try resolve(id) == .done)
    }
}
