// The targets of a load balancer: instances of its VPC. Their health is asked from the proxy itself, so the list is served by the long pool and
// no transaction is open meanwhile. Table load_balancer_targets, whose triggers wish the job (sql/0023_load_balancers.sql).
import API
import Balancing
import Docker
import HTTP
import Postgres

extension LoadBalancers {
    private struct Draft {
        let instance: ID
        let port: Int
        let weight: Int

        init(_ body: Fields) throws(APIError) {
            var body = body
            let instance = body.required("instance_id", .id)
            let port = body.required("port", .integer(1...65535))
            weight = body.optional("weight", .integer(1...256)) ?? 1
            guard let instance, let port, body.problems == nil else { throw body.refusal }
            (self.instance, self.port) = (instance, port)
        }
    }

    private static let columns: SQL = "t.id, t.instance_id, i.name, t.port, t.weight, i.status, t.created_at"

    /// - Parameter state: what the proxy says; `nil` where it can't be asked.
    private static func write(_ row: Row, _ state: ProxyState?, to out: inout JSONWriter) {
        var row = row
        _ = row.next(ID.self)
        let id: ID = row.next()
        out.member("instance_id", id)
        out.text("instance_name", &row)
        out.member("port", .int(row.next(Int.self)))
        out.member("weight", .int(row.next(Int.self)))
        let health = health(of: id, row.next(String.self), state)
        out.member("health", health.word)
        out.member("health_reason", health.reason)
        out.time("created_at", &row)
    }

    private static func health(of id: ID, _ status: String, _ state: ProxyState?) -> (word: String, reason: String?) {
        guard status == "RUNNING" else { return ("OFFLINE", "The instance is \(status)") }
        guard let state, state.fingerprint != nil else { return ("UNKNOWN", "The load balancer does not answer") }
        guard let server = state.servers[id], server.isChecked else { return ("INITIAL", nil) }
        return server.isUp ? ("UP", nil) : ("DOWN", server.reason)
    }

    static func targets(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let id = try context.id()
        let balancers = try context.query("select b.owner_id, b.port, s.id from load_balancers b, installation s where b.id = \(id)")
        guard var balancer = balancers.first else { throw APIError.notFound }
        let (owner, port, stack): (ID, Int, ID) = (balancer.next(), balancer.next(), balancer.next())
        let older: SQL = page.after.map { "t.id < \($0)" } ?? "true"
        let rows = try context.commit(
            """
            select \(columns) from load_balancer_targets t join instances i on i.owner_id = t.owner_id and i.id = t.instance_id
            where t.load_balancer_id = \(id) and \(older) order by t.id desc limit \(page.limit + 1)
            """)
        let state = try OwnerSlots.engine.hold(for: owner, limit: context.config.quota.engineWaits) {
            let console = ProxyConsole(try context.engine, container: EngineNames(stack: stack).name("loadbalancer", id))
            return try? console.state(port: port)
        }
        return .json(page.envelope(rows) { write($0, state, to: &$1) })
    }

    static func addTarget(_ context: Context) throws -> Response {
        let draft = try Draft(context.fields())
        let (balancer, id) = (try context.id(), context.newID())
        try checkIsLiving(balancer, context)
        try context.send("select check_target_quota(\(balancer))")
        let known: JSON = ["instance_id": .string(draft.instance.description), "port": .int(draft.port), "weight": .int(draft.weight)]
        try context.record("loadbalancer.target_added", balancer, known)
        try context.emit("loadbalancer.target_added", balancer, known)
        try context.wakeJobs()
        let rows = try context.query(
            """
            insert into load_balancer_targets (id, vpc_id, load_balancer_id, instance_id, port, weight)
            select \(id), vpc_id, id, \(draft.instance), \(draft.port), \(draft.weight) from load_balancers where id = \(balancer) returning id
            """,
            refusals: [
                "load_balancer_targets_taken": .alreadyExists("The instance is a target of this load balancer already"),
                "load_balancer_targets_instance": .invalid("instance_id", "must be the id of one of your own instances in the same VPC"),
            ])
        guard !rows.isEmpty else { throw APIError.notFound }
        let made = try context.commit(
            """
            select \(columns) from load_balancer_targets t join instances i on i.owner_id = t.owner_id and i.id = t.instance_id
            where t.id = \(id)
            """)
        return .created(["data": .written { write(made[0], ProxyState.initial, to: &$0) }])
    }

    /// Requests that the target has at hand may end (they have five minutes); it gets no further ones.
    static func removeTarget(_ context: Context) throws -> Response {
        let (balancer, instance) = (try context.id(), try context.id("instance_id"))
        let rows = try context.query(
            "delete from load_balancer_targets where load_balancer_id = \(balancer) and instance_id = \(instance) returning id")
        guard !rows.isEmpty else { throw APIError.notFound }
        let known: JSON = ["instance_id": .string(instance.description)]
        try context.record("loadbalancer.target_removed", balancer, known)
        try context.emit("loadbalancer.target_removed", balancer, known)
        try context.wakeJobs()
        return .message("Target removed")
    }
}
