// See Samples.swift. Small ones: the pool of all tests has room for thousands.
import HTTP
import TestSupport
import Testing

extension Sample {
    static let vpcs = Sample(
        bodies: [
            "POST /vpcs": always(["name": "prod-vpc", "cidr_block": "10.0.0.0/28"]),
            "PUT /vpcs/:id": always(["name": "prod-vpc-2"]),
            "POST /vpcs/:id/subnets": always([
                "name": "private-subnet-1", "cidr_block": "10.0.0.8/29", "availability_zone": "us-east-1a",
            ]),
        ],
        statuses: ["POST /vpcs": 201, "POST /vpcs/:id/subnets": 201],
        objects: [
            "/vpcs": { _, owner, cloud in try vpc(of: owner, cloud) },
            "/subnets": { _, owner, cloud in
                let body: JSON = ["name": "s", "cidr_block": "10.0.0.0/29"]
                let answer = cloud.call(.post, "/vpcs/\(try vpc(of: owner, cloud))/subnets", key: owner.key, json: body)
                return try #require(answer["data"]?["id"]?.string, "\(answer)")
            },
        ])

    private static func vpc(of owner: Owner, _ cloud: TestCloud) throws -> String {
        let body: JSON = ["name": .string("v" + TestCloud.newEmail().prefix(12)), "cidr_block": "10.0.0.0/28"]
        let answer = cloud.call(.post, "/vpcs", key: owner.key, json: body)
        return try #require(answer["data"]?["id"]?.string, "\(answer)")
    }
}
