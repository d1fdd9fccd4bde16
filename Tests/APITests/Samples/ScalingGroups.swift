// See Samples.swift.
import HTTP
import TestSupport
import Testing

extension Sample {
    static let scalingGroups = Sample(
        bodies: [
            "POST /autoscaling/groups": { owner in
                let cloud = try TestCloud()
                let balancer: JSON = ["name": "g", "vpc_id": .string(try cloud.vpc(of: owner)), "port": .int(try cloud.freePort())]
                let made = cloud.call(.post, "/loadbalancers", key: owner.key, json: balancer)
                return [
                    "name": "web", "vpc_id": .string(try cloud.vpc(of: owner)), "image": "nginx", "min_instances": 0, "max_instances": 2,
                    "desired_count": 0, "ports": "0:80", "load_balancer_id": try #require(made["data"]?["id"], "\(made)"),
                    "target_port": 80,
                    "instance_type": "nano", "env": ["A": "b"], "command": ["nginx"],
                ]
            },
            "PUT /autoscaling/groups/:id": always(["name": "web-2", "min_instances": 0, "max_instances": 3, "desired_count": 0]),
            "POST /autoscaling/groups/:id/policies": always(["metric": "cpu", "target": 50, "cooldown_seconds": 60]),
        ],
        statuses: ["POST /autoscaling/groups": 201, "POST /autoscaling/groups/:id/policies": 201],
        objects: [
            "/autoscaling/groups": { probe, owner, cloud in
                let body: JSON = [
                    "name": .string("g" + TestCloud.newEmail().prefix(12)), "vpc_id": .string(try cloud.vpc(of: owner)), "image": "nginx",
                    "min_instances": 0, "max_instances": 2, "desired_count": 0,
                ]
                let answer = cloud.call(.post, "/autoscaling/groups", key: owner.key, json: body)
                let id = try #require(answer["data"]?["id"]?.string, "\(answer)")
                guard probe.name.hasSuffix("/:policy_id") else { return id }
                let policy: JSON = ["metric": "cpu", "steps": [["above": 80, "change": 1]]]
                let added = cloud.call(.post, "/autoscaling/groups/\(id)/policies", key: owner.key, json: policy)
                return "\(id) \(try #require(added["data"]?["id"]?.string, "\(added)"))"
            }
        ],
        references: [
            "POST /autoscaling/groups": {
                [
                    ("vpc_id", ["vpc_id": .string($0), "load_balancer_id": nil, "target_port": nil]),
                    ("load_balancer_id", ["load_balancer_id": .string($0)]),
                ]
            }
        ])
}
