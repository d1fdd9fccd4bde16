// See Samples.swift.
import HTTP
import TestSupport
import Testing

extension Sample {
    static let instances = Sample(
        bodies: [
            "POST /instances": always(["name": "web", "image": "nginx", "ports": "0:80"]),
            "PUT /instances/:id": always(["name": "web-2", "status": "STOPPED"]),
        ],
        statuses: ["POST /instances": 201],
        objects: [
            "/instances": { _, owner, cloud in
                let body: JSON = ["name": .string("n" + TestCloud.newEmail().prefix(12)), "image": "nginx", "instance_type": "nano"]
                let answer = cloud.call(.post, "/instances", key: owner.key, json: body)
                return try #require(answer["data"]?["id"]?.string, "\(answer)")
            }
        ],
        references: [
            "POST /instances": { id in
                [
                    ("vpc_id", ["vpc_id": .string(id)]), ("subnet_id", ["subnet_id": .string(id)]),
                    ("volumes", ["volumes": [["volume_id": .string(id), "mount_path": "/data"]]]),
                ]
            }
        ])
}
