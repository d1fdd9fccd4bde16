// /vpcs/:id/subnets, /subnets/:id: parts of a VPC's block, whose instances get addresses in them. Tables: subnets, networks.
// That siblings don't overlap is judged in the network behind the VPC, where every block of anybody is a different one.
import API
import HTTP
import Identity
import Postgres

enum Subnets {
    static let routes: [Route] = [
        .get("/vpcs/:id/subnets", .permission(.vpcRead), list),
        .create("/vpcs/:id/subnets", .permission(.vpcCreate), create),
        .get("/subnets/:id", .permission(.vpcRead), get),
        .delete("/subnets/:id", .permission(.vpcDelete), delete),
    ]

    private static let quota = 200

    /// The gateway is the network's, as Sources/Jobs/Networks.swift makes it: the first address behind its own.
    private static let columns: SQL =
        """
        id, vpc_id, name, cidr_block::text, network_cidr::text, (select host(host(n.network_cidr)::inet + 1) from networks n
            where n.owner_id = subnets.owner_id and n.id = subnets.vpc_id), availability_zone, created_at
        """

    private static func write(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.id("vpc_id", &row)
        out.text("name", &row)
        out.text("cidr_block", &row)
        out.text("network_cidr", &row)
        out.text("gateway_ip", &row)
        out.text("availability_zone", &row)
        out.time("created_at", &row)
    }

    private static func json(_ row: Row) -> JSON { ["data": .written { write(row, to: &$0) }] }

    private struct Draft {
        let name: String
        let block: CIDR
        let zone: String

        init(_ body: Fields) throws(APIError) {
            var body = body
            let name = body.required("name", .resourceName)
            let block = body.required("cidr_block", .privateBlock(16...29))
            zone = body.optional("availability_zone", .resourceName) ?? "local-a"
            guard let name, let block, body.problems == nil else { throw body.refusal }
            self.name = name
            self.block = block
        }
    }

    private static let refusals: [String: APIError] = [
        "subnets_name_taken": .alreadyExists("The VPC has a subnet of this name already"),
        "subnets_apart": .conflict("The block overlaps another subnet of the VPC"),
    ]

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let id = try context.id()
        let rows = try context.query("select \(columns) from subnets where vpc_id = \(id) and \(page.window)")
        if rows.isEmpty, try context.query("select from vpcs where id = \(id)").isEmpty { throw APIError.notFound }
        return .json(page.envelope(rows, write))
    }

    /// The VPC's row is locked: its siblings come one after the other, and its network keeps its block meanwhile.
    private static func create(_ context: Context) throws -> Response {
        let draft = try Draft(context.fields())
        let (id, vpc) = (context.newID(), try context.id())
        guard let text: String = try context.query("select cidr_block::text from vpcs where id = \(vpc) for no key update").scalar() else {
            throw APIError.notFound
        }
        guard let plan = CIDR(text), plan.contains(draft.block) else {
            throw APIError.invalid("cidr_block", "must lie within the VPC's \(text)")
        }
        try context.send("select check_subnet_quota(\(vpc), \(quota))")
        let known: JSON = ["name": .string(draft.name), "cidr_block": .string(draft.block.description)]
        try context.record("subnet.created", id, known)
        try context.emit("vpc.subnet_created", vpc, known.adding(["id": .string(vpc.description), "subnet_id": .string(id.description)]))
        let rows = try context.commit(
            """
            insert into subnets (id, vpc_id, name, cidr_block, network_cidr, availability_zone)
            select \(id), \(vpc), \(draft.name), \(draft.block.description)::cidr,
            shifted(\(draft.block.description)::cidr, \(text)::cidr, n.network_cidr), \(draft.zone) from networks n where n.id = \(vpc)
            returning \(columns)
            """, refusals: refusals)
        return .created(json(rows[0]))
    }

    private static func get(_ context: Context) throws -> Response {
        let rows = try context.commit("select \(columns) from subnets where id = \(try context.id())")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(json(row))
    }

    private static func delete(_ context: Context) throws -> Response {
        let id = try context.id()
        if let use = try context.use("select 'instance', name from instances where subnet_id = \(id) order by name limit 11") {
            throw APIError.conflict("The subnet holds \(use)")
        }
        let rows = try context.query(
            "delete from subnets where id = \(id) returning vpc_id, name",
            refusals: ["instances_subnet": .conflict("The subnet is in use")])
        guard var row = rows.first else { throw APIError.notFound }
        let (vpc, name): (ID, String) = (row.next(), row.next())
        try context.record("subnet.deleted", id)
        try context.emit(
            "vpc.subnet_deleted", vpc,
            ["id": .string(vpc.description), "subnet_id": .string(id.description), "name": .string(name)])
        return .message("Subnet deleted")
    }
}
