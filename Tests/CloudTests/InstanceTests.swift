// /instances as a client sees them: what a create takes and answers, quotas, clashes, moves between states, deletion. The engine is not asked.
import Crypto
import HTTP
import Postgres
import TestSupport
import Testing

struct InstanceTests {
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        cloud = try TestCloud()
        owner = try cloud.newOwner()
    }

    @Test func theDocumentedBodyWithoutReferences() {
        let answer = cloud.call(.post, "/instances", key: owner.key, text: #"{"name": "web-01", "image": "nginx", "ports": "0:80"}"#)
        let port = answer["data"]?["ports"]?.string ?? ""
        #expect(port.wholeMatch(of: /[23]\d{4}:80/) != nil, "\(port)")
        let instance = """
            {"id": "$id", "name": "web-01", "image": "nginx", "status": "STARTING", "status_reason": null, "instance_type": "small",
             "ports": "\(port)", "vpc_id": null, "subnet_id": null, "private_ip": null, "command": null, "env": {}, "volumes": [], "created_at": "$time", "updated_at": "$time"}
            """
        expect(answer, 201, #"{"data": \#(instance)}"#)
        let id = answer["data"]?["id"]?.string ?? ""
        expect(cloud.call(.get, "/instances/\(id)", key: owner.key), 200, #"{"data": \#(instance)}"#)
        expect(cloud.call(.get, "/instances", key: owner.key), 200, #"{"data": [\#(instance)], "meta": {"next_cursor": null}}"#)
    }

    @Test func everyMember() throws {
        let answer = cloud.call(
            .post, "/instances", key: owner.key,
            json: [
                "name": "Job_2.a", "image": "registry.example:5000/team/app:1.2", "ports": "0:80,0:443,0:80", "instance_type": "nano",
                "command": ["sleep", "a \"b\" {c},\\d"], "env": ["TOKEN": "a canary of a secret", "A": ""], "volumes": [], "vpc_id": nil,
                "id": .string(owner.id), "owner_id": .string(owner.id), "status": "RUNNING", "private_ip": "10.0.0.1", "unknown": [:],
            ])
        let ports = answer["data"]?["ports"]?.string ?? ""
        expect(
            answer, 201,
            """
            {"data": {"id": "$id", "name": "Job_2.a", "image": "registry.example:5000/team/app:1.2", "status": "STARTING",
             "status_reason": null, "instance_type": "nano", "ports": "\(ports)", "vpc_id": null, "subnet_id": null, "private_ip": null,
             "command": ["sleep", "a \\"b\\" {c},\\\\d"], "env": {"A": "********", "TOKEN": "********"}, "volumes": [], "created_at": "$time",
             "updated_at": "$time"}}
            """)
        let hosts = ports.split(separator: ",").map { $0.split(separator: ":")[0] }
        #expect(hosts.count == 3 && Set(hosts).count == 3)
        let id = try #require(answer["data"]?["id"]?.string)
        #expect(id != owner.id)
        let row = try cloud.admin("select row_to_json(i)::text from instances i where id = \(id)::uuid").scalar(String.self) ?? ""
        #expect(!row.contains("canary") && row.contains("TOKEN"))
        let job = try cloud.admin("select wanted from jobs where kind = 'instance' and subject = \(id)").scalar(Int.self)
        #expect(job == 1)
    }

    @Test func aLineIsForTheShell() {
        let answer = cloud.call(.post, "/instances", key: owner.key, json: ["name": "a", "image": "busybox", "command": "echo $HOME"])
        #expect(answer["data"]?["command"] == ["/bin/sh", "-c", "echo $HOME"])
    }

    @Test func everyBadFieldIsNamedAtOnce() {
        let answer = cloud.call(
            .post, "/instances", key: owner.key,
            json: [
                "name": "a b", "image": "UPPER", "ports": "80", "env": ["1A": "x"], "command": [1], "instance_type": "huge",
                "vpc_id": .string(owner.id), "subnet_id": "x", "volumes": [["volume_id": "x", "mount_path": "/data"]],
            ])
        #expect(answer.status == 400 && answer.code == "VALIDATION_FAILED")
        #expect(
            answer.badFields == ["subnet_id", "vpc_id", "name", "image", "ports", "env", "command", "instance_type", "volumes"], "\(answer)"
        )
    }

    @Test(arguments: [
        "80", "80:", ":80", "80:0", "65536:80", "80:65536", "-1:80", "+1:80", "80:80,", "80:80:80", "80:80/udp", " 80:80", "81:80,81:443",
        "0:1,0:2,0:3,0:4,0:5,0:6,0:7,0:8,0:9,0:10,0:11", "٨٠:80", "99999999999999999999:80",
    ])
    func portsThatAreNone(ports: String) {
        let answer = cloud.call(.post, "/instances", key: owner.key, json: ["name": "a", "image": "nginx", "ports": .string(ports)])
        #expect(answer.status == 400 && answer.badFields == ["ports"], "\(answer)")
    }

    @Test(arguments: ["", "/nginx", "nginx:", "Nginx", "../x", "nginx@sha256:0", "a b", "http://x/y", "nginx?x=1", "nginx\n"])
    func imagesThatAreNone(image: String) {
        let answer = cloud.call(.post, "/instances", key: owner.key, json: ["name": "a", "image": .string(image)])
        #expect(answer.status == 400 && answer.badFields == ["image"], "\(answer)")
    }

    @Test func namesAreUniquePerOwner() throws {
        let other = try cloud.newOwner()
        let body: JSON = ["name": "web", "image": "nginx"]
        #expect(cloud.call(.post, "/instances", key: owner.key, json: body).status == 201)
        expect(
            cloud.call(.post, "/instances", key: owner.key, json: body), 409,
            error: "conflict", "ALREADY_EXISTS", "You have an instance of this name already")
        #expect(cloud.call(.post, "/instances", key: other.key, json: body).status == 201)
    }

    @Test func aHostPortBelongsToOneInstanceOfAnybody() throws {
        let other = try cloud.newOwner()
        let first = cloud.call(.post, "/instances", key: other.key, json: ["name": "a", "image": "nginx", "ports": "0:80"])
        let port = try #require(first["data"]?["ports"]?.string)
        expect(
            cloud.call(.post, "/instances", key: owner.key, json: ["name": "b", "image": "nginx", "ports": .string(port)]), 409,
            error: "conflict", "CONFLICT", "A host port is held by another instance")
        #expect(cloud.call(.get, "/instances", key: owner.key)["data"] == [], "the refused one left nothing behind")
    }

    @Test func parallelCreatesNeverShareAPickedPort() throws {
        let key = owner.key
        let ports = try sideBySide(24, threads: 6) {
            let cloud = try TestCloud()
            return {
                let name = "n" + TestCloud.newEmail().prefix(12)
                let answer = cloud.call(
                    .post, "/instances", key: key,
                    json: ["name": .string(name), "image": "nginx", "ports": "0:1,0:2", "instance_type": "nano"])
                return answer["data"]?["ports"]?.string ?? "\(answer)"
            }
        }
        let hosts = ports.flatMap { $0.split(separator: ",").map { $0.prefix { $0 != ":" } } }
        #expect(hosts.count == 48 && Set(hosts).count == 48, "\(ports)")
    }

    @Test func quotasOfInstancesAndMemory() throws {
        let small = try TestCloud(["THECLOUD_QUOTA_INSTANCES": "2", "THECLOUD_QUOTA_MEMORY_MB": "600"])
        func create(_ name: String, _ type: String) -> Answer {
            small.call(
                .post, "/instances", key: owner.key, json: ["name": .string(name), "image": "nginx", "instance_type": .string(type)])
        }
        #expect(create("a", "small").status == 201)
        expect(
            create("b", "micro"), 403, error: "forbidden", "QUOTA_EXCEEDED", "Quota exceeded: at most 600 MB of memory in all instances")
        #expect(create("b", "nano").status == 201)
        expect(create("c", "nano"), 403, error: "forbidden", "QUOTA_EXCEEDED", "Quota exceeded: at most 2 instances")
    }

    @Test func parallelCreatesNeverOutrunTheQuota() throws {
        let key = owner.key
        let statuses = try sideBySide(16, threads: 8) {
            let cloud = try TestCloud(["THECLOUD_QUOTA_INSTANCES": "3"])
            return {
                cloud.call(.post, "/instances", key: key, json: ["name": .string("n" + TestCloud.newEmail().prefix(12)), "image": "nginx"])
                    .status
            }
        }
        #expect(statuses.sorted() == Array(repeating: 201, count: 3) + Array(repeating: 403, count: 13))
    }

    @Test func typesOfInstances() {
        expect(
            cloud.call(.get, "/instance-types", key: owner.key), 200,
            """
            {"data": [
              {"name": "nano", "cpus": 0.25, "memory_mb": 64}, {"name": "micro", "cpus": 0.5, "memory_mb": 128},
              {"name": "small", "cpus": 1, "memory_mb": 512}, {"name": "medium", "cpus": 2, "memory_mb": 2048},
              {"name": "large", "cpus": 4, "memory_mb": 8192}], "meta": {"next_cursor": null}}
            """)
    }
}
