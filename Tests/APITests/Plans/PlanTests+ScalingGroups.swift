// Auto-scaling groups, their policies and members.
import Postgres
import Testing

extension PlanTests {
    /// After the VPCs.
    static let scalingGroups = Crowd(
        rows: [
            """
            insert into scaling_groups (id, owner_id, vpc_id, name, image, instance_type, cpus, memory_mb, min_instances, max_instances, desired_count)
            select new_id(), owner_id, id, 'web', 'nginx', 'nano', 0.25, 64, 1, 2, 1 from vpcs
            """,
            """
            insert into scaling_policies (id, owner_id, group_id, metric, target, cooldown_seconds)
            select new_id(), owner_id, id, 'cpu', 50, 300 from scaling_groups
            """,
            "update instances i set group_id = g.id from scaling_groups g where g.owner_id = i.owner_id",
        ],
        tables: ["scaling_groups", "scaling_policies", "instances"],
        lists: [
            "scaling_groups",
            "scaling_policies where group_id = '01890000-0000-7000-8000-000000000000'",
        ])

    @Test(arguments: [
        "select name from scaling_groups where vpc_id = '01890000-0000-7000-8000-000000000000' order by name limit 11",
        "select name from scaling_groups where load_balancer_id = '01890000-0000-7000-8000-000000000000' order by name limit 11",
        "select id from instances where group_id = '01890000-0000-7000-8000-000000000000' order by id",
    ])
    func whatBelongsToAGroupIsFoundByIndex(statement: String) throws {
        let found = try nodes("\(verbatim: statement)")
        #expect(!found.isEmpty && !found.contains { $0.hasPrefix("Seq Scan") }, "\(found)")
    }
}
