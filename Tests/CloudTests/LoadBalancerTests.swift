// /loadbalancers without an engine: bodies, refusals, and what the answers say before anything runs.
import Docker
import HTTP
import Postgres
import TestSupport
import Testing

struct LoadBalancerTests {
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        // An engine that never answers.
        cloud = try TestCloud(engine: Engine(host: "unix:///nowhere/docker.sock"))
        owner = try cloud.newOwner()
    }

    private func create(_ name: String = "web", _ more: JSON = [:], by owner: Owner? = nil) throws -> Answer {
        let owner = owner ?? self.owner
        let body = more.adding(["name": .string(name), "vpc_id": .string(try cloud.vpc(of: owner))])
        return cloud.call(
            .post, "/loadbalancers", key: owner.key, json: more["port"] == nil ? body.adding(["port": .int(try cloud.freePort())]) : body)
    }

    private func made(_ name: String = "web") throws -> String {
        let answer = try create(name)
        return try #require(answer["data"]?["id"]?.string, "\(answer)")
    }

    private func instance(_ name: String, in vpc: String?) throws -> String {
        let body: JSON = ["name": .string(name), "image": "nginx", "instance_type": "nano", "vpc_id": .optional(vpc)]
        let answer = cloud.call(.post, "/instances", key: owner.key, json: body)
        return try #require(answer["data"]?["id"]?.string, "\(answer)")
    }

    @Test func aLoadBalancerFromItsCreationToItsEnd() throws {
        let port = try cloud.freePort()
        let vpc = try cloud.vpc(of: owner)
        func shown(_ name: String, _ algorithm: String, _ check: String, _ status: String = "CREATING") -> String {
            """
            {"id": "$id", "name": "\(name)", "vpc_id": "\(vpc)", "port": \(port), "url": "http://127.0.0.1:\(port)",
             "algorithm": "\(algorithm)", "health_check": \(check), "status": "\(status)", "status_reason": null, "private_ip": null,
             "created_at": "$time", "updated_at": "$time"}
            """
        }
        let standard = #"{"path": null, "interval_seconds": 2, "threshold": 3}"#
        let created = try create("web", ["port": .int(port)])
        expect(created, 201, #"{"data": \#(shown("web", "round-robin", standard))}"#)
        let path = "/loadbalancers/\(created["data"]?["id"]?.string ?? "")"
        expect(cloud.call(.get, path, key: owner.key), 200, #"{"data": \#(shown("web", "round-robin", standard))}"#)
        expect(
            cloud.call(.get, "/loadbalancers", key: owner.key), 200,
            #"{"data": [\#(shown("web", "round-robin", standard))], "meta": {"next_cursor": null}}"#)

        let check = #"{"path": "/health?deep=1", "interval_seconds": 5, "threshold": 3}"#
        let change: JSON = ["name": "web-2", "algorithm": "least-conn", "health_check": ["path": "/health?deep=1", "interval_seconds": 5]]
        expect(cloud.call(.put, path, key: owner.key, json: change), 200, #"{"data": \#(shown("web-2", "least-conn", check))}"#)
        expect(
            cloud.call(.put, path, key: owner.key, json: ["algorithm": "round-robin"]), 200,
            #"{"data": \#(shown("web-2", "round-robin", check))}"#)
        expect(
            cloud.call(.put, path, key: owner.key, json: ["health_check": nil]), 200,
            #"{"data": \#(shown("web-2", "round-robin", standard))}"#)

        expect(cloud.call(.delete, path, key: owner.key), 200, #"{"message": "Load balancer is being terminated"}"#)
        expect(cloud.call(.get, path, key: owner.key), 200, #"{"data": \#(shown("web-2", "round-robin", standard, "TERMINATING"))}"#)
        expect(
            cloud.call(.put, path, key: owner.key, json: ["name": "web"]), 409, error: "conflict", "CONFLICT",
            "The load balancer is being terminated")
        #expect(cloud.call(.delete, path, key: owner.key).status == 200)
        let wished = try cloud.admin("select 1 from jobs where kind = 'loadbalancer' and subject = \(String(path.suffix(36)))")
        #expect(wished.count == 1)
    }

    @Test func everyBadFieldIsNamed() throws {
        let answer = cloud.call(
            .post, "/loadbalancers", key: owner.key,
            json: [
                "name": "no blanks", "vpc_id": 7, "port": 0, "algorithm": "random",
                "health_check": ["path": "health", "interval_seconds": 0, "threshold": 11],
            ])
        expect(
            answer, 400, error: "bad_request", "VALIDATION_FAILED",
            """
            name must be 1–64 characters of letters, digits, '-', '_', '.'; vpc_id must be the id of one of your own objects; \
            port must be a whole number from 1 to 65535; algorithm must be one of round-robin, least-conn; \
            health_check.path must be a path such as /health, up to 256 characters of a URL's; \
            health_check.interval_seconds must be a whole number from 1 to 300; health_check.threshold must be a whole number from 1 to 10
            """,
            fields: [
                "name": "must be 1–64 characters of letters, digits, '-', '_', '.'", "vpc_id": "must be the id of one of your own objects",
                "port": "must be a whole number from 1 to 65535", "algorithm": "must be one of round-robin, least-conn",
                "health_check.path": "must be a path such as /health, up to 256 characters of a URL's",
                "health_check.interval_seconds": "must be a whole number from 1 to 300",
                "health_check.threshold": "must be a whole number from 1 to 10",
            ])
        #expect(cloud.call(.post, "/loadbalancers", key: owner.key, json: [:]).badFields == ["name", "vpc_id", "port"])
        let id = try made()
        for path in ["/a b", "/a'b", "/a\"b", "/a\\b", "/a\nb", "//\u{e9}", "", "x", "/" + String(repeating: "a", count: 256)] {
            let bad = cloud.call(.put, "/loadbalancers/\(id)", key: owner.key, json: ["health_check": ["path": .string(path)]])
            #expect(bad.status == 400 && bad.badFields == ["health_check.path"], "\(path): \(bad)")
        }
        #expect(cloud.call(.put, "/loadbalancers/\(id)", key: owner.key, json: [:]).badFields == ["name"])
    }

    @Test func namesPortsAndQuota() throws {
        let answer = try create()
        let port = try #require(answer["data"]?["port"])
        expect(try create(), 409, error: "conflict", "ALREADY_EXISTS", "You have a load balancer of this name already")
        expect(
            try create("other", ["port": port]), 409, error: "conflict", "CONFLICT",
            "The host port is held by an instance or another load balancer")
        expect(
            try create("other", ["port": port], by: try cloud.newOwner()), 409, error: "conflict", "CONFLICT",
            "The host port is held by an instance or another load balancer")
        let listener = LocalServer(everywhere: true) { _ in }
        expect(
            try create("other", ["port": .int(listener.port)]), 409, error: "conflict", "CONFLICT",
            "Host port \(listener.port) is in use on this machine")
        // An instance can't have it either.
        let instance: JSON = ["name": "i", "image": "nginx", "ports": .string("\(port.int ?? 0):80")]
        #expect(cloud.call(.post, "/instances", key: owner.key, json: instance).status == 409)

        let small = try TestCloud(["THECLOUD_QUOTA_LOAD_BALANCERS": "1"])
        let body: JSON = ["name": "second", "vpc_id": .string(try cloud.vpc(of: owner)), "port": .int(try cloud.freePort())]
        expect(
            small.call(.post, "/loadbalancers", key: owner.key, json: body), 403, error: "forbidden", "QUOTA_EXCEEDED",
            "Quota exceeded: at most 1 load balancers")
    }

    @Test func targets() throws {
        let vpc = try cloud.vpc(of: owner)
        let path = "/loadbalancers/\(try made())/targets"
        let (one, two) = (try instance("one", in: vpc), try instance("two", in: vpc))
        let added = cloud.call(.post, path, key: owner.key, json: ["instance_id": .string(one), "port": 8080, "weight": 256])
        expect(
            added, 201,
            """
            {"data": {"instance_id": "\(one)", "instance_name": "one", "port": 8080, "weight": 256, "health": "OFFLINE",
             "health_reason": "The instance is STARTING", "created_at": "$time"}}
            """)
        expect(
            cloud.call(.post, path, key: owner.key, json: ["instance_id": .string(one), "port": 80]), 409, error: "conflict",
            "ALREADY_EXISTS", "The instance is a target of this load balancer already")
        #expect(cloud.call(.post, path, key: owner.key, json: ["instance_id": .string(two), "port": 80]).status == 201)
        try cloud.admin("update instances set status = 'RUNNING' where id = \(two)::uuid")
        expect(
            cloud.call(.get, path, key: owner.key), 200,
            """
            {"data": [
              {"instance_id": "\(two)", "instance_name": "two", "port": 80, "weight": 1, "health": "UNKNOWN",
               "health_reason": "The load balancer does not answer", "created_at": "$time"},
              {"instance_id": "\(one)", "instance_name": "one", "port": 8080, "weight": 256, "health": "OFFLINE",
               "health_reason": "The instance is STARTING", "created_at": "$time"}],
             "meta": {"next_cursor": null}}
            """)
        let first = cloud.call(.get, path + "?limit=1", key: owner.key)
        let cursor = try #require(first["meta"]?["next_cursor"]?.string)
        #expect(first["data"]?[0]?["instance_id"]?.string == two)
        #expect(cloud.call(.get, path + "?limit=1&cursor=\(cursor)", key: owner.key)["data"]?[0]?["instance_id"]?.string == one)

        expect(cloud.call(.delete, path + "/\(one)", key: owner.key), 200, #"{"message": "Target removed"}"#)
        #expect(cloud.call(.delete, path + "/\(one)", key: owner.key).status == 404)
        // It goes with its instance.
        try cloud.admin("delete from instances where id = \(two)::uuid")
        expect(cloud.call(.get, path, key: owner.key), 200, #"{"data": [], "meta": {"next_cursor": null}}"#)
    }

    @Test func aTargetIsAnInstanceOfTheSameVPC() throws {
        let path = "/loadbalancers/\(try made())/targets"
        let further = cloud.call(.post, "/vpcs", key: owner.key, json: ["name": "other", "cidr_block": "10.0.0.0/28"])
        let elsewhere = try instance("elsewhere", in: try #require(further["data"]?["id"]?.string, "\(further)"))
        let (nowhere, stranger) = (try instance("nowhere", in: nil), try cloud.newOwner())
        let foreign = cloud.call(.post, "/instances", key: stranger.key, json: ["name": "web", "image": "nginx"])["data"]?["id"]
        let message = "must be the id of one of your own instances in the same VPC"
        for id in [elsewhere, nowhere, foreign?.string ?? "", "01890000-0000-7000-8000-000000000000"] {
            expect(
                cloud.call(.post, path, key: owner.key, json: ["instance_id": .string(id), "port": 80]), 400, error: "bad_request",
                "VALIDATION_FAILED", "instance_id \(message)", fields: ["instance_id": message])
        }
        #expect(
            cloud.call(.post, path, key: owner.key, json: ["instance_id": "x", "port": 0, "weight": 257]).badFields
                == ["instance_id", "port", "weight"])
    }

    /// Whatever changes where a target is, or whether it is, has the load balancer looked through.
    @Test func changesOfTargetsWishTheJob() throws {
        let balancer = try made()
        let target = try instance("one", in: try cloud.vpc(of: owner))
        let path = "/loadbalancers/\(balancer)/targets"
        func wanted(_ change: () throws -> Void) throws -> Bool {
            try cloud.admin("delete from jobs where kind = 'loadbalancer' and subject = \(balancer)")
            try change()
            return try !cloud.admin("select 1 from jobs where kind = 'loadbalancer' and subject = \(balancer)").isEmpty
        }
        let body: JSON = ["instance_id": .string(target), "port": 80]
        #expect(try wanted { _ = cloud.call(.post, path, key: owner.key, json: body) })
        #expect(try wanted { try cloud.admin("update instances set private_ip = '10.0.0.9' where id = \(target)::uuid") })
        #expect(try !wanted { try cloud.admin("update instances set updated_at = now() where id = \(target)::uuid") })
        #expect(try wanted { _ = cloud.call(.put, "/instances/\(target)", key: owner.key, json: ["status": "STOPPED"]) })
        #expect(try wanted { _ = cloud.call(.delete, path + "/\(target)", key: owner.key) })
        #expect(cloud.call(.post, path, key: owner.key, json: body).status == 201)
        #expect(try wanted { try cloud.admin("delete from instances where id = \(target)::uuid") })
    }

    @Test func aVPCWithALoadBalancerStays() throws {
        _ = try made()
        let vpc = try cloud.vpc(of: owner)
        expect(
            cloud.call(.delete, "/vpcs/\(vpc)", key: owner.key), 409, error: "conflict", "CONFLICT", "The VPC holds load balancer web")
    }

    @Test func whatIsDoneIsToldAndNoted() throws {
        let id = try made()
        let target = try instance("one", in: try cloud.vpc(of: owner))
        #expect(
            cloud.call(.post, "/loadbalancers/\(id)/targets", key: owner.key, json: ["instance_id": .string(target), "port": 80]).status
                == 201)
        #expect(cloud.call(.delete, "/loadbalancers/\(id)/targets/\(target)", key: owner.key).status == 200)
        #expect(cloud.call(.put, "/loadbalancers/\(id)", key: owner.key, json: ["name": "new"]).status == 200)
        #expect(cloud.call(.delete, "/loadbalancers/\(id)", key: owner.key).status == 200)
        let actions = ["created", "target_added", "target_removed", "updated", "deleted"].map { "loadbalancer.\($0)" }
        let noted = try cloud.admin("select array_agg(action order by id) from audit_log where resource_id = \(id)::uuid").scalar(
            [String].self)
        #expect(noted == actions)
        let told = try cloud.admin("select array_agg(type order by id) from events where resource_id = \(id)::uuid").scalar([String].self)
        #expect(told == actions.dropLast() + ["loadbalancer.terminating"])
    }
}
