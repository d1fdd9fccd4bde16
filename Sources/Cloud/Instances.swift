// /instances: containers. A handler writes the wish (`desired`) and a job; thecloud-cron makes it so and writes `status`.
// Tables: instances, instance_ports. Logs and statistics, which ask the engine, are in Instances+Engine.swift.
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

    struct Instance {
        let id: ID
        let name: String
        let image: String
        let command: [String]?
        let envNames: [String]
        let instanceType: String
        let ports: String
        let desired: String
        let status: String
        let statusReason: String?
        let privateIP: String?
        let createdAt: Timestamp
        let updatedAt: Timestamp

        static let columns: SQL =
            """
            id, name, image, command, env_names, instance_type, ports, desired, status, status_reason, host(private_ip), \
            created_at, updated_at
            """

        init(_ row: Row) {
            var row = row
            id = row.next()
            name = row.next()
            image = row.next()
            command = row.next()
            envNames = row.next()
            instanceType = row.next()
            ports = row.next()
            desired = row.next()
            status = row.next()
            statusReason = row.next()
            privateIP = row.next()
            createdAt = row.next()
            updatedAt = row.next()
        }

        /// `env` with its values masked: they are stored sealed and never come back.
        var json: JSON {
            .written {
                $0.member("id", id)
                $0.member("name", name)
                $0.member("image", image)
                $0.member("status", status)
                $0.member("status_reason", statusReason)
                $0.member("instance_type", instanceType)
                $0.member("ports", ports)
                $0.member("private_ip", privateIP)
                $0.member("command", command.map(JSON.strings) ?? .null)
                $0.member("env", .object(envNames.map { JSON.Member($0, "********") }))
                $0.member("created_at", createdAt)
                $0.member("updated_at", updatedAt)
            }
        }
    }

    private struct Draft {
        let name: String
        let image: ImageReference
        let ports: [PortMapping]
        let env: [String: String]
        let command: [String]?
        let type: InstanceType

        init(_ body: Fields) throws(APIError) {
            var body = body
            let name = body.required("name", .resourceName)
            let image = body.required("image", .image)
            ports = body.optional("ports", .ports) ?? []
            env = body.optional("env", .env) ?? [:]
            command = body.optional("command", .command)
            type = body.optional("instance_type", .instanceType) ?? .small
            // These kinds of objects do not exist yet, so no id can be one of the caller's.
            for reference in ["vpc_id", "subnet_id"] where body.has(reference) { body.report(reference, Rule<ID>.id.requirement) }
            if let volumes = body["volumes"], volumes != [] { body.report("volumes", "must name volumes of your own") }
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
        "instance_ports_taken": .conflict("A host port is held by another instance"),
    ]

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let rows = try context.commit("select \(Instance.columns) from instances where \(page.window)")
        return .json(page.envelope(rows.map(Instance.init), id: \.id, json: \.json))
    }

    private static func create(_ context: Context) throws -> Response {
        let draft = try Draft(context.fields())
        let busy = draft.ports.isEmpty ? [] : HostPorts.listening()
        if let taken = draft.ports.first(where: { busy.contains($0.host) }) {
            throw APIError.conflict("Host port \(taken.host) is in use on this machine")
        }
        let ports = try pick(draft.ports, busy: busy, context)
        let id = context.newID()
        let sealed = context.config.keyring.sealEnvironment(draft.env, of: id)
        let quota = context.config.quota
        try context.send("select check_instance_quota(\(quota.instances), \(quota.memoryMB), \(draft.type.memoryMB))")
        try context.record("instance.created", id, ["name": .string(draft.name), "image": .string(draft.image.description)])
        try context.enqueue("instance", id)
        let rows = try context.commit(
            """
            with made as (
                insert into instances (id, name, image, command, env_names, env_sealed, instance_type, cpus, memory_mb, ports)
                values (\(id), \(draft.name), \(draft.image.description), \(draft.command)::text[], \(draft.env.keys.sorted())::text[],
                \(sealed)::bytea, \(draft.type.rawValue), \(draft.type.cpus)::numeric, \(draft.type.memoryMB), \(ports.text)) returning \(Instance.columns)
            ), held as (
                insert into instance_ports (instance_id, position, host_port, container_port, is_picked)
                select \(id), * from unnest(\(Array(ports.indices))::int[], \(ports.map(\.host))::int[], \(ports.map(\.container))::int[],
                \(draft.ports.map { $0.host == 0 ? 1 : 0 })::int[]::boolean[])
            )
            select * from made
            """, refusals: refusals)
        return .created(["data": Instance(rows[0]).json])
    }

    private static func get(_ context: Context) throws -> Response {
        let rows = try context.commit("select \(Instance.columns) from instances where id = \(try context.id())")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(["data": Instance(row).json])
    }

    private static func update(_ context: Context) throws -> Response {
        let change = try Change(context.fields())
        let id = try context.id()
        guard let row = try context.query("select \(Instance.columns) from instances where id = \(id) for no key update").first else {
            throw APIError.notFound
        }
        let present = Instance(row)
        if let wish = change.desired { try present.checkMove(to: wish) }
        try context.record("instance.updated", id, ["name": .optional(change.name), "status": .optional(change.desired)])
        try context.enqueue("instance", id)
        let rows = try context.commit(
            """
            update instances set name = coalesce(\(change.name), name), desired = coalesce(\(change.desired), desired), updated_at = now(),
            status = case when \(change.desired) = 'RUNNING' and status in ('STOPPED', 'ERROR') then 'STARTING' else status end,
            status_reason = case when \(change.desired) = 'RUNNING' then null else status_reason end, restarts = 0
            where id = \(id) returning \(Instance.columns)
            """, refusals: refusals)
        return .json(["data": Instance(rows[0]).json])
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
        try context.enqueue("instance", id)
        return .message("Instance is being terminated")
    }

    private static func types(_ context: Context) throws -> Response {
        .json(["data": .array(InstanceType.allCases.map(\.json)), "meta": ["next_cursor": nil]])
    }
}

extension Instances.Instance {
    /// - Throws: `conflict` where STARTING→RUNNING⇄STOPPED, RUNNING⇄PAUSED does not lead there. ERROR may be started or stopped.
    fileprivate func checkMove(to wish: String) throws(APIError) {
        let present = status == "ERROR" || status == "TERMINATING" ? status : desired
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
