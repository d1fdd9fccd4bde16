// Which instance has which volume: POST /volumes/:id/attach and /detach, and the `volumes` of a new instance. A volume has one instance at
// a time; the instance's container is made anew for each change. The instance's row is locked before the volume's, everywhere.
// Tables: volumes, instances.
import API
import HTTP
import Identity
import Postgres

/// A volume of the caller's and where it belongs in an instance.
struct Mount {
    let volume: ID
    let path: String

    /// Of one instance.
    static let limit = 10
}

extension [Mount] {
    /// As instances show them, in the order of their paths.
    var json: JSON {
        .array(
            sorted { $0.path.utf8.lexicographicallyPrecedes($1.path.utf8) }.map {
                ["volume_id": .string($0.volume.description), "mount_path": .string($0.path)]
            })
    }
}

extension Volumes {
    static func inUse(by instance: ID) -> APIError { .conflict("The volume is attached to the instance \(instance)") }

    /// Locks the volumes of a new instance.
    /// - Throws: `invalid` for what is not the caller's, `conflict` for what can't be attached.
    static func claim(_ mounts: [Mount], _ context: Context) throws {
        guard !mounts.isEmpty else { return }
        let rows = try context.query(
            """
            select id, name, status from volumes where id = any (\(mounts.map(\.volume.description))::uuid[])
            order by id for no key update
            """)
        guard rows.count == mounts.count else { throw APIError.invalid("volumes", "must name volumes of your own") }
        for var row in rows {
            row.skip()
            let (name, status): (String, String) = (row.next(), row.next())
            guard isFree(status) else { throw APIError.conflict("The volume \(name) can't be attached: it is \(status)") }
        }
    }

    /// Writes down that a volume was attached, and tells it.
    static func note(_ mount: Mount, in instance: ID, _ context: Context) throws {
        let attached: JSON = ["instance_id": .string(instance.description), "mount_path": .string(mount.path)]
        try context.record("volume.attached", mount.volume, attached)
        try context.emit("volume.attached", mount.volume, attached)
    }

    /// What a new one will be when it is needed.
    private static func isFree(_ status: String) -> Bool { status == "AVAILABLE" || status == "CREATING" }

    static func attach(_ context: Context) throws -> Response {
        var body = try context.fields()
        let instance = body.required("instance_id", .id)
        let path = body.required("mount_path", .mountPath)
        guard let instance, let path, body.problems == nil else { throw body.refusal }
        let found = try context.query(
            """
            select desired, (select count(*) from volumes v where v.owner_id = i.owner_id and v.instance_id = i.id and not v.is_detaching)
            from instances i where id = \(instance) for no key update
            """)
        guard var row = found.first else { throw APIError.invalid("instance_id", Rule<ID>.id.requirement) }
        let (desired, count): (String, Int) = (row.next(), row.next())
        let id = try context.id()
        guard var volume = try context.query("select status, instance_id from volumes where id = \(id) for no key update").first else {
            throw APIError.notFound
        }
        let (status, holder): (String, ID?) = (volume.next(), volume.next())
        if let holder { throw inUse(by: holder) }
        guard isFree(status) else { throw APIError.conflict("The volume can't be attached: it is \(status)") }
        try checkIsChangeable(desired)
        guard count < Mount.limit else { throw APIError.conflict("The instance has \(Mount.limit) volumes already") }
        _ = try context.query(
            "update volumes set instance_id = \(instance), mount_path = \(path), updated_at = now() where id = \(id)",
            refusals: ["volumes_path_taken": .conflict("The instance has another volume at this path")])
        try note(Mount(volume: id, path: path), in: instance, context)
        return try changed("Volume is being attached", id, of: instance, context)
    }

    /// It stays in use until the container that has it is gone.
    static func detach(_ context: Context) throws -> Response {
        let id = try context.id()
        guard var volume = try context.query("select instance_id from volumes where id = \(id)").first else { throw APIError.notFound }
        let free = APIError.conflict("The volume is attached to no instance")
        guard let instance = volume.next(ID?.self) else { throw free }
        let desired = try context.query("select desired from instances where id = \(instance) for no key update").scalar(String.self)
        guard let desired else { throw free }
        try checkIsChangeable(desired)
        try context.send(
            "update volumes set is_detaching = true, updated_at = now() where id = \(id) and instance_id = \(instance) and not is_detaching"
        )
        try context.record("volume.detached", id, ["instance_id": .string(instance.description)])
        try context.emit("volume.detached", id, ["instance_id": .string(instance.description)])
        return try changed("Volume is being detached", id, of: instance, context)
    }

    /// Has the instance's container made anew, and answers with the volume.
    private static func changed(_ message: String, _ id: ID, of instance: ID, _ context: Context) throws -> Response {
        try context.send("update instances set restarts = 0 where id = \(instance)")
        try context.enqueue("instance", instance)
        let rows = try context.commit("select \(columns) from volumes where id = \(id)")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(json(row).adding(["message": .string(message)]))
    }

    private static func checkIsChangeable(_ desired: String) throws(APIError) {
        switch desired {
        case "DELETED": throw .conflict("The instance is being terminated")
        case "PAUSED": throw .conflict("The instance is paused, and its container would have to be made anew")
        default: break
        }
    }
}

extension Rule where Value == String {
    /// A canonical absolute path, at most 255 bytes, that neither is nor holds what the engine itself puts into a container.
    static let mountPath = Rule("must be an absolute path without '.', '..' and '//', not / and nothing of the system's such as /proc") {
        json in
        guard let path = json.string, path.hasPrefix("/"), path.utf8.count <= 255 else { return nil }
        guard path.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) else { return nil }
        let segments = path.utf8.dropFirst().split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map(String.init)
        guard segments.allSatisfy({ !["", ".", "..", nil].contains($0) }) else { return nil }
        let isReserved = ["/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/sbin/docker-init"].contains {
            path == $0 || path.hasPrefix($0 + "/")
        }
        return isReserved ? nil : path
    }
}

extension Rule where Value == [Mount] {
    static let mounts = Rule(
        "must be up to \(Mount.limit) of your own volumes, each once, as {\"volume_id\", \"mount_path\"} with a path of its own: "
            + Rule<String>.mountPath.requirement
    ) { json in
        guard let items = json.array, items.count <= Mount.limit else { return nil }
        let mounts = items.compactMap { item -> Mount? in
            guard let volume = item["volume_id"].flatMap(Rule<ID>.id.parse),
                let path = item["mount_path"].flatMap(Rule<String>.mountPath.parse)
            else { return nil }
            return Mount(volume: volume, path: path)
        }
        let areApart = Set(mounts.map(\.volume)).count == items.count && Set(mounts.map(\.path)).count == items.count
        return areApart ? mounts : nil
    }
}
