// Instances.
import Postgres

extension PlanTests {
    static let instances = Crowd(
        rows: [
            """
            insert into instances (id, owner_id, name, image, instance_type, cpus, memory_mb)
            select new_id(), id, 'web', 'nginx', 'nano', 1, 64 from users where name = 'crowd'
            """
        ],
        tables: ["instances"],
        lists: [
            "instances"
        ])
}
