// /autoscaling/groups: so many instances alike, made anew where one is lost, more or fewer by policies. A handler writes the wish and a job;
// thecloud-cron makes and removes members (Sources/Jobs/ScalingGroupJob.swift), which are rows of `instances` like any.
// Tables: scaling_groups, instances; policies are in ScalingGroups+Policies.swift.
import API
import Crypto
import Docker
import HTTP
import Identity
import Postgres

enum ScalingGroups {
    static let routes: [Route] = [
        .get("/autoscaling/groups", .permission(.autoscalingRead), list),
        .create("/autoscaling/groups", .permission(.autoscalingCreate), create),
        .get("/autoscaling/groups/:id", .permission(.autoscalingRead), get),
        .put("/autoscaling/groups/:id", .permission(.autoscalingUpdate), update),
        .delete("/autoscaling/groups/:id", .permission(.autoscalingDelete), delete),
        .get("/autoscaling/groups/:id/policies", .permission(.autoscalingRead), policies),
        .create("/autoscaling/groups/:id/policies", .permission(.autoscalingUpdate), addPolicy),
        .delete("/autoscaling/groups/:id/policies/:policy_id", .permission(.autoscalingUpdate), removePolicy),
    ]

    private static let columns: SQL =
        """
        id, name, vpc_id, image, min_instances, max_instances, desired_count, ports, load_balancer_id, target_port, instance_type, command, \
        env_names, status, status_reason, (select coalesce(jsonb_agg(jsonb_build_object('id', i.id, 'name', i.name, 'status', i.status) \
        order by i.id), '[]') from instances i where i.group_id = scaling_groups.id)::text, created_at, updated_at
        """

    private static func write(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.text("name", &row)
        out.id("vpc_id", &row)
        out.text("image", &row)
        out.member("min_instances", .int(row.next(Int.self)))
        out.member("max_instances", .int(row.next(Int.self)))
        out.member("desired_count", .int(row.next(Int.self)))
        out.text("ports", &row)
        out.id("load_balancer_id", &row)
        out.member("target_port", .optional(row.next(Int?.self)))
        out.text("instance_type", &row)
        out.texts("command", &row)
        out.masked("env", &row)
        out.text("status", &row)
        out.text("status_reason", &row)
        out.json("instances", &row)
        out.time("created_at", &row)
        out.time("updated_at", &row)
    }

    private static func json(_ row: Row) -> JSON { ["data": .written { write(row, to: &$0) }] }

    private static let refusals: [String: APIError] = [
        "scaling_groups_name_taken": .alreadyExists("You have an auto-scaling group of this name already"),
        "scaling_groups_vpc": .invalid("vpc_id", Rule<ID>.id.requirement),
        "scaling_groups_balancer": .invalid("load_balancer_id", "must be the id of one of your own load balancers in the same VPC"),
    ]

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let rows = try context.commit("select \(columns) from scaling_groups where \(page.window)")
        return .json(page.envelope(rows, write))
    }

    private static func create(_ context: Context) throws -> Response {
        let draft = try Draft(context.fields())
        let (id, numbers) = (context.newID(), draft.numbers)
        if let balancer = draft.balancer {
            let isGoing = try !context.query("select from load_balancers where id = \(balancer) and desired = 'DELETED'").isEmpty
            if isGoing { throw APIError.conflict("The load balancer is being terminated") }
        }
        let sealed = context.config.keyring.sealEnvironment(draft.env, of: id, as: .groupEnvironment)
        try context.send("select check_group_quota(\(context.config.quota.groups))")
        let known: JSON = [
            "name": .string(draft.name), "image": .string(draft.image.description), "desired_count": .int(numbers.desired),
        ]
        try context.record("autoscaling.created", id, known)
        try context.emit("autoscaling.created", id, known.adding(["status": "SCALING"]))
        try context.enqueue("scaling_group", id)
        let rows = try context.commit(
            """
            insert into scaling_groups (id, name, vpc_id, load_balancer_id, target_port, image, command, env_names, env_sealed, instance_type,
            cpus, memory_mb, ports, min_instances, max_instances, desired_count)
            values (\(id), \(draft.name), \(draft.vpc), \(draft.balancer), \(draft.targetPort), \(draft.image.description),
            \(draft.command)::text[], \(draft.env.keys.sorted())::text[], \(sealed)::bytea, \(draft.type.rawValue),
            \(draft.type.cpus)::numeric, \(draft.type.memoryMB), \(draft.ports.text), \(numbers.least), \(numbers.most), \(numbers.desired))
            returning \(columns)
            """, refusals: refusals)
        return .created(json(rows[0]))
    }

    private static func get(_ context: Context) throws -> Response {
        let rows = try context.commit("select \(columns) from scaling_groups where id = \(try context.id())")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(json(row))
    }

    /// Whoever changes something wants it tried at once: failures of before are forgotten.
    private static func update(_ context: Context) throws -> Response {
        let change = try Change(context.fields())
        let id = try context.id()
        let present = try context.query(
            "select desired, min_instances, max_instances, desired_count, ports from scaling_groups where id = \(id) for no key update")
        guard var row = present.first else { throw APIError.notFound }
        guard row.next(String.self) != "DELETED" else { throw APIError.conflict("The auto-scaling group is being terminated") }
        let before = Numbers(least: row.next(), most: row.next(), desired: row.next())
        let numbers = try change.numbers(from: before, Rule.ports.parse(.string(row.next())) ?? [])
        let changed: JSON = [
            "name": .optional(change.name), "min_instances": .int(numbers.least), "max_instances": .int(numbers.most),
            "desired_count": .int(numbers.desired),
        ]
        try context.record("autoscaling.updated", id, changed)
        try context.emit("autoscaling.updated", id, changed)
        try context.enqueue("scaling_group", id)
        let rows = try context.commit(
            """
            update scaling_groups set name = coalesce(\(change.name), name), min_instances = \(numbers.least), max_instances = \(numbers.most),
            desired_count = \(numbers.desired), failures = 0, retry_at = null, updated_at = now() where id = \(id) returning \(columns)
            """, refusals: refusals)
        return .json(json(rows[0]))
    }

    private static func delete(_ context: Context) throws -> Response {
        let id = try context.id()
        let rows = try context.query(
            """
            update scaling_groups set desired = 'DELETED', status = 'TERMINATING', status_reason = null, updated_at = now()
            where id = \(id) returning id
            """)
        guard !rows.isEmpty else { throw APIError.notFound }
        try context.record("autoscaling.deleted", id)
        try context.emit("autoscaling.terminating", id, ["status": "TERMINATING"])
        try context.enqueue("scaling_group", id)
        return .message("Auto-scaling group and its instances are being terminated")
    }
}
