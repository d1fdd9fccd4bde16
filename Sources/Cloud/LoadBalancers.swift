// /loadbalancers: a proxy with a port of the host before instances of one VPC. A handler writes the wish (`desired`) and a job; thecloud-cron
// makes it so (Sources/Jobs/LoadBalancerJob.swift). Tables: load_balancers, host_ports, addresses; targets are in LoadBalancers+Targets.swift.
import API
import Balancing
import HTTP
import Identity
import Postgres

enum LoadBalancers {
    static let routes: [Route] = [
        .get("/loadbalancers", .permission(.loadBalancerRead), list),
        .create("/loadbalancers", .permission(.loadBalancerCreate), create),
        .get("/loadbalancers/:id", .permission(.loadBalancerRead), get),
        .put("/loadbalancers/:id", .permission(.loadBalancerUpdate), update),
        .delete("/loadbalancers/:id", .permission(.loadBalancerDelete), delete),
        .get("/loadbalancers/:id/targets", .permission(.loadBalancerRead), pool: .long, targets),
        .create("/loadbalancers/:id/targets", .permission(.loadBalancerUpdate), addTarget),
        .delete("/loadbalancers/:id/targets/:instance_id", .permission(.loadBalancerUpdate), removeTarget),
    ]

    private static let columns: SQL =
        """
        id, name, vpc_id, port, algorithm, health_path, health_interval, health_threshold, status, status_reason, host(private_ip), \
        created_at, updated_at
        """

    private static func write(_ row: Row, _ host: String, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.text("name", &row)
        out.id("vpc_id", &row)
        let port: Int = row.next()
        out.member("port", .int(port))
        out.member("url", "http://\(host):\(port)")
        out.text("algorithm", &row)
        let (path, interval, threshold): (String?, Int, Int) = (row.next(), row.next(), row.next())
        out.member(
            "health_check", ["path": .optional(path), "interval_seconds": .int(interval), "threshold": .int(threshold)])
        out.text("status", &row)
        out.text("status_reason", &row)
        out.text("private_ip", &row)
        out.time("created_at", &row)
        out.time("updated_at", &row)
    }

    private static func json(_ row: Row, _ context: Context) -> JSON {
        ["data": .written { write(row, context.config.publicHost, to: &$0) }]
    }

    private struct Draft {
        let name: String
        let vpc: ID
        let port: Int
        let algorithm: ProxyConfiguration.Algorithm
        let check: ProxyConfiguration.HealthCheck

        init(_ body: Fields) throws(APIError) {
            var body = body
            let name = body.required("name", .resourceName)
            let vpc = body.required("vpc_id", .id)
            let port = body.required("port", .integer(1...65535))
            algorithm = body.optional("algorithm", .algorithm) ?? .roundRobin
            check = body.healthCheck() ?? .standard
            guard let name, let vpc, let port, body.problems == nil else { throw body.refusal }
            (self.name, self.vpc, self.port) = (name, vpc, port)
        }
    }

    private struct Change {
        let name: String?
        let algorithm: ProxyConfiguration.Algorithm?
        /// Replaces the former one as a whole.
        let check: ProxyConfiguration.HealthCheck?

        init(_ body: Fields) throws(APIError) {
            var body = body
            name = body.optional("name", .resourceName)
            algorithm = body.optional("algorithm", .algorithm)
            check = body.isNull("health_check") ? .standard : body.healthCheck()
            let isEmpty = name == nil && algorithm == nil && check == nil
            if isEmpty, body.problems == nil { body.report("name", "or algorithm or health_check is required") }
            if let problems = body.problems { throw problems }
        }
    }

