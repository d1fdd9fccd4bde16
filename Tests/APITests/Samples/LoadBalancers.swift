// See Samples.swift.
import HTTP
import TestSupport
import Testing

extension Sample {
    static let loadBalancers = Sample(
        bodies: [
            "POST /loadbalancers": { owner in
                let cloud = try TestCloud()
                return [
                    "name": "web", "vpc_id": .string(try cloud.vpc(of: owner)), "port": .int(try cloud.freePort()),
                    "algorithm": "least-conn", "health_check": ["path": "/health"],
                ]
            },
            "PUT /loadbalancers/:id": always(["name": "web-2", "algorithm": "round-robin", "health_check": ["threshold": 5]]),
            "POST /loadbalancers/:id/targets": { owner in
                ["instance_id": .string(try newInsider(of: owner, TestCloud())), "port": 80, "weight": 2]
            },
        ],
        statuses: [
            "POST /loadbalancers": 201, "POST /loadbalancers/:id/targets": 201,
            // Without the proxy's word the rest is told all the same.
            "GET /loadbalancers/:id/targets": 200,
        ],
        objects: [
            "/loadbalancers": { probe, owner, cloud in
                let body: JSON = [
                    "name": .string("b" + TestCloud.newEmail().prefix(12)), "vpc_id": .string(try cloud.vpc(of: owner)),
                    "port": .int(try cloud.freePort()),
                ]
                let answer = cloud.call(.post, "/loadbalancers", key: owner.key, json: body)
                let id = try #require(answer["data"]?["id"]?.string, "\(answer)")
                guard probe.name.hasSuffix("/:instance_id") else { return id }
                let target = try newInsider(of: owner, cloud)
                let added = cloud.call(
                    .post, "/loadbalancers/\(id)/targets", key: owner.key, json: ["instance_id": .string(target), "port": 80])
                try #require(added.status == 201, "\(added)")
                return "\(id) \(target)"
            }
        ],
        references: ["POST /loadbalancers": { [("vpc_id", ["vpc_id": .string($0)])] }])

    /// In the owner's VPC.
    private static func newInsider(of owner: Owner, _ cloud: TestCloud) throws -> String {
        let body: JSON = [
            "name": .string("n" + TestCloud.newEmail().prefix(12)), "image": "nginx", "instance_type": "nano",
            "vpc_id": .string(try cloud.vpc(of: owner)),
        ]
        let answer = cloud.call(.post, "/instances", key: owner.key, json: body)
        return try #require(answer["data"]?["id"]?.string, "\(answer)")
    }
}
