// /vpcs: networks of one's own. What is planned (`cidr_block`) is the owner's affair; the engine's network behind it (`network_cidr`) has
// a block of the same size that nobody else has, reserved here and made by Sources/Jobs/VPCJob.swift. Tables: vpcs, networks.
import API
import HTTP
import Identity
import Postgres

enum VPCs {
    static let routes: [Route] = [
        .get("/vpcs", .permission(.vpcRead), list),
        .create("/vpcs", .permission(.vpcCreate), create),
        .get("/vpcs/:id", .permission(.vpcRead), get),
        .put("/vpcs/:id", .permission(.vpcUpdate), update),
        .delete("/vpcs/:id", .permission(.vpcDelete), delete),
    ]

    /// What can be in a VPC, and keeps it from being deleted: tables with `name` and `vpc_id`, whose reference to vpcs is called TABLE_vpc.
    private static let contents = [
        (kind: "subnet", table: "subnets"), (kind: "instance", table: "instances"), (kind: "load balancer", table: "load_balancers"),
        (kind: "auto-scaling group", table: "scaling_groups"),
    ]

    private static let columns: SQL =
        """
        id, name, cidr_block::text, (select n.network_cidr::text from networks n where n.owner_id = vpcs.owner_id and n.id = vpcs.id),
        status, status_reason, created_at, updated_at
        """

    private static func write(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.text("name", &row)
        out.text("cidr_block", &row)
        out.text("network_cidr", &row)
        out.text("status", &row)
        out.text("status_reason", &row)
        out.time("created_at", &row)
        out.time("updated_at", &row)
    }

    private static func json(_ row: Row) -> JSON { ["data": .written { write(row, to: &$0) }] }

    private struct Draft {
        let name: String
        let block: CIDR

        private static let usual = CIDR("10.0.0.0/16")!

        init(_ body: Fields) throws(APIError) {
            var body = body
            let name = body.required("name", .resourceName)
            block = body.optional("cidr_block", .privateBlock(16...28)) ?? Self.usual
            guard let name, body.problems == nil else { throw body.refusal }
            self.name = name
        }
    }

    private static let refusals: [String: APIError] = ["vpcs_name_taken": .alreadyExists("You have a VPC of this name already")]

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let rows = try context.commit("select \(columns) from vpcs where \(page.window)")
        return .json(page.envelope(rows, write))
    }

    private static func create(_ context: Context) throws -> Response {
        let draft = try Draft(context.fields())
        let id = context.newID()
        let pools = context.config.networkPools.map(\.description)
        try context.send("select check_vpc_quota(\(context.config.quota.vpcs))")
        try context.send("insert into vpcs (id, name, cidr_block) values (\(id), \(draft.name), \(draft.block.description)::cidr)")
        try context.send(
            """
            insert into networks (id, network_cidr)
            values (\(id), free_block(\(pools)::cidr[], \(draft.block.prefixLength), '{}'))
            """)
        try context.record("vpc.created", id, ["name": .string(draft.name), "cidr_block": .string(draft.block.description)])
        try context.emit("vpc.created", id, from: told(id))
        try context.enqueue("vpc", id)
        let rows = try context.commit("select \(columns) from vpcs where id = \(id)", refusals: refusals)
        return .created(json(rows[0]))
    }

    private static func get(_ context: Context) throws -> Response {
        let rows = try context.commit("select \(columns) from vpcs where id = \(try context.id())")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(json(row))
    }

    private static func update(_ context: Context) throws -> Response {
        var body = try context.fields()
        guard let name = body.required("name", .resourceName) else { throw body.refusal }
        let id = try context.id()
        let rows = try context.query(
            "update vpcs set name = \(name), updated_at = now() where id = \(id) returning \(columns)", refusals: refusals)
        guard let row = rows.first else { throw APIError.notFound }
        try context.record("vpc.updated", id, ["name": .string(name)])
        try context.emit("vpc.updated", id, from: told(id))
        return .json(json(row))
    }

    /// The network goes in the background; its block is nobody's until the engine has let go of it.
    private static func delete(_ context: Context) throws -> Response {
        let id = try context.id()
        let inside = contents.map { kind, table -> SQL in
            "(select \(kind), name from \(verbatim: table) where vpc_id = \(id) order by name limit 11)"
        }
        if let use = try context.use(inside.joined(separator: " union all ")) { throw APIError.conflict("The VPC holds \(use)") }
        try context.emit("vpc.deleted", id, from: told(id))
        let late = contents.map { ("\($0.table)_vpc", APIError.conflict("The VPC is in use")) }
        let gone = try context.query("delete from vpcs where id = \(id)", refusals: Dictionary(uniqueKeysWithValues: late))
        guard gone.affected == 1 else { throw APIError.notFound }
        try context.record("vpc.deleted", id)
        try context.enqueue("vpc", id)
        return .message("VPC deleted")
    }

    private static func told(_ id: ID) -> SQL {
        """
        select jsonb_build_object('name', v.name, 'status', v.status, 'cidr_block', v.cidr_block::text, 'network_cidr', n.network_cidr::text)
        from vpcs v join networks n on n.owner_id = v.owner_id and n.id = v.id where v.id = \(id)
        """
    }
}

extension Context {
    /// Names what keeps an object from being deleted: "subnet a, instance b and others"; `nil` for nothing.
    /// - Parameter contents: a select of kind and name.
    func use(_ contents: SQL) throws -> String? {
        let limit = 10
        let names = try query("select * from (\(contents)) contents limit \(limit + 1)").map { row in
            var row = row
            return "\(row.next(String.self)) \(row.next(String.self))"
        }
        guard !names.isEmpty else { return nil }
        return names.prefix(limit).joined(separator: ", ") + (names.count > limit ? " and others" : "")
    }
}

extension Rule where Value == CIDR {
    /// IPv4 blocks of RFC 1918, spelled as the answer spells them.
    static func privateBlock(_ length: ClosedRange<Int>) -> Rule {
        Rule(
            "must be a private IPv4 block (RFC 1918) of /\(length.lowerBound)–/\(length.upperBound) without host bits, such as 10.0.0.0/16"
        ) { json in
            guard let text = json.string, let block = CIDR(text), block.description == text else { return nil }
            let isPrivate = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"].contains { CIDR($0)!.contains(block) }
            return isPrivate && length.contains(block.prefixLength) ? block : nil
        }
    }
}
