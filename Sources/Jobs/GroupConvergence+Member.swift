// A new member of a group: the rows that POST /instances would have made, and its place among the targets of the group's load balancer.
import API
import Crypto
import HTTP
import Postgres

extension GroupConvergence {
    /// - Throws: `Unattainable` when a quota, the VPC's addresses or a host port are in the way.
    func make(_ group: Group, _ transaction: Transaction) throws {
        let member = bench.newID()
        let name = "\(group.name.prefix(50))-\(member.description.suffix(8))"
        let quota = bench.config.quota
        let ports = group.ports.split(separator: ",").map { $0.split(separator: ":").compactMap { Int($0) } }
        let picked = ports.count { $0[0] == 0 }
        do {
            try transaction.send("select check_instance_quota(\(quota.instances), \(quota.memoryMB), \(group.memoryMB))")
            var free = picked == 0 ? [] : try transaction.query("select free_ports(\(picked), '{}')").scalar([Int].self) ?? []
            guard free.count == picked else { throw Unattainable(reason: "No free host port is left") }
            let hosts = ports.map { $0[0] == 0 ? free.removeLast() : $0[0] }
            let containers = ports.map { $0[1] }
            try transaction.send(
                """
                insert into instances (id, group_id, vpc_id, name, image, command, env_names, env_sealed, instance_type, cpus, memory_mb, ports)
                select \(member), id, vpc_id, \(name), image, command, env_names, \(try environment(of: member, group))::bytea, instance_type, cpus,
                memory_mb, \(zip(hosts, containers).map { "\($0):\($1)" }.joined(separator: ",")) from scaling_groups where id = \(id)
                """)
            try transaction.send(
                """
                insert into addresses (network_id, number, instance_id)
                select vpc_id, pick_address(vpc_id, null, '{}'), \(member) from scaling_groups where id = \(id)
                """)
            try transaction.send(
                """
                insert into host_ports (instance_id, position, host_port, container_port, is_picked)
                select \(member), * from unnest(\(Array(ports.indices))::int[], \(hosts)::int[], \(containers)::int[],
                \(ports.map { $0[0] == 0 ? 1 : 0 })::int[]::boolean[])
                """)
            try transaction.send(
                """
                insert into load_balancer_targets (id, vpc_id, load_balancer_id, instance_id, port, weight)
                select \(bench.newID()), vpc_id, load_balancer_id, \(member), target_port, 1 from scaling_groups
                where id = \(id) and load_balancer_id is not null
                """)
            try transaction.send(
                """
                insert into events (id, type, resource_id, data) select \(bench.newID()), 'instance.created', id,
                jsonb_build_object('name', name, 'image', image, 'status', status, 'group_id', group_id) from instances where id = \(member)
                """)
            // With its rows: what is in the way shows now, not at the commit.
            _ = try transaction.query("select enqueue('instance', \(member.description), null)")
        } catch let error as DatabaseError {
            throw Self.obstacle(error).map { Unattainable(reason: $0) } ?? error
        }
    }

    private func environment(of member: ID, _ group: Group) throws -> [UInt8]? {
        let keyring = bench.config.keyring
        do {
            return keyring.sealEnvironment(try keyring.openEnvironment(group.sealedEnvironment, of: id, as: .groupEnvironment), of: member)
        } catch {
            throw Unattainable(reason: "Its environment was encrypted under a key that this installation no longer has")
        }
    }

    /// What trying again at once would not change, in words for the owner.
    private static func obstacle(_ error: DatabaseError) -> String? {
        switch (error.state, error.constraint) {
        case ("TCQTA", _): "Quota exceeded: \(error.message)"
        case ("TC409", _): error.message
        case (_, "host_ports_taken"): "A host port is held by another instance or a load balancer"
        case (_, "instances_name_taken"): "An instance of its name is there already"
        default: nil
        }
    }
}
