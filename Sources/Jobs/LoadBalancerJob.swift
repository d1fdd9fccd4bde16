// Makes one load balancer so: its proxy's container runs, with a configuration that names the targets there are. Idempotent at every step, so
// it may be killed anywhere; whether the proxy has the right configuration is asked from the proxy itself, so nothing has to be remembered.
// Tables: load_balancers, load_balancer_targets, instances (addresses of targets).
import API
import Balancing
import Docker
import HTTP
import Postgres

enum LoadBalancerJob {
    static let kind = "loadbalancer"

    static let job = Job(kind: kind, lane: .engine, attempts: .max, patience: 5) { bench, subject in
        guard let id = ID(subject) else { return .done }
        return try LoadBalancerConvergence(bench: bench, id: id).run()
    }

    /// One in ERROR is tried again at every sweep.
    static let watched = WatchedKind(kind: kind) { _ in
        "select id, desired, status from load_balancers"
    } isSettled: { desired, status, state in
        (desired, status, state) == ("ACTIVE", "ACTIVE", .running)
    }
}

struct LoadBalancerConvergence {
    let bench: Workbench
    let id: ID

    private struct Wish {
        let owner: ID
        let vpc: ID
        let name: String
        let port: Int
        let algorithm: ProxyConfiguration.Algorithm
        let check: ProxyConfiguration.HealthCheck
        let desired: String
        let restarts: Int

        static let columns: SQL =
            "owner_id, vpc_id, name, port, algorithm, health_path, health_interval, health_threshold, desired, restarts"

        init(_ row: Row) {
            var row = row
            owner = row.next()
            vpc = row.next()
            name = row.next()
            port = row.next()
            algorithm = ProxyConfiguration.Algorithm(rawValue: row.next()) ?? .roundRobin
            check = .init(path: row.next(), interval: row.next(), threshold: row.next())
            desired = row.next()
            restarts = row.next()
        }
    }

    private var container: ResourceContainer { ResourceContainer(bench: bench, kind: LoadBalancerJob.kind, id: id) }
    private var console: ProxyConsole { ProxyConsole(bench.engine, container: container.name) }

    private func place(of wish: Wish) -> Place { Place(bench: bench, holder: .loadBalancer, id: id, owner: wish.owner, vpc: wish.vpc) }

    /// Longest pause before a restart, in seconds: a proxy that was killed is back within ten.
    private static let patience = 8.0

    func run() throws -> Job.Outcome {
        guard let row = try bench.connection.begin().commit("select \(Wish.columns) from load_balancers where id = \(id)").first else {
            try container.removeOrphans()
            return .done
        }
        let wish = Wish(row)
        if wish.desired == "DELETED" {
            try container.remove()
            try bench.tell(
                "'loadbalancer.deleted'",
                of: "delete from load_balancers where id = \(id) and desired = 'DELETED' returning owner_id, id, name")
            return .done
        }
        do {
            return try converge(wish)
        } catch let failure as Unattainable {
            try report("ERROR", reason: failure.reason)
            return .done
        }
    }

    private func converge(_ wish: Wish) throws -> Job.Outcome {
        guard let present = try container.inspect() else {
            try create(wish)
            return .again(seconds: 0)
        }
        switch present.state {
        case .running: return try configure(wish, present)
        case .exited: return try revive(wish, present)
        case .created: try start(wish)
        case .paused: try container.unpause()
        case .dead: try container.remove()
        case .restarting, .removing: return .again(seconds: 0.2)
        }
        return .again(seconds: 0)
    }

    private func configure(_ wish: Wish, _ present: Container) throws -> Job.Outcome {
        do {
            try console.apply(try configuration(of: wish))
        } catch let refusal as ProxyConsole.Refused {
            throw Unattainable(reason: "The proxy does not take its configuration: \(refusal)")
        } catch EngineError.conflict {
            // It ended meanwhile.
            return .again(seconds: 0.2)
        }
        try report("ACTIVE", reason: nil, address: present.addresses.values.first)
        return .done
    }

    /// Instances that are to stop get no requests any more; those that are not up yet, none before they have an address.
    private func configuration(of wish: Wish) throws -> ProxyConfiguration {
        let rows = try bench.connection.begin().commit(
            """
            select t.instance_id, host(i.private_ip), t.port, t.weight from load_balancer_targets t
            join instances i on i.owner_id = t.owner_id and i.id = t.instance_id
            where t.owner_id = \(wish.owner) and t.load_balancer_id = \(id) and i.desired = 'RUNNING' and i.private_ip is not null order by t.id
            """)
        let targets = rows.map { row in
            var row = row
            return ProxyConfiguration.Target(id: row.next(), address: row.next(), port: row.next(), weight: row.next())
        }
        return ProxyConfiguration(port: wish.port, algorithm: wish.algorithm, check: wish.check, targets: targets)
    }

    private func create(_ wish: Wish) throws {
        var spec = ContainerSpec(
            name: container.name, image: bench.config.images[.haproxy],
            limits: .init(nanoCPUs: 1_000_000_000, memory: 256 << 20, pids: 128), labels: container.labels(owner: wish.owner))
        spec.attachment = try place(of: wish).attachment(aliases: [wish.name])
        spec.ports = [PortBinding(hostPort: wish.port, containerPort: wish.port)]
        spec.hostname = wish.name
        try container.create(spec)
    }

    private func start(_ wish: Wish) throws {
        try console.prepare(try configuration(of: wish))
        do {
            if case .portTaken = try container.start() {
                throw Unattainable(reason: "Host port \(wish.port) is in use on this machine")
            }
        } catch EngineError.addressTaken {
            // The address stands in the container.
            try container.remove()
            try place(of: wish).exchangeAddress(within: nil)
        }
    }

    private func revive(_ wish: Wish, _ present: Container) throws -> Job.Outcome {
        let revival = try Revival(of: present, restarts: wish.restarts, patience: Self.patience, bench)
        if let end = revival.complaint { try report("ERROR", reason: "The proxy keeps ending: \(end)") }
        guard revival.wait == 0 else { return .again(seconds: revival.wait) }
        _ = try bench.connection.begin().commit("update load_balancers set restarts = \(revival.restarts + 1) where id = \(id)")
        try start(wish)
        return .again(seconds: 0)
    }

    /// Writes what is, unless it is to go meanwhile.
    private func report(_ status: String, reason: String?, address: String? = nil) throws {
        try bench.tell(
            "'loadbalancer.' || lower(status)",
            of: """
                update load_balancers set status = \(status), status_reason = \(reason), private_ip = \(address)::inet, updated_at = now()
                where id = \(id) and desired = 'ACTIVE'
                and (status, status_reason, private_ip) is distinct from (\(status), \(reason), \(address)::inet)
                returning owner_id, id, name, status, status_reason
                """, data: .state)
    }
}
