// /autoscaling/groups without an engine: bodies, refusals, and what the answers say before anything runs.
import HTTP
import Postgres
import TestSupport
import Testing

struct ScalingGroupTests {
    let cloud: TestCloud
    let owner: Owner
    let vpc: String

    init() throws {
        cloud = try TestCloud()
        owner = try cloud.newOwner()
        vpc = try cloud.vpc(of: owner)
    }

    private func create(_ more: KeyValuePairs<String, JSON> = [:], on cloud: TestCloud? = nil) -> Answer {
        let usual: JSON = [
            "name": "web", "vpc_id": .string(vpc), "image": "nginx", "min_instances": 1, "max_instances": 4, "desired_count": 2,
        ]
        guard case .object(let members) = usual else { preconditionFailure("it is an object") }
        let kept = JSON.object(members.filter { member in !more.contains { $0.key == member.name } })
        return (cloud ?? self.cloud).call(.post, "/autoscaling/groups", key: owner.key, json: kept.adding(more))
    }

    private func made(_ name: String = "web") throws -> String {
        let answer = create(["name": .string(name)])
        return "/autoscaling/groups/" + (try #require(answer["data"]?["id"]?.string, "\(answer)"))
    }

    private func balancer(in vpc: String? = nil) throws -> String {
        let body: JSON = ["name": "lb", "vpc_id": .string(vpc ?? self.vpc), "port": .int(try cloud.freePort())]
        let answer = cloud.call(.post, "/loadbalancers", key: owner.key, json: body)
        return try #require(answer["data"]?["id"]?.string, "\(answer)")
    }

    @Test func aGroupFromItsCreationToItsEnd() throws {
        let balancer = try balancer()
        func shown(_ name: String, _ numbers: (Int, Int, Int), _ status: String = "SCALING") -> String {
            """
            {"id": "$id", "name": "\(name)", "vpc_id": "\(vpc)", "image": "nginx:1", "min_instances": \(numbers.0),
             "max_instances": \(numbers.1), "desired_count": \(numbers.2), "ports": "0:80,0:443", "load_balancer_id": "\(balancer)",
             "target_port": 80, "instance_type": "nano", "command": ["sleep", "9"], "env": {"A": "********", "TOKEN": "********"},
             "status": "\(status)", "status_reason": null, "instances": [], "created_at": "$time", "updated_at": "$time"}
            """
        }
        let created = create([
            "image": "nginx:1", "ports": "0:80,0:443", "load_balancer_id": .string(balancer), "instance_type": "nano",
            "env": ["TOKEN": "secret", "A": ""], "command": ["sleep", "9"],
        ])
        expect(created, 201, #"{"data": \#(shown("web", (1, 4, 2)))}"#)
        let path = "/autoscaling/groups/\(created["data"]?["id"]?.string ?? "")"
        expect(cloud.call(.get, path, key: owner.key), 200, #"{"data": \#(shown("web", (1, 4, 2)))}"#)
        expect(
            cloud.call(.get, "/autoscaling/groups", key: owner.key), 200,
            #"{"data": [\#(shown("web", (1, 4, 2)))], "meta": {"next_cursor": null}}"#)
        expect(cloud.call(.put, path, key: owner.key, json: ["desired_count": 3]), 200, #"{"data": \#(shown("web", (1, 4, 3)))}"#)
        expect(
            cloud.call(.put, path, key: owner.key, json: ["name": "w", "min_instances": 5, "max_instances": 6, "desired_count": 6]), 200,
            #"{"data": \#(shown("w", (5, 6, 6)))}"#)
        expect(
            cloud.call(.delete, "/loadbalancers/\(balancer)", key: owner.key), 409, error: "conflict", "CONFLICT",
            "The load balancer is used by auto-scaling group w")
        expect(
            cloud.call(.delete, path, key: owner.key), 200, #"{"message": "Auto-scaling group and its instances are being terminated"}"#)
        expect(cloud.call(.get, path, key: owner.key), 200, #"{"data": \#(shown("w", (5, 6, 6), "TERMINATING"))}"#)
        expect(
            cloud.call(.put, path, key: owner.key, json: ["desired_count": 6]), 409, error: "conflict", "CONFLICT",
            "The auto-scaling group is being terminated")
        let wished = try cloud.admin("select 1 from jobs where kind = 'scaling_group' and subject = \(String(path.suffix(36)))")
        #expect(wished.count == 1)
        let noted = try cloud.admin(
            "select array_agg(action order by id) from audit_log where resource_id = \(String(path.suffix(36)))::uuid"
        ).scalar([String].self)
        #expect(noted == ["autoscaling.created", "autoscaling.updated", "autoscaling.updated", "autoscaling.deleted"])
        let told = try cloud.admin(
            "select array_agg(type order by id) from events where resource_id = \(String(path.suffix(36)))::uuid"
        ).scalar([String].self)
        #expect(told == ["autoscaling.created", "autoscaling.updated", "autoscaling.updated", "autoscaling.terminating"])
        // Its environment is stored sealed.
        let sealed = try cloud.admin("select env_sealed from scaling_groups where id = \(String(path.suffix(36)))::uuid").scalar(
            [UInt8].self)
        #expect(sealed?.isEmpty == false && !String(decoding: sealed ?? [], as: UTF8.self).contains("secret"))
    }

    @Test func everyBadFieldIsNamed() throws {
        #expect(
            cloud.call(.post, "/autoscaling/groups", key: owner.key, json: [:]).badFields
                == ["name", "vpc_id", "image", "min_instances", "max_instances", "desired_count"])
        let answer = create([
            "name": "", "vpc_id": "x", "image": "No Image", "min_instances": -1, "max_instances": 21, "desired_count": .double(1.5),
            "ports": "80",
            "load_balancer_id": 1, "target_port": 0, "instance_type": "huge", "env": [], "command": [],
        ])
        #expect(
            answer.badFields == [
                "name", "vpc_id", "image", "min_instances", "max_instances", "desired_count", "ports", "load_balancer_id", "target_port",
                "instance_type", "env", "command",
            ], "\(answer)")
        expect(
            create(["min_instances": 3]), 400, error: "bad_request", "VALIDATION_FAILED",
            "desired_count must be from min_instances to max_instances, here 3 to 4",
            fields: ["desired_count": "must be from min_instances to max_instances, here 3 to 4"])
        expect(
            create(["min_instances": 5]), 400, error: "bad_request", "VALIDATION_FAILED",
            "min_instances must not be greater than max_instances", fields: ["min_instances": "must not be greater than max_instances"])
        let message = "must leave host ports to us (0) where max_instances is greater than 1"
        expect(
            create(["ports": "8080:80"]), 400, error: "bad_request", "VALIDATION_FAILED", "ports \(message)", fields: ["ports": message])
        let single = create(["ports": .string("\(try cloud.freePort()):80"), "max_instances": 1, "desired_count": 1])
        #expect(single.status == 201, "\(single)")
        let path = "/autoscaling/groups/\(single["data"]?["id"]?.string ?? "")"
        #expect(cloud.call(.put, path, key: owner.key, json: ["max_instances": 2]).badFields == ["ports"])
        #expect(cloud.call(.put, path, key: owner.key, json: ["desired_count": 2]).badFields == ["desired_count"])
        #expect(cloud.call(.put, path, key: owner.key, json: [:]).badFields == ["desired_count"])
    }

    @Test func theLoadBalancerAndItsPort() throws {
        let balancer = try balancer()
        let first = "is required with load_balancer_id where ports names none"
        expect(
            create(["load_balancer_id": .string(balancer)]), 400, error: "bad_request", "VALIDATION_FAILED", "target_port \(first)",
            fields: ["target_port": first])
        #expect(create(["target_port": 80]).badFields == ["target_port"])
        #expect(create(["load_balancer_id": .string(balancer), "target_port": 8080])["data"]?["target_port"] == 8080)
        let going =
            cloud.call(
                .post, "/loadbalancers", key: owner.key,
                json: ["name": "going", "vpc_id": .string(vpc), "port": .int(try cloud.freePort())])["data"]?["id"]?.string ?? ""
        #expect(cloud.call(.delete, "/loadbalancers/\(going)", key: owner.key).status == 200)
        expect(
            create(["name": "c", "load_balancer_id": .string(going), "target_port": 80]), 409, error: "conflict", "CONFLICT",
            "The load balancer is being terminated")
        let other = cloud.call(.post, "/vpcs", key: owner.key, json: ["name": "other", "cidr_block": "10.0.0.0/28"])["data"]?["id"]
        let message = "must be the id of one of your own load balancers in the same VPC"
        for (vpc, id) in [(try #require(other), balancer), (.string(vpc), "01890000-0000-7000-8000-000000000000")] {
            expect(
                create(["name": "b", "vpc_id": vpc, "load_balancer_id": .string(id), "target_port": 80]), 400, error: "bad_request",
                "VALIDATION_FAILED", "load_balancer_id \(message)", fields: ["load_balancer_id": message])
        }
    }

    @Test func namesAndQuota() throws {
        _ = try made()
        expect(create(), 409, error: "conflict", "ALREADY_EXISTS", "You have an auto-scaling group of this name already")
        let small = try TestCloud(["THECLOUD_QUOTA_GROUPS": "1"])
        expect(
            create(["name": "second"], on: small), 403, error: "forbidden", "QUOTA_EXCEEDED",
            "Quota exceeded: at most 1 auto-scaling groups")
        expect(
            cloud.call(.delete, "/vpcs/\(vpc)", key: owner.key), 409, error: "conflict", "CONFLICT", "The VPC holds auto-scaling group web")
    }

    @Test func policies() throws {
        let path = try made() + "/policies"
        func post(_ body: JSON) -> Answer { cloud.call(.post, path, key: owner.key, json: body) }
        let target = post(["metric": "cpu", "target": 50])
        expect(
            target, 201,
            #"{"data": {"id": "$id", "metric": "cpu", "target": 50, "steps": null, "cooldown_seconds": 300, "created_at": "$time"}}"#)
        let steps: JSON = [["above": 80, "change": 2], ["below": 20, "change": -1]]
        let stepwise = """
            {"id": "$id", "metric": "cpu", "target": null, "steps": [{"above": 80, "change": 2}, {"below": 20, "change": -1}],
             "cooldown_seconds": 60, "created_at": "$time"}
            """
        expect(post(["metric": "cpu", "steps": steps, "cooldown_seconds": 60]), 201, #"{"data": \#(stepwise)}"#)
        let id = target["data"]?["id"]?.string ?? ""
        expect(cloud.call(.delete, "\(path)/\(id)", key: owner.key), 200, #"{"message": "Policy removed"}"#)
        #expect(cloud.call(.delete, "\(path)/\(id)", key: owner.key).status == 404)
        expect(cloud.call(.get, path, key: owner.key), 200, #"{"data": [\#(stepwise)], "meta": {"next_cursor": null}}"#)

        #expect(post([:]).badFields == ["metric", "target"])
        #expect(
            post(["metric": "memory", "target": 0, "cooldown_seconds": 59]).badFields == ["metric", "target", "cooldown_seconds"])
        #expect(post(["metric": "cpu", "target": 50, "steps": steps]).badFields == ["steps"])
        #expect(post(["metric": "cpu", "steps": [["above": 80, "change": -2]]]).badFields == ["steps"])
        for _ in 1..<20 { #expect(post(["metric": "cpu", "target": 50]).status == 201) }
        expect(
            post(["metric": "cpu", "target": 50]), 403, error: "forbidden", "QUOTA_EXCEEDED",
            "Quota exceeded: at most 20 policies of a group")
    }
}
