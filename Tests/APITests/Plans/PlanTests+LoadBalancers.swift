// Load balancers and their targets.
import Postgres
import Testing

extension PlanTests {
    /// After the instances, which `vpcs` puts into VPCs.
    static let loadBalancers = Crowd(
        rows: [
            "insert into load_balancers (id, owner_id, vpc_id, name, port) select new_id(), owner_id, id, 'web', 80 from vpcs",
            """
            insert into load_balancer_targets (id, owner_id, vpc_id, load_balancer_id, instance_id, port, weight)
            select new_id(), b.owner_id, b.vpc_id, b.id, i.id, 80, 1
            from load_balancers b join instances i on i.owner_id = b.owner_id and i.vpc_id = b.vpc_id
            """,
        ],
        tables: ["load_balancers", "load_balancer_targets"],
        lists: [
            "load_balancers",
            "load_balancer_targets where load_balancer_id = '01890000-0000-7000-8000-000000000000'",
        ])

    @Test(arguments: [
        "select name from load_balancers where vpc_id = '01890000-0000-7000-8000-000000000000' order by name limit 11",
        "select load_balancer_id from load_balancer_targets where instance_id = '01890000-0000-7000-8000-000000000000'",
        "select host_port from host_ports where load_balancer_id = '01890000-0000-7000-8000-000000000000'",
    ])
    func whatBelongsToALoadBalancerIsFoundByIndex(statement: String) throws {
        let found = try nodes("\(verbatim: statement)")
        #expect(!found.isEmpty && !found.contains { $0.hasPrefix("Seq Scan") }, "\(found)")
    }
}
