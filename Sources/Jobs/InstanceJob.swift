// Makes one instance so: compares the wish (instances.desired) with the container and closes the gap. Idempotent at every step,
// so it may be killed anywhere; a container without a row is removed. Tables: instances, instance_ports, networks.
import API
import Crypto
import Docker
import HTTP
import Postgres

enum InstanceJob {
    static let job = Job(kind: "instance", lane: .engine, attempts: .max, patience: 5) { bench, subject in
        guard let id = ID(subject) else { return .done }
        return try InstanceConvergence(bench: bench, id: id).run()
    }
}

struct InstanceConvergence {
    let bench: Workbench
    let id: ID

    struct Wish {
        let owner: ID
        let name: String
        let image: String
        let command: [String]?
        let sealedEnvironment: [UInt8]?
        let cpus: Double
        let memoryMB: Int
        let desired: String
        let status: String
        let restarts: Int

        static let columns: SQL = "owner_id, name, image, command, env_sealed, cpus::float8, memory_mb, desired, status, restarts"

        init(_ row: Row) {
            var row = row
            owner = row.next()
            name = row.next()
            image = row.next()
            command = row.next()
            sealedEnvironment = row.next()
            cpus = row.next()
            memoryMB = row.next()
            desired = row.next()
            status = row.next()
            restarts = row.next()
        }
    }

    private var container: String { bench.names.instance(id) }

    /// Restarts in a row, each within a minute of its start, after which an instance that keeps ending is left in ERROR.
    private static let restartLimit = 5
    private static let stopSeconds = 10

    func run() throws -> Job.Outcome {
        guard let row = try bench.connection.begin().commit("select \(Wish.columns) from instances where id = \(id)").first else {
            try removeOrphans()
            return .done
        }
        let wish = Wish(row)
        if wish.desired == "DELETED" {
            try removeContainer()
            let transaction = try bench.connection.begin()
            transaction.notify("events")
            _ = try transaction.commit(
                """
                with gone as (delete from instances where id = \(id) and desired = 'DELETED' returning owner_id, id, name)
                insert into events (id, owner_id, type, resource_id, data)
                select \(bench.newID()), owner_id, 'instance.deleted', id, jsonb_build_object('name', name) from gone
                """)
            try Networks(bench: bench).removeIfUnused(of: wish.owner)
            return .done
        }
        do {
            return try converge(wish)
        } catch let failure as Failure {
            try report("ERROR", reason: failure.reason, wish)
            return .done
        }
    }

    /// The instance can't be as wished, and trying again would not help.
    private struct Failure: Error { let reason: String }

    private func converge(_ wish: Wish) throws -> Job.Outcome {
        guard let present = try inspect() else {
            if wish.desired == "STOPPED" {
                try report("STOPPED", reason: nil, wish)
                return .done
            }
            try create(wish)
            return .again(seconds: 0)
        }
        switch (wish.desired, present.state) {
        case (_, .restarting), (_, .removing):
            return .again(seconds: 0.2)
        case (_, .dead):
            try removeContainer()
            return .again(seconds: 0)
        case ("STOPPED", .running), ("STOPPED", .paused):
            if present.state == .paused { try tolerating { try bench.engine.unpause(container) } }
            try tolerating { try bench.engine.stop(container, timeout: Self.stopSeconds) }
            try report("STOPPED", reason: nil, wish)
        case ("STOPPED", _):
            try report("STOPPED", reason: nil, wish)
        case ("RUNNING", .running):
            try report("RUNNING", reason: nil, wish, address: present.addresses.values.first)
        case ("RUNNING", .paused):
            try tolerating { try bench.engine.unpause(container) }
            return .again(seconds: 0)
        case ("PAUSED", .paused):
            try report("PAUSED", reason: nil, wish, address: present.addresses.values.first)
        case ("PAUSED", .running):
            try tolerating { try bench.engine.pause(container) }
            return .again(seconds: 0)
        case (_, .exited) where wish.status == "RUNNING" || wish.status == "PAUSED":
            return try revive(present, wish)
        default:
            // Said at once: one that ends before the next look was running all the same, and its restarts count.
            if try start(wish) { try report("RUNNING", reason: nil, wish, address: try inspect()?.addresses.values.first) }
            return .again(seconds: 0)
        }
        return .done
    }

    /// A container that ended without being asked to: started again, later each time, and given up when it keeps ending early.
    private func revive(_ present: Container, _ wish: Wish) throws -> Job.Outcome {
        let restarts = try bench.connection.begin().commit(
            """
            update instances set restarts = case when \(present.finishedAt)::timestamptz - \(present.startedAt)::timestamptz
            > interval '1 minute' then 1 else restarts + 1 end where id = \(id) returning restarts
            """
        ).scalar(Int.self)
        guard let restarts else { return .again(seconds: 0) }
        guard restarts <= Self.restartLimit else { throw Failure(reason: ending(of: present)) }
        if restarts > 1 {
            try report("STARTING", reason: "Restarting: \(ending(of: present))", wish)
            return .again(seconds: Double(1 << (restarts - 2)) / 2)
        }
        _ = try start(wish)
        return .again(seconds: 0)
    }

    private func ending(of container: Container) -> String {
        container.isOutOfMemory ? "it ran out of memory" : "its command ended with exit code \(container.exitCode)"
    }

