// VPCs, their subnets, and the addresses in them.
import HTTP
import Postgres
import TestSupport
import Testing

extension PlanTests {
    /// Not everybody's: each block is held against all others.
    static let vpcs = Crowd(
        rows: [
            """
            insert into vpcs (id, owner_id, name, cidr_block)
            select new_id(), id, 'main', '10.0.0.0/24' from users where name = 'crowd' limit 3000
            """,
            """
            insert into networks (id, owner_id, network_cidr)
            select id, owner_id, ('100.' || n / 65536 || '.' || n / 256 % 256 || '.' || n % 256)::inet::cidr
            from (select id, owner_id, 4194304 + row_number() over () as n from vpcs) v
            """,
            """
            insert into subnets (id, owner_id, vpc_id, name, cidr_block, network_cidr, availability_zone)
            select new_id(), n.owner_id, n.id, 's', '10.0.0.0/28', n.network_cidr, 'a' from networks n
            """,
            "update instances i set vpc_id = s.vpc_id, subnet_id = s.id from subnets s where s.owner_id = i.owner_id",
            "insert into addresses (owner_id, network_id, number, instance_id) select owner_id, vpc_id, 2, id from instances where vpc_id is not null",
        ],
        tables: ["vpcs", "networks", "subnets", "addresses", "instances"],
        lists: [
            "vpcs",
            "subnets where vpc_id = '01890000-0000-7000-8000-000000000000'",
        ])

    @Test(arguments: [
        "select n.network_cidr from networks n where n.owner_id = current_owner() and n.id = $1::uuid",
        "select 'subnet', name from subnets where vpc_id = $1::uuid order by name limit 11",
        "select 'instance', name from instances where vpc_id = $1::uuid order by name limit 11",
        "select 'instance', name from instances where subnet_id = $1::uuid order by name limit 11",
        "select number from addresses where owner_id = $1::uuid and network_id = $1::uuid",
    ])
    func whatIsInAVPCIsFoundByIndex(statement: String) throws {
        let (database, owner) = try Self.crowd.get()
        let transaction = try Connection(url: database.api).begin()
        try transaction.send("select set_config('thecloud.owner', \(owner.id), true)")
        try transaction.send("prepare asked (uuid) as \(verbatim: statement)")
        let plan: String =
            try transaction.query("explain (format json) execute asked ('01890000-0000-7000-8000-000000000000')").scalar() ?? ""
        transaction.rollback()
        #expect(plan.contains("Index") && !plan.contains("Seq Scan"), "\(plan)")
    }

    /// A free block is looked for in the index, for each of the few candidates.
    @Test func aFreeBlockIsFoundQuickly() throws {
        let (database, _) = try Self.crowd.get()
        let transaction = try database.administrator().begin()
        try transaction.send("select set_config('role', 'thecloud_auth', true)")
        let plan: String? = try transaction.query(
            "explain (format json) select from networks n where n.network_cidr && '10.192.0.0/16'"
        ).scalar()
        transaction.rollback()
        #expect(plan?.contains("networks_apart") == true, "\(plan ?? "")")
    }
}
