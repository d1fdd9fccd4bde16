// Volumes.
import Postgres
import Testing

extension PlanTests {
    static let volumes = Crowd(
        rows: [
            """
            insert into volumes (id, owner_id, name, size_gb, instance_id, mount_path)
            select new_id(), owner_id, 'data', 1, id, '/data' from instances
            """
        ],
        tables: ["volumes"],
        lists: ["volumes"])

    @Test func theVolumesOfAnInstanceAreFoundByIndex() throws {
        let found = try nodes("select id from volumes where instance_id = '01890000-0000-7000-8000-000000000000'")
        #expect(found.contains { $0.hasSuffix("volumes_instances") }, "\(found)")
    }
}
