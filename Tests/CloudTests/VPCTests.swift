// /vpcs and their subnets as a client sees them, and instances' seats in them. The engine is not asked.
import HTTP
import Postgres
import TestSupport
import Testing

struct VPCTests {
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        cloud = try TestCloud()
        owner = try cloud.newOwner()
    }

    private func post(_ path: String, by owner: Owner? = nil, _ json: JSON) -> Answer {
        cloud.call(.post, path, key: (owner ?? self.owner).key, json: json)
    }

    private func newVPC(_ block: String = "10.0.0.0/24", name: String = "main", by owner: Owner? = nil) throws -> JSON {
        let answer = post("/vpcs", by: owner, ["name": .string(name), "cidr_block": .string(block)])
        return try #require(answer["data"], "\(answer)")
    }

    private func newSubnet(_ block: String, name: String = "s", in vpc: JSON) throws -> JSON {
        let answer = post("/vpcs/\(id(vpc))/subnets", ["name": .string(name), "cidr_block": .string(block)])
        return try #require(answer["data"], "\(answer)")
    }

    private func id(_ object: JSON) -> String { object["id"]?.string ?? "" }

    /// In a database of its own, because its blocks are big.
    @Test func twoOwnersByNameAlone() throws {
        let cloud = try TestCloud(["THECLOUD_NETWORK_POOL": "10.201.0.0/16,10.202.0.0/15"], database: .fresh("vpc_plans"))
        let owners = try [cloud.newOwner(), cloud.newOwner(), cloud.newOwner()]
        for (owner, network) in zip(owners, ["10.201", "10.202", "10.203"]) {
            let vpc = cloud.call(.post, "/vpcs", key: owner.key, text: #"{"name": "prod-vpc"}"#)
            let shown = """
                {"id": "$id", "name": "prod-vpc", "cidr_block": "10.0.0.0/16", "network_cidr": "\(network).0.0/16", "status": "PENDING",
                 "status_reason": null, "created_at": "$time", "updated_at": "$time"}
                """
            expect(vpc, 201, #"{"data": \#(shown)}"#)
            let id = vpc["data"]?["id"]?.string ?? ""
            expect(cloud.call(.get, "/vpcs/\(id)", key: owner.key), 200, #"{"data": \#(shown)}"#)
            expect(cloud.call(.get, "/vpcs", key: owner.key), 200, #"{"data": [\#(shown)], "meta": {"next_cursor": null}}"#)
            let subnet = cloud.call(
                .post, "/vpcs/\(id)/subnets", key: owner.key,
                text: #"{"name": "private-subnet-1", "cidr_block": "10.0.1.0/24", "availability_zone": "us-east-1a"}"#)
            let part = """
                {"id": "$id", "vpc_id": "\(id)", "name": "private-subnet-1", "cidr_block": "10.0.1.0/24", "network_cidr": "\(network).1.0/24",
                 "gateway_ip": "\(network).0.1", "availability_zone": "us-east-1a", "created_at": "$time"}
                """
            expect(subnet, 201, #"{"data": \#(part)}"#)
            let subnetID = subnet["data"]?["id"]?.string ?? ""
            expect(cloud.call(.get, "/subnets/\(subnetID)", key: owner.key), 200, #"{"data": \#(part)}"#)
            expect(cloud.call(.get, "/vpcs/\(id)/subnets", key: owner.key), 200, #"{"data": [\#(part)], "meta": {"next_cursor": null}}"#)
        }
        expect(
            cloud.call(.post, "/vpcs", key: owners[0].key, json: ["name": "another"]), 409, error: "conflict", "CONFLICT",
            "No address block of size /16 is left on this installation")
        #expect(cloud.call(.get, "/vpcs", key: owners[0].key)["data"]?.array?.count == 1, "the refused one left nothing behind")
    }

    @Test(arguments: [
        "8.8.8.0/24", "10.0.0.0/15", "10.0.0.0/29", "10.0.0.1/24", "10.0.0.0", "10.0.0.0/+16", "10.0.0.0/016", "172.32.0.0/16",
        "192.169.0.0/16", "169.254.0.0/16", "127.0.0.0/16", "100.64.0.0/16", "fc00::/16", "10.0.0/16", "", "10.0.0.0/16 ", "١٠.0.0.0/16",
    ])
    func blocksThatAreNone(block: String) {
        let answer = post("/vpcs", ["name": "a", "cidr_block": .string(block)])
        expect(
            answer, 400, error: "bad_request", "VALIDATION_FAILED",
            "cidr_block must be a private IPv4 block (RFC 1918) of /16–/28 without host bits, such as 10.0.0.0/16",
            fields: ["cidr_block": "must be a private IPv4 block (RFC 1918) of /16–/28 without host bits, such as 10.0.0.0/16"])
    }

    @Test func everyBadFieldIsNamedAtOnce() throws {
        #expect(post("/vpcs", ["name": "a b", "cidr_block": 10]).badFields == ["name", "cidr_block"])
        let vpc = try newVPC()
        let bad: JSON = ["name": "", "cidr_block": "10.0.0.0/33", "availability_zone": [:]]
        #expect(post("/vpcs/\(id(vpc))/subnets", bad).badFields == ["name", "cidr_block", "availability_zone"])
        #expect(post("/vpcs/\(id(vpc))/subnets", ["name": "a"]).badFields == ["cidr_block"])
    }

    @Test func namesAndRenaming() throws {
        let (vpc, other) = (try newVPC(), try newVPC(name: "other"))
        expect(
            post("/vpcs", ["name": "main", "cidr_block": "10.0.0.0/28"]), 409, error: "conflict", "ALREADY_EXISTS",
            "You have a VPC of this name already")
        let path = "/vpcs/\(id(vpc))"
        expect(
            cloud.call(.put, path, key: owner.key, json: ["name": "other"]), 409, error: "conflict", "ALREADY_EXISTS",
            "You have a VPC of this name already")
        #expect(cloud.call(.put, path, key: owner.key, json: ["name": "prod"])["data"]?["name"] == "prod")
        _ = try newSubnet("10.0.0.0/28", in: vpc)
        _ = try newSubnet("10.0.0.0/28", in: other)
        expect(
            post("\(path)/subnets", ["name": "s", "cidr_block": "10.0.0.16/28"]), 409, error: "conflict", "ALREADY_EXISTS",
            "The VPC has a subnet of this name already")
    }

    @Test func subnetsLieInTheirVPCAndApart() throws {
        let vpc = try newVPC("192.168.4.0/24")
        _ = try newSubnet("192.168.4.64/26", in: vpc)
        for block in ["192.168.4.64/26", "192.168.4.0/24", "192.168.4.96/29"] {
            expect(
                post("/vpcs/\(id(vpc))/subnets", ["name": "o", "cidr_block": .string(block)]), 409, error: "conflict", "CONFLICT",
                "The block overlaps another subnet of the VPC")
        }
        for block in ["192.168.5.0/26", "192.168.4.0/23", "10.0.0.0/24"] {
            expect(
                post("/vpcs/\(id(vpc))/subnets", ["name": "o", "cidr_block": .string(block)]), 400, error: "bad_request",
                "VALIDATION_FAILED", "cidr_block must lie within the VPC's 192.168.4.0/24",
                fields: ["cidr_block": "must lie within the VPC's 192.168.4.0/24"])
        }
        for block in ["192.168.4.65/26", "8.8.8.0/24", "192.168.4.0/30"] {
            #expect(post("/vpcs/\(id(vpc))/subnets", ["name": "o", "cidr_block": .string(block)]).badFields == ["cidr_block"])
        }
        let last = try newSubnet("192.168.4.248/29", name: "last", in: vpc)
        #expect(last["availability_zone"] == "local-a")
        let (network, part) = (vpc["network_cidr"]?.string ?? "", last["network_cidr"]?.string ?? "")
        #expect(part == network.replacing(".0/24", with: ".248/29"))
    }

    /// Of many that overlap, side by side, one gets in.
    @Test func parallelSubnetsNeverOverlap() throws {
        let vpc = id(try newVPC())
        let key = owner.key
        let statuses = try sideBySide(12, threads: 6) {
            let cloud = try TestCloud()
            return {
                let name = "n" + TestCloud.newEmail().prefix(12)
                let body: JSON = ["name": .string(name), "cidr_block": .string(Bool.random() ? "10.0.0.0/25" : "10.0.0.64/26")]
                return cloud.call(.post, "/vpcs/\(vpc)/subnets", key: key, json: body).status
            }
        }
        #expect(statuses.sorted() == [201] + Array(repeating: 409, count: 11))
    }

    @Test func quotas() throws {
        let small = try TestCloud(["THECLOUD_QUOTA_VPCS": "1"])
        let body: JSON = ["name": "a", "cidr_block": "10.0.0.0/28"]
        #expect(small.call(.post, "/vpcs", key: owner.key, json: body).status == 201)
        expect(
            small.call(.post, "/vpcs", key: owner.key, json: ["name": "b", "cidr_block": "10.0.0.0/28"]), 403, error: "forbidden",
            "QUOTA_EXCEEDED", "Quota exceeded: at most 1 VPCs")
    }

    @Test func deletingWhatIsInUse() throws {
        let vpc = try newVPC()
        let subnet = try newSubnet("10.0.0.0/28", name: "private", in: vpc)
        #expect(post("/instances", ["name": "web", "image": "nginx", "subnet_id": .string(id(subnet))]).status == 201)
        for number in 1...9 { _ = try newSubnet("10.0.0.\(16 * number)/28", name: "s\(number)", in: vpc) }
        expect(
            cloud.call(.delete, "/subnets/\(id(subnet))", key: owner.key), 409, error: "conflict", "CONFLICT",
            "The subnet holds instance web")
        let names = (1...9).map { "subnet s\($0)" }.joined(separator: ", ")
        expect(
            cloud.call(.delete, "/vpcs/\(id(vpc))", key: owner.key), 409, error: "conflict", "CONFLICT",
            "The VPC holds subnet private, \(names) and others")
        let gone = try newVPC(name: "gone")
        let part = try newSubnet("10.0.0.0/24", in: gone)
        expect(cloud.call(.delete, "/subnets/\(id(part))", key: owner.key), 200, #"{"message": "Subnet deleted"}"#)
        expect(cloud.call(.delete, "/vpcs/\(id(gone))", key: owner.key), 200, #"{"message": "VPC deleted"}"#)
        for path in ["/vpcs/\(id(gone))", "/subnets/\(id(part))", "/vpcs/\(id(gone))/subnets"] {
            expect(cloud.call(.get, path, key: owner.key), 404, error: "not_found", "NOT_FOUND", "No such object")
        }
        let job = try cloud.admin("select wanted from jobs where kind = 'vpc' and subject = \(id(gone))").scalar(Int.self)
        #expect(job == 2, "one to make it, one to remove it")
        let told = try cloud.admin("select type from events where resource_id = \(id(gone))::uuid order by id").map { row in
            var row = row
            return row.next(String.self)
        }
        #expect(told == ["vpc.created", "vpc.subnet_created", "vpc.subnet_deleted", "vpc.deleted"])
    }

    @Test func seatsOfInstances() throws {
        let (vpc, other) = (try newVPC(), try newVPC(name: "other"))
        let subnet = try newSubnet("10.0.0.0/28", in: vpc)
        func seat(_ name: String, _ members: KeyValuePairs<String, JSON>) -> Answer {
            post("/instances", JSON.object([]).adding(["name": .string(name), "image": "nginx", "instance_type": "nano"]).adding(members))
        }
        let (vpcID, subnetID) = (JSON.string(id(vpc)), JSON.string(id(subnet)))
        for (name, members) in [
            ("a", ["vpc_id": vpcID, "subnet_id": subnetID]), ("b", ["subnet_id": subnetID]),
        ] as [(String, KeyValuePairs<String, JSON>)] {
            let answer = seat(name, members)
            #expect(answer.status == 201 && answer["data"]?["vpc_id"] == vpcID && answer["data"]?["subnet_id"] == subnetID, "\(answer)")
        }
        let alone = seat("c", ["vpc_id": vpcID])
        #expect(alone["data"]?["vpc_id"] == vpcID && alone["data"]?["subnet_id"] == .null)
        expect(
            seat("d", ["vpc_id": .string(id(other)), "subnet_id": subnetID]), 400, error: "bad_request", "VALIDATION_FAILED",
            "subnet_id must be the id of a subnet of the VPC", fields: ["subnet_id": "must be the id of a subnet of the VPC"])
        let foreign = try newVPC(by: try cloud.newOwner())
        #expect(seat("d", ["vpc_id": .string(id(foreign)), "subnet_id": vpcID]).badFields == ["vpc_id", "subnet_id"])
        #expect(seat("d e", ["vpc_id": "x"]).badFields == ["vpc_id", "name"])
        #expect(cloud.call(.delete, "/vpcs/\(id(other))", key: owner.key).status == 200)
        #expect(seat("d", ["vpc_id": .string(id(other))]).badFields == ["vpc_id"])
    }

    /// A /29 at the VPC's begin has five addresses: the network's own, the gateway and the subnet's last belong to nobody.
    @Test func addressesRunOut() throws {
        let vpc = try newVPC("10.0.0.0/28")
        let (first, second) = (try newSubnet("10.0.0.0/29", name: "a", in: vpc), try newSubnet("10.0.0.8/29", name: "b", in: vpc))
        func fill(_ count: Int, _ members: KeyValuePairs<String, JSON>) throws -> [Int] {
            for _ in 0..<count {
                let name = "n" + TestCloud.newEmail().prefix(18)
                let answer = post(
                    "/instances", (["name": .string(name), "image": "nginx", "instance_type": "nano"] as JSON).adding(members))
                #expect(answer.status == 201, "\(answer)")
            }
            return try cloud.admin("select number from addresses where network_id = \(id(vpc))::uuid order by number").map { row in
                var row = row
                return row.next(Int.self)
            }
        }
        #expect(try fill(5, ["subnet_id": .string(id(first))]) == [2, 3, 4, 5, 6])
        let body: JSON = ["name": "more", "image": "nginx", "instance_type": "nano"]
        expect(
            post("/instances", body.adding(["subnet_id": .string(id(first))])), 409, error: "conflict", "CONFLICT",
            "No free address is left in the subnet")
        #expect(try fill(6, ["subnet_id": .string(id(second))]) == Array(2...6) + Array(9...14))
        // Subnets cover all of the VPC, so what is in none takes what they leave.
        #expect(try fill(2, ["vpc_id": .string(id(vpc))]) == Array(2...14))
        expect(
            post("/instances", body.adding(["vpc_id": .string(id(vpc))])), 409, error: "conflict", "CONFLICT",
            "No free address is left in the VPC")
    }

    @Test func outsideOfSubnetsAddressesBeginAtTheEnd() throws {
        let vpc = try newVPC()
        _ = try newSubnet("10.0.0.128/25", in: vpc)
        for name in ["a", "b"] {
            #expect(post("/instances", ["name": .string(name), "image": "nginx", "vpc_id": .string(id(vpc))]).status == 201)
        }
        let numbers = try cloud.admin("select array_agg(number order by number) from addresses where network_id = \(id(vpc))::uuid")
        #expect(numbers.scalar([Int].self) == [126, 127])
    }

    @Test func parallelCreatesNeverShareAnAddress() throws {
        let vpc = id(try newVPC("10.0.0.0/28"))
        let key = owner.key
        let statuses = try sideBySide(16, threads: 6) {
            let cloud = try TestCloud()
            return {
                let name = "n" + TestCloud.newEmail().prefix(18)
                let body: JSON = ["name": .string(name), "image": "nginx", "instance_type": "nano", "vpc_id": .string(vpc)]
                return cloud.call(.post, "/instances", key: key, json: body).status
            }
        }
        #expect(statuses.sorted() == Array(repeating: 201, count: 13) + Array(repeating: 409, count: 3))
    }
}
