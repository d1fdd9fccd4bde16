// /instances: containers. A handler writes the wish (`desired`) and a job; thecloud-cron makes it so and writes `status`.
// Tables: instances, host_ports; addresses in VPCs by Instances+Seat.swift. Logs and statistics, which ask the engine, are in Instances+Engine.swift.
import API
import Crypto
import Docker
import HTTP
import Identity
import Postgres

enum Instances {
    static let routes: [Route] = [
        .get("/instances", .permission(.instanceRead), list),
        .create("/instances", .permission(.instanceCreate), create),
        .get("/instances/:id", .permission(.instanceRead), get),
        .put("/instances/:id", .permission(.instanceUpdate), update),
        .delete("/instances/:id", .permission(.instanceDelete), delete),
        .get("/instances/:id/logs", .permission(.instanceRead), pool: .long, logs),
        .get("/instances/:id/stats", .permission(.instanceRead), pool: .long, stats),
        .get("/instance-types", .authenticated, types),
    ]

    private static let columns: SQL =
        """
        id, name, image, status, status_reason, instance_type, ports, vpc_id, subnet_id, host(private_ip), command, env_names, volumes::text,
        created_at, updated_at
        """

    /// `columns` as an answer shows them; values of `env` are masked: they are stored sealed and never come back.
    private static func write(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.text("name", &row)
        out.text("image", &row)
        out.text("status", &row)
        out.text("status_reason", &row)
        out.text("instance_type", &row)
        out.text("ports", &row)
        out.id("vpc_id", &row)
        out.id("subnet_id", &row)
        out.text("private_ip", &row)
        out.texts("command", &row)
        out.masked("env", &row)
        out.json("volumes", &row)
        out.time("created_at", &row)
        out.time("updated_at", &row)
    }

    private static func json(_ row: Row) -> JSON { ["data": .written { write(row, to: &$0) }] }

    private struct Draft {
        let name: String
        let image: ImageReference
        let ports: [PortMapping]
        let env: [String: String]
        let command: [String]?
        let type: InstanceType
        let mounts: [Mount]

        init(_ body: Fields) throws(APIError) {
            var body = body
            let name = body.required("name", .resourceName)
            let image = body.required("image", .image)
            ports = body.optional("ports", .ports) ?? []
            env = body.optional("env", .env) ?? [:]
            command = body.optional("command", .command)
            type = body.optional("instance_type", .instanceType) ?? .small
            mounts = body.optional("volumes", .mounts) ?? []
            guard let name, let image, body.problems == nil else { throw body.refusal }
            self.name = name
            self.image = image
        }
    }

    private struct Change {
        let name: String?
        let desired: String?

        init(_ body: Fields) throws(APIError) {
            var body = body
            name = body.optional("name", .resourceName)
            desired = body.optional("status", .oneOf(["RUNNING", "STOPPED", "PAUSED"]))
            if !body.has("name"), !body.has("status") { body.report("status", "or name is required") }
            if let problems = body.problems { throw problems }
        }
    }

