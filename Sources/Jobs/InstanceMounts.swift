// The volumes of an instance: which its container should have, and letting go of those that it no longer has. The container has them from
// its making, so another set of volumes means another container. Tables volumes, instances.
import API
import Docker
import HTTP
import Postgres

struct InstanceMounts {
    let bench: Workbench
    /// Of the instance.
    let id: ID
    private let wanted: [Wanted]
    private let leaving: [ID]

    private struct Wanted {
        /// The engine's name for it, and its owner's.
        let volume: String
        let name: String
        let path: String
        let isMade: Bool
    }

    init(of id: ID, _ bench: Workbench) throws {
        self.bench = bench
        self.id = id
        var (wanted, leaving) = ([Wanted](), [ID]())
        let rows = try bench.connection.begin().commit(
            "select id, is_detaching, name, mount_path, made_at is not null from volumes where instance_id = \(id) order by mount_path")
        for var row in rows {
            let (volume, isLeaving): (ID, Bool) = (row.next(), row.next())
            if isLeaving {
                leaving.append(volume)
            } else {
                wanted.append(Wanted(volume: bench.names.volume(volume), name: row.next(), path: row.next(), isMade: row.next()))
            }
        }
        (self.wanted, self.leaving) = (wanted, leaving)
    }

    /// Whether the container has just these volumes of ours, at their places.
    func areIn(_ container: Container) -> Bool {
        let present = container.mounts.filter { bench.names.isVolume($0.key) }
        return present.count == wanted.count && wanted.allSatisfy { present[$0.volume] == $0.path }
    }

    /// For a container that is to be made.
    /// - Returns: `nil` while a volume is not made yet.
    /// - Throws: `Unattainable` for a volume that is lost: the engine would put an empty one in its place.
    func specs() throws -> [ContainerSpec.Mount]? {
        guard wanted.allSatisfy(\.isMade) else { return nil }
        for mount in wanted where try !bench.engine.volumeExists(mount.volume) {
            throw Unattainable(reason: "The engine no longer has the volume \(mount.name)")
        }
        return wanted.map { ContainerSpec.Mount(volume: $0.volume, path: $0.path) }
    }

    /// Frees the volumes that the instance is to let go of; its container no longer has them, or there is none.
    func release() throws {
        if !leaving.isEmpty { try Self.free("id = any (\(leaving.map(\.description))::uuid[]) and is_detaching", of: id, bench) }
    }

    /// Frees all of them: the container is gone for good.
    static func releaseAll(of id: ID, _ bench: Workbench) throws { try free("true", of: id, bench) }

    private static func free(_ condition: SQL, of id: ID, _ bench: Workbench) throws {
        let transaction = try bench.connection.begin()
        transaction.notify("events")
        // In the order in which handlers lock.
        try transaction.send("select from instances where id = \(id) for no key update")
        _ = try transaction.commit(
            """
            with freed as (
                update volumes set instance_id = null, mount_path = null, is_detaching = false, updated_at = now()
                where instance_id = \(id) and \(condition) returning owner_id, id, name, status)
            insert into events (id, owner_id, type, resource_id, data)
            select new_id(), owner_id, 'volume.' || lower(status), id, jsonb_build_object('name', name, 'status', status) from freed
            """)
    }
}
