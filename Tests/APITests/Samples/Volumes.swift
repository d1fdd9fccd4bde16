// See Samples.swift.
import API
import HTTP
import TestSupport
import Testing

extension Sample {
    static let volumes = Sample(
        bodies: [
            "POST /volumes": always(["name": "my-volume", "size_gb": 10]),
            "POST /volumes/:id/attach": { owner in
                ["instance_id": .string(try newInstance(of: owner, TestCloud())), "mount_path": "/data"]
            },
        ],
        statuses: ["POST /volumes": 201],
        objects: [
            "/volumes": { probe, owner, cloud in
                let name = JSON.string("v" + TestCloud.newEmail().prefix(12))
                let answer = cloud.call(.post, "/volumes", key: owner.key, json: ["name": name, "size_gb": 1])
                let id = try #require(answer["data"]?["id"]?.string, "\(answer)")
                guard probe.route.path.hasSuffix("/detach") else { return id }
                let mount: JSON = ["instance_id": .string(try newInstance(of: owner, cloud)), "mount_path": "/data"]
                let attached = cloud.call(.post, "/volumes/\(id)/attach", key: owner.key, json: mount)
                #expect(attached.status == 200, "\(attached)")
                return id
            }
        ],
        references: ["POST /volumes/:id/attach": { [("instance_id", ["instance_id": .string($0)])] }])

    private static func newInstance(of owner: Owner, _ cloud: TestCloud) throws -> String {
        let body: JSON = ["name": .string("n" + TestCloud.newEmail().prefix(12)), "image": "nginx", "instance_type": "nano"]
        let answer = cloud.call(.post, "/instances", key: owner.key, json: body)
        return try #require(answer["data"]?["id"]?.string, "\(answer)")
    }
}