    private static let refusals: [String: APIError] = [
        "instances_name_taken": .alreadyExists("You have an instance of this name already"),
        "host_ports_taken": .conflict("A host port is held by another instance"),
    ].merging(Seat.refusals) { first, _ in first }

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let rows = try context.commit("select \(columns) from instances where \(page.window)")
        return .json(page.envelope(rows, write))
    }

    private static func create(_ context: Context) throws -> Response {
        var body = try context.fields()
        let seat = try Seat(&body, context)
        let draft = try Draft(body)
        try Volumes.claim(draft.mounts, context)
        let busy = draft.ports.isEmpty ? [] : HostPorts.listening()
        if let taken = draft.ports.first(where: { busy.contains($0.host) }) {
            throw APIError.conflict("Host port \(taken.host) is in use on this machine")
        }
        let ports = try pick(draft.ports, busy: busy, context)
        let id = context.newID()
        let sealed = context.config.keyring.sealEnvironment(draft.env, of: id)
        let quota = context.config.quota
        try context.send("select check_instance_quota(\(quota.instances), \(quota.memoryMB), \(draft.type.memoryMB))")
        let known: JSON = ["name": .string(draft.name), "image": .string(draft.image.description)]
        try context.record("instance.created", id, known)
        try context.emit("instance.created", id, known.adding(["status": "STARTING"]))
        try context.enqueue("instance", id)
        for mount in draft.mounts { try Volumes.note(mount, in: id, context) }
        let rows = try context.commit(
            """
            with made as (
                insert into instances (id, name, image, command, env_names, env_sealed, instance_type, cpus, memory_mb, ports, volumes,
                vpc_id, subnet_id)
                values (\(id), \(draft.name), \(draft.image.description), \(draft.command)::text[], \(draft.env.keys.sorted())::text[],
                \(sealed)::bytea, \(draft.type.rawValue), \(draft.type.cpus)::numeric, \(draft.type.memoryMB), \(ports.text),
                \(draft.mounts.json)::jsonb, \(seat.vpc), \(seat.subnet)) returning \(columns)
            ), held as (
                insert into host_ports (instance_id, position, host_port, container_port, is_picked)
                select \(id), * from unnest(\(Array(ports.indices))::int[], \(ports.map(\.host))::int[], \(ports.map(\.container))::int[],
                \(draft.ports.map { $0.host == 0 ? 1 : 0 })::int[]::boolean[])
            ), attached as (
                update volumes v set instance_id = \(id), mount_path = m.path, updated_at = now()
                from unnest(\(draft.mounts.map(\.volume.description))::uuid[], \(draft.mounts.map(\.path))::text[]) m (volume_id, path)
                where v.id = m.volume_id
            )\(seat.address(of: id))
            select * from made
            """, refusals: refusals)
        return .created(json(rows[0]))
    }

    private static func get(_ context: Context) throws -> Response {
        let rows = try context.commit("select \(columns) from instances where id = \(try context.id())")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(json(row))
    }

    private static func update(_ context: Context) throws -> Response {
        let change = try Change(context.fields())
        let id = try context.id()
        guard var row = try context.query("select status, desired from instances where id = \(id) for no key update").first else {
            throw APIError.notFound
        }
        let (status, desired): (String, String) = (row.next(), row.next())
        guard status != "TERMINATING" else { throw APIError.conflict("The instance is being terminated") }
        if let wish = change.desired { try checkMove(from: status, desired: desired, to: wish) }
        let changed: JSON = ["name": .optional(change.name), "status": .optional(change.desired)]
        try context.record("instance.updated", id, changed)
        try context.emit("instance.updated", id, changed)
        try context.enqueue("instance", id)
        let rows = try context.commit(
            """
            update instances set name = coalesce(\(change.name), name), desired = coalesce(\(change.desired), desired), updated_at = now(),
            status = case when \(change.desired) = 'RUNNING' and status in ('STOPPED', 'ERROR') then 'STARTING' else status end,
            status_reason = case when \(change.desired) = 'RUNNING' then null else status_reason end, restarts = 0
            where id = \(id) returning \(columns)
            """, refusals: refusals)
        return .json(json(rows[0]))
    }

    private static func delete(_ context: Context) throws -> Response {
        let id = try context.id()
        let rows = try context.query(
            """
            update instances set desired = 'DELETED', status = 'TERMINATING', status_reason = null, updated_at = now()
            where id = \(id) returning id
            """)
        guard !rows.isEmpty else { throw APIError.notFound }
        try context.record("instance.deleted", id)
        try context.emit("instance.terminating", id, ["status": "TERMINATING"])
        try context.enqueue("instance", id)
        return .message("Instance is being terminated")
    }

    private static func types(_ context: Context) throws -> Response {
        .json(["data": .array(InstanceType.allCases.map(\.json)), "meta": ["next_cursor": nil]])
    }
}

extension Instances {
    /// - Throws: `conflict` where STARTING→RUNNING⇄STOPPED, RUNNING⇄PAUSED does not lead there. ERROR may be started or stopped.
    private static func checkMove(from status: String, desired: String, to wish: String) throws(APIError) {
        let present = status == "ERROR" ? status : desired
        let targets =
            switch present {
            case "RUNNING": ["RUNNING", "STOPPED", "PAUSED"]
            case "STOPPED": ["RUNNING", "STOPPED"]
            case "PAUSED": ["RUNNING", "PAUSED"]
            case "ERROR": ["RUNNING", "STOPPED"]
            default: [String]()
            }
        let isEarly = wish == "PAUSED" && status == "STARTING"
        guard targets.contains(wish), !isEarly else {
            throw .conflict("An instance that is \(isEarly ? status : present) can't become \(wish)")
        }
    }
}