    private static let refusals: [String: APIError] = [
        "load_balancers_name_taken": .alreadyExists("You have a load balancer of this name already"),
        "load_balancers_vpc": .invalid("vpc_id", Rule<ID>.id.requirement),
        "host_ports_taken": .conflict("The host port is held by an instance or another load balancer"),
    ]

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let rows = try context.commit("select \(columns) from load_balancers where \(page.window)")
        return .json(page.envelope(rows) { write($0, context.config.publicHost, to: &$1) })
    }

    private static func create(_ context: Context) throws -> Response {
        let draft = try Draft(context.fields())
        guard !HostPorts.listening().contains(draft.port) else {
            throw APIError.conflict("Host port \(draft.port) is in use on this machine")
        }
        let (id, check) = (context.newID(), draft.check)
        try context.send("select check_load_balancer_quota(\(context.config.quota.loadBalancers))")
        let known: JSON = ["name": .string(draft.name), "vpc_id": .string(draft.vpc.description), "port": .int(draft.port)]
        try context.record("loadbalancer.created", id, known)
        try context.emit("loadbalancer.created", id, known.adding(["status": "CREATING"]))
        try context.enqueue("loadbalancer", id)
        let rows = try context.query(
            """
            insert into load_balancers (id, name, vpc_id, port, algorithm, health_path, health_interval, health_threshold)
            values (\(id), \(draft.name), \(draft.vpc), \(draft.port), \(draft.algorithm.rawValue), \(check.path), \(check.interval),
            \(check.threshold)) returning \(columns)
            """, refusals: refusals)
        try context.send(
            "insert into addresses (network_id, number, load_balancer_id) select \(draft.vpc), pick_address(\(draft.vpc), null, '{}'), \(id)"
        )
        _ = try context.commit(
            """
            insert into host_ports (load_balancer_id, position, host_port, container_port, is_picked)
            values (\(id), 0, \(draft.port), \(draft.port), false)
            """, refusals: refusals)
        return .created(json(rows[0], context))
    }

    private static func get(_ context: Context) throws -> Response {
        let rows = try context.commit("select \(columns) from load_balancers where id = \(try context.id())")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(json(row, context))
    }

    private static func update(_ context: Context) throws -> Response {
        let change = try Change(context.fields())
        let id = try context.id()
        try checkIsLiving(id, context)
        let changed: JSON = ["name": .optional(change.name), "algorithm": .optional(change.algorithm?.rawValue)]
        try context.record("loadbalancer.updated", id, changed)
        try context.emit("loadbalancer.updated", id, changed)
        try context.enqueue("loadbalancer", id)
        let rows = try context.commit(
            """
            update load_balancers set name = coalesce(\(change.name), name), algorithm = coalesce(\(change.algorithm?.rawValue), algorithm),
            health_path = case when \(change.check != nil) then \(change.check?.path) else health_path end,
            health_interval = coalesce(\(change.check?.interval)::int, health_interval),
            health_threshold = coalesce(\(change.check?.threshold)::int, health_threshold), updated_at = now()
            where id = \(id) returning \(columns)
            """, refusals: refusals)
        return .json(json(rows[0], context))
    }

    private static func delete(_ context: Context) throws -> Response {
        let id = try context.id()
        let users: SQL = "select 'auto-scaling group', name from scaling_groups where load_balancer_id = \(id) order by name limit 11"
        if let use = try context.use(users) { throw APIError.conflict("The load balancer is used by \(use)") }
        let rows = try context.query(
            """
            update load_balancers set desired = 'DELETED', status = 'TERMINATING', status_reason = null, updated_at = now()
            where id = \(id) returning id
            """)
        guard !rows.isEmpty else { throw APIError.notFound }
        try context.record("loadbalancer.deleted", id)
        try context.emit("loadbalancer.terminating", id, ["status": "TERMINATING"])
        try context.enqueue("loadbalancer", id)
        return .message("Load balancer is being terminated")
    }

    /// Locks the row until the end of the transaction.
    /// - Throws: `notFound`, and `conflict` for one that is being terminated.
    static func checkIsLiving(_ id: ID, _ context: Context) throws {
        let desired: String? = try context.query("select desired from load_balancers where id = \(id) for no key update").scalar()
        guard let desired else { throw APIError.notFound }
        guard desired != "DELETED" else { throw APIError.conflict("The load balancer is being terminated") }
    }
}

extension ProxyConfiguration.HealthCheck {
    /// Of those who say nothing else.
    fileprivate static let standard = Self(path: nil, interval: 2, threshold: 3)
}

extension Fields {
    /// The member `health_check`; what is wrong inside is reported with its place.
    fileprivate mutating func healthCheck() -> ProxyConfiguration.HealthCheck? {
        guard let json = self["health_check"] else { return nil }
        guard var inner = try? Fields(json) else {
            report("health_check", "must be an object with path, interval_seconds, threshold")
            return nil
        }
        let standard = ProxyConfiguration.HealthCheck.standard
        let path = inner.optional("path", .checkPath)
        let interval = inner.optional("interval_seconds", .integer(1...300)) ?? standard.interval
        let threshold = inner.optional("threshold", .integer(1...10)) ?? standard.threshold
        guard case .invalid(let bad)? = inner.problems else { return .init(path: path, interval: interval, threshold: threshold) }
        for problem in bad { report("health_check.\(problem.field)", problem.message) }
        return nil
    }
}

extension Rule where Value == ProxyConfiguration.Algorithm {
    fileprivate static let algorithm = Rule(
        "must be one of \(ProxyConfiguration.Algorithm.allCases.map(\.rawValue).joined(separator: ", "))"
    ) { json in json.string.flatMap(ProxyConfiguration.Algorithm.init) }
}

extension Rule where Value == String {
    /// Path and query as they stand in a request line (RFC 3986), without the apostrophe, which would end the proxy's quotes.
    fileprivate static let checkPath = Rule("must be a path such as /health, up to 256 characters of a URL's") { json in
        json.string.flatMap { $0.wholeMatch(of: /\/[A-Za-z0-9\-._~!$&()*+,;=:@%\/?]{0,255}/) != nil ? $0 : nil }
    }
}