    private func inspect() throws(EngineError) -> Container? {
        do {
            return try bench.engine.inspect(container)
        } catch .notFound {
            return nil
        }
    }

    /// Whatever of ours carries the id, under any name.
    private func removeOrphans() throws {
        let labels = bench.names.labels(kind: "instance").merging(["thecloud.id": id.description]) { first, _ in first }
        for orphan in try bench.engine.containers(labels: labels) {
            try tolerating { try bench.engine.remove(orphan.id, force: true) }
        }
    }

    private func removeContainer() throws {
        try tolerating { try bench.engine.remove(container, force: true) }
    }

    private func create(_ wish: Wish) throws {
        guard let image = ImageReference(wish.image) else { throw Failure(reason: "The image reference is not valid") }
        try fetch(image)
        let network = try Networks(bench: bench).ensure(for: wish.owner)
        var spec = ContainerSpec(
            name: container, image: image,
            limits: .init(nanoCPUs: Int(wish.cpus * 1_000_000_000), memory: wish.memoryMB << 20, pids: 512),
            labels: bench.names.labels(kind: "instance", id: id, owner: wish.owner), command: wish.command)
        do {
            spec.environment = try bench.config.keyring.openEnvironment(wish.sealedEnvironment, of: id)
        } catch {
            throw Failure(reason: "Its environment was encrypted under a key that this installation no longer has")
        }
        spec.attachment = .init(network: network, aliases: [wish.name])
        spec.ports = try ports()
        spec.hostname = wish.name
        do {
            _ = try bench.engine.createContainer(spec)
        } catch {
            switch error {
            case .conflict: return  // Made by an earlier attempt.
            case .other(400, let message): throw Failure(reason: "The container can't be made: \(message)")
            default: throw error
            }
        }
    }

    private func fetch(_ image: ImageReference) throws {
        guard try !bench.engine.imageExists(image) else { return }
        do {
            try bench.engine.pull(image, timeout: 240_000)
        } catch EngineError.unreachable(let why) {
            throw EngineError.unreachable(why)
        } catch {
            throw Failure(reason: "The image \(image) can't be pulled: \(error)")
        }
    }

    private func ports() throws -> [PortBinding] {
        try bench.connection.begin().commit(
            "select host_port, container_port from instance_ports where instance_id = \(id) order by position"
        ).map { row in
            var row = row
            return PortBinding(hostPort: row.next(), containerPort: row.next())
        }
    }

    /// - Returns: false when the container has to be made anew first.
    private func start(_ wish: Wish) throws -> Bool {
        do {
            try bench.engine.start(container)
            return true
        } catch {
            switch error {
            case .notModified: return true
            case .portTaken(let message):
                // The port stands in the container, so with other ports it has to be made anew.
                try removeContainer()
                guard try pickPortsAnew() else { throw Failure(reason: "A host port is in use on this machine: \(message)") }
                return false
            case .other(400, let message), .other(500, let message):
                throw Failure(reason: "The container can't be started: \(message)")
            default: throw error
            }
        }
    }

    /// Exchanges the ports that we picked, because somebody outside took one meanwhile.
    /// - Returns: false when none was ours to pick.
    private func pickPortsAnew() throws -> Bool {
        let transaction = try bench.connection.begin()
        let changed = try transaction.query(
            """
            update instance_ports p set host_port = f.ports[r.rank]
            from (select free_ports((select count(*)::int from instance_ports where instance_id = \(id) and is_picked), '{}') as ports) f,
            (select position as at, row_number() over (order by position) as rank from instance_ports where instance_id = \(id) and is_picked) r
            where p.instance_id = \(id) and p.position = r.at returning p.position
            """)
        guard !changed.isEmpty else {
            transaction.rollback()
            return false
        }
        _ = try transaction.commit(
            """
            update instances set updated_at = now(), ports = (
                select string_agg(host_port || ':' || container_port, ',' order by position) from instance_ports where instance_id = \(id))
            where id = \(id)
            """)
        return true
    }

    /// Docker says "not modified", "not found" or "conflict" where the step was made already, or is overtaken; the next look tells.
    private func tolerating(_ step: () throws -> Void) throws {
        do {
            try step()
        } catch EngineError.notModified, EngineError.notFound, EngineError.conflict {
            return
        }
    }

    /// Writes what is, unless the wish has changed since it was read (then this job runs again anyway).
    private func report(_ status: String, reason: String?, _ wish: Wish, address: String? = nil) throws {
        let transaction = try bench.connection.begin()
        transaction.notify("events")
        _ = try transaction.commit(
            """
            with changed as (
                update instances set status = \(status), status_reason = \(reason), private_ip = \(address)::inet, updated_at = now()
                where id = \(id) and desired = \(wish.desired)
                and (status, status_reason, private_ip) is distinct from (\(status), \(reason), \(address)::inet)
                returning owner_id, id, name)
            insert into events (id, owner_id, type, resource_id, data)
            select \(bench.newID()), owner_id, \("instance." + status.lowercased()), id,
            jsonb_build_object('name', name, 'status', \(status)::text, 'status_reason', \(reason)::text, 'private_ip', \(address)::text) from changed
            """)
    }
}
