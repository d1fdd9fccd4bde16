// Makes one cache so: a volume for its data, and a container that runs Redis on it, in its owner's default network and on a host port.
// Idempotent at every step, so it may be killed anywhere; a container without a row is removed. It is RUNNING when it answers.
// Tables: caches, host_ports.
import API
import Crypto
import Docker
import HTTP
import Postgres

enum CacheJob {
    static let kind = "cache"

    static let job = Job(kind: kind, lane: .engine, attempts: .max, patience: 5) { bench, subject in
        guard let id = ID(subject) else { return .done }
        return try CacheConvergence(bench: bench, id: id).run()
    }

    /// One in ERROR is tried again at every sweep.
    static let watched = WatchedKind(kind: kind) { _ in
        "select id, desired, status from caches"
    } isSettled: { desired, status, state in
        (desired, status, state) == ("RUNNING", "RUNNING", .running)
    }
}

private struct CacheConvergence {
    let bench: Workbench
    let id: ID

    private struct Wish {
        let owner: ID
        let name: String
        let memoryMB: Int
        let port: Int
        let sealedPassword: [UInt8]
        let desired: String
        let status: String
        let restarts: Int

        static let columns: SQL = "owner_id, name, memory_mb, host_port, password_sealed, desired, status, restarts"

        init(_ row: Row) {
            var row = row
            owner = row.next()
            name = row.next()
            memoryMB = row.next()
            port = row.next()
            sealedPassword = row.next()
            desired = row.next()
            status = row.next()
            restarts = row.next()
        }
    }

    private var container: ResourceContainer { ResourceContainer(bench: bench, kind: CacheJob.kind, id: id) }
    /// Of the engine.
    private var volume: String { bench.names.name(CacheJob.kind, id) }

    /// Longest pause before a restart, in seconds: a server that was killed is back within ten.
    private static let patience = 4.0

    func run() throws -> Job.Outcome {
        guard let row = try bench.connection.begin().commit("select \(Wish.columns) from caches where id = \(id)").first else {
            try container.removeOrphans()
            return .done
        }
        let wish = Wish(row)
        if wish.desired == "DELETED" { return try remove(wish) }
        do {
            return try converge(wish)
        } catch let failure as Unattainable {
            try report("ERROR", reason: failure.reason)
            return .done
        }
    }

    /// The container, the volume, the row: in this order, so that nothing is left whose row is gone.
    private func remove(_ wish: Wish) throws -> Job.Outcome {
        try container.remove()
        do {
            try bench.engine.removeVolume(volume)
        } catch {
            switch error {
            case .notFound: break
            // The container is just being removed.
            case .conflict: return .again(seconds: 0.2)
            default: throw error
            }
        }
        try bench.tell("'cache.deleted'", of: "delete from caches where id = \(id) and desired = 'DELETED' returning owner_id, id, name")
        try Networks(bench: bench).removeIfUnused(of: wish.owner)
        return .done
    }

    private func converge(_ wish: Wish) throws -> Job.Outcome {
        guard let present = try container.inspect() else {
            try create(wish)
            return .again(seconds: 0)
        }
        switch present.state {
        case .running: return try greet(wish)
        case .exited: return try revive(present, wish)
        case .created: try start(wish)
        case .paused: try container.unpause()
        case .dead: try container.remove()
        case .restarting, .removing: return .again(seconds: 0.2)
        }
        return .again(seconds: 0)
    }

    private func server(_ wish: Wish) throws -> CacheServer {
        do {
            let password = try bench.config.keyring.open(wish.sealedPassword, .cachePassword, of: id)
            return CacheServer(bench.engine, container: container.name, password: String(decoding: password, as: UTF8.self))
        } catch {
            throw Unattainable(reason: "Its password was encrypted under a key that this installation no longer has")
        }
    }

    /// A server with much data takes its time before it answers.
    private func greet(_ wish: Wish) throws -> Job.Outcome {
        do {
            guard try server(wish).isReady() else { return .again(seconds: 0.2) }
        } catch EngineError.conflict, EngineError.notFound {
            // It ended meanwhile.
            return .again(seconds: 0.2)
        }
        try report("RUNNING", reason: nil)
        return .done
    }

    private func create(_ wish: Wish) throws {
        let labels = container.labels(owner: wish.owner)
        // What Redis takes beside the data: its buffers, and what changes while a child process rewrites the file.
        let memory = wish.memoryMB + wish.memoryMB / 2 + 64
        var spec = ContainerSpec(
            name: container.name, image: bench.config.images[.redis],
            limits: .init(nanoCPUs: 1_000_000_000, memory: memory << 20, pids: 128), labels: labels, command: CacheServer.command)
        spec.attachment = .init(network: try Networks(bench: bench).ensure(for: wish.owner), aliases: [wish.name])
        spec.ports = [PortBinding(hostPort: wish.port, containerPort: CacheServer.port)]
        spec.mounts = [.init(volume: volume, path: CacheServer.folder)]
        spec.hostname = wish.name
        try bench.engine.createVolume(name: volume, labels: labels)
        try container.create(spec)
    }

    /// A port that somebody outside took is exchanged as long as nobody has been told of the cache that it runs.
    private func start(_ wish: Wish) throws {
        try server(wish).prepare(memoryMB: wish.memoryMB)
        guard case .portTaken(let message) = try container.start() else { return }
        guard wish.status == "CREATING" else { throw Unattainable(reason: "Its host port is in use on this machine: \(message)") }
        // The port stands in the container.
        try container.remove()
        try pickPortAnew()
    }

    private func pickPortAnew() throws {
        _ = try bench.connection.begin().commit(
            """
            with picked as (
                update host_ports set host_port = (free_ports(1, '{}'))[1] where cache_id = \(id) returning host_port)
            update caches set host_port = picked.host_port, updated_at = now() from picked where id = \(id)
            """)
    }

    private func revive(_ present: Container, _ wish: Wish) throws -> Job.Outcome {
        let revival = try Revival(of: present, restarts: wish.restarts, patience: Self.patience, bench)
        if let end = revival.complaint { try report("ERROR", reason: "Redis keeps ending: \(end)") }
        guard revival.wait == 0 else { return .again(seconds: revival.wait) }
        _ = try bench.connection.begin().commit("update caches set restarts = \(revival.restarts + 1) where id = \(id)")
        try start(wish)
        return .again(seconds: 0)
    }

    /// Writes what is, unless it is to go meanwhile.
    private func report(_ status: String, reason: String?) throws {
        try bench.tell(
            "'cache.' || lower(status)",
            of: """
                update caches set status = \(status), status_reason = \(reason), updated_at = now()
                where id = \(id) and desired = 'RUNNING' and (status, status_reason) is distinct from (\(status), \(reason))
                returning owner_id, id, name, status, status_reason
                """, data: .state)
    }
}
