// Makes one instance so: compares the wish (instances.desired) with the container and closes the gap. Idempotent at every step,
// so it may be killed anywhere; a container without a row is removed. Tables: instances, host_ports.
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

    static let watched = WatchedKind(kind: "instance") { ids in
        // In ERROR may be one that ended too often, and one that the engine could not start just then.
        """
        select id, desired, case when status = 'ERROR' and restarts <= \(InstanceConvergence.restartLimit) then 'WAITING' else status end
        from instances where not (desired = 'STOPPED' and status = 'STOPPED') or id = any (\(ids)::uuid[])
        """
    } isSettled: { desired, status, state in
        switch (desired, status, state) {
        case ("RUNNING", "RUNNING", .running), ("PAUSED", "PAUSED", .paused): true
        case ("STOPPED", "STOPPED", .exited), ("STOPPED", "STOPPED", .created), ("STOPPED", "STOPPED", nil): true
        case ("RUNNING", "ERROR", let state), ("PAUSED", "ERROR", let state): state != .running
        case ("RUNNING", "WAITING", nil), ("PAUSED", "WAITING", nil): true
        default: false
        }
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
        let vpc: ID?
        let subnet: ID?
        let address: String?

        static let columns: SQL =
            """
            owner_id, name, image, command, env_sealed, cpus::float8, memory_mb, desired, status, restarts, vpc_id, subnet_id, host(private_ip)
            """

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
            vpc = row.next()
            subnet = row.next()
            address = row.next()
        }
    }

    private var container: ResourceContainer { ResourceContainer(bench: bench, kind: "instance", id: id) }

    private func place(of wish: Wish) -> Place { Place(bench: bench, holder: .instance, id: id, owner: wish.owner, vpc: wish.vpc) }

    /// Restarts in a row, each within a minute of its start, after which an instance that keeps ending is left in ERROR.
    static let restartLimit = 5
    private static let stopSeconds = 10

    func run() throws -> Job.Outcome {
        guard let row = try bench.connection.begin().commit("select \(Wish.columns) from instances where id = \(id)").first else {
            try container.removeOrphans()
            return .done
        }
        let wish = Wish(row)
        if wish.desired == "DELETED" {
            try container.remove()
            // Its removal may be under way elsewhere; what it has is in use until then.
            guard try container.inspect() == nil else { return .again(seconds: 0.2) }
            try InstanceMounts.releaseAll(of: id, bench)
            try bench.tell(
                "'instance.deleted'", of: "delete from instances where id = \(id) and desired = 'DELETED' returning owner_id, id, name")
            if wish.vpc == nil { try Networks(bench: bench).removeIfUnused(of: wish.owner) }
            return .done
        }
        do {
            return try converge(wish)
        } catch let failure as Unattainable {
            try report("ERROR", reason: failure.reason, wish)
            return .done
        }
    }

    private func converge(_ wish: Wish) throws -> Job.Outcome {
        let mounts = try InstanceMounts(of: id, bench)
        guard let present = try container.inspect() else {
            try mounts.release()
            if wish.desired == "STOPPED" {
                try report("STOPPED", reason: nil, wish)
                return .done
            }
            guard let specs = try mounts.specs() else { return .again(seconds: 0.2) }
            try create(wish, specs)
            return .again(seconds: 0)
        }
        guard mounts.areIn(present) else { return try dismantle(present, wish) }
        try mounts.release()
        switch (wish.desired, present.state) {
        case (_, .restarting), (_, .removing):
            return .again(seconds: 0.2)
        case (_, .dead):
            try container.remove()
            return .again(seconds: 0)
        case ("STOPPED", .running), ("STOPPED", .paused):
            try container.stop(present.state, seconds: Self.stopSeconds)
            try report("STOPPED", reason: nil, wish)
        case ("STOPPED", _):
            try report("STOPPED", reason: nil, wish)
        case ("RUNNING", .running):
            try report("RUNNING", reason: nil, wish, address: present.addresses.values.first)
        case ("RUNNING", .paused):
            try container.unpause()
            return .again(seconds: 0)
        case ("PAUSED", .paused):
            try report("PAUSED", reason: nil, wish, address: present.addresses.values.first)
        case ("PAUSED", .running):
            try container.pause()
            return .again(seconds: 0)
        case (_, .exited) where wish.status == "RUNNING" || wish.status == "PAUSED":
            return try revive(present, wish)
        default:
            // Said at once: one that ends before the next look was running all the same, and its restarts count.
            if try start(wish) { try report("RUNNING", reason: nil, wish, address: try container.inspect()?.addresses.values.first) }
            return .again(seconds: 0)
        }
        return .done
    }

    /// Takes a container away whose volumes are no longer the right ones. Its successor gets the same address.
    private func dismantle(_ present: Container, _ wish: Wish) throws -> Job.Outcome {
        switch present.state {
        case .running, .paused:
            if wish.desired == "RUNNING" { try report("STARTING", reason: "Its volumes are changing", wish, address: wish.address) }
            try container.stop(present.state, seconds: Self.stopSeconds)
        default: break
        }
        try container.remove()
        return .again(seconds: 0)
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
        guard restarts <= Self.restartLimit else { throw Unattainable(reason: ending(of: present)) }
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

    private func create(_ wish: Wish, _ mounts: [ContainerSpec.Mount]) throws {
        guard let image = ImageReference(wish.image) else { throw Unattainable(reason: "The image reference is not valid") }
        var spec = ContainerSpec(
            name: container.name, image: image,
            limits: .init(nanoCPUs: Int(wish.cpus * 1_000_000_000), memory: wish.memoryMB << 20, pids: 512),
            labels: container.labels(owner: wish.owner), command: wish.command)
        do {
            spec.environment = try bench.config.keyring.openEnvironment(wish.sealedEnvironment, of: id)
        } catch {
            throw Unattainable(reason: "Its environment was encrypted under a key that this installation no longer has")
        }
        spec.attachment = try place(of: wish).attachment(aliases: [wish.name], keeping: wish.address)
        spec.mounts = mounts
        spec.ports = try ports()
        spec.hostname = wish.name
        try container.create(spec)
    }

    private func ports() throws -> [PortBinding] {
        try bench.connection.begin().commit(
            "select host_port, container_port from host_ports where instance_id = \(id) order by position"
        ).map { row in
            var row = row
            return PortBinding(hostPort: row.next(), containerPort: row.next())
        }
    }

    /// - Returns: false when the container has to be made anew first.
    private func start(_ wish: Wish) throws -> Bool {
        do {
            switch try container.start() {
            case .started: return true
            case .undone: return false
            case .portTaken(let message):
                guard try pickPortsAnew() else { throw Unattainable(reason: "A host port is in use on this machine: \(message)") }
                return false
            }
        } catch EngineError.addressTaken {
            let place = place(of: wish)
            try place.exchangeAddress(within: wish.subnet)
            try container.move(to: try place.attachment(aliases: [wish.name]))
            return false
        }
    }

    /// Exchanges the ports that we picked, because somebody outside took one meanwhile.
    /// - Returns: false when none was ours to pick.
    private func pickPortsAnew() throws -> Bool {
        let transaction = try bench.connection.begin()
        let changed = try transaction.query(
            """
            update host_ports p set host_port = f.ports[r.rank]
            from (select free_ports((select count(*)::int from host_ports where instance_id = \(id) and is_picked), '{}') as ports) f,
            (select position as at, row_number() over (order by position) as rank from host_ports where instance_id = \(id) and is_picked) r
            where p.instance_id = \(id) and p.position = r.at returning p.position
            """)
        guard !changed.isEmpty else {
            transaction.rollback()
            return false
        }
        do {
            // The port stands in the container.
            try container.remove()
        } catch {
            transaction.rollback()
            throw error
        }
        _ = try transaction.commit(
            """
            update instances set updated_at = now(), ports = (
                select string_agg(host_port || ':' || container_port, ',' order by position) from host_ports where instance_id = \(id))
            where id = \(id)
            """)
        return true
    }

    /// Writes what is, unless the wish has changed since it was read (then this job runs again anyway).
    private func report(_ status: String, reason: String?, _ wish: Wish, address: String? = nil) throws {
        try bench.tell(
            "'instance.' || lower(status)",
            of: """
                update instances set status = \(status), status_reason = \(reason), private_ip = \(address)::inet, updated_at = now()
                where id = \(id) and desired = \(wish.desired)
                and (status, status_reason, private_ip) is distinct from (\(status), \(reason), \(address)::inet)
                returning owner_id, id, name, status, status_reason, private_ip
                """, data: "\(.state) || jsonb_build_object('private_ip', host(private_ip))")
    }
}
