// Gives one auto-scaling group the members that it should have (GroupPlan). Each step is one transaction that holds the group's row,
// so whoever dies in it has done nothing. Members are instances like any: their own jobs do the work on the engine, and a trigger wishes this job
// whenever one of them changes. Tables: scaling_groups, instances, host_ports, addresses, load_balancer_targets.
import API
import HTTP
import Postgres

enum ScalingGroupJob {
    static let kind = "scaling_group"

    static let job = Job(kind: kind, lane: .scaling, attempts: .max, patience: 30) { bench, subject in
        guard let id = ID(subject) else { return .done }
        return try GroupConvergence(bench: bench, id: id).run()
    }
}

struct GroupConvergence {
    let bench: Workbench
    let id: ID

    struct Group {
        let owner: ID
        let name: String
        let desired: String
        let count: Int
        let balancer: ID?
        var trouble: GroupPlan.Trouble
        let ports: String
        let sealedEnvironment: [UInt8]?
        let memoryMB: Int

        static let columns: SQL =
            """
            owner_id, name, desired, desired_count, load_balancer_id, failures, failed_at, failure_reason, retry_at, ports, env_sealed, memory_mb
            """

        init(_ row: Row) {
            var row = row
            owner = row.next()
            name = row.next()
            desired = row.next()
            count = row.next()
            balancer = row.next()
            trouble = .init(failures: row.next(), failedAt: row.next(), reason: row.next(), retryAt: row.next())
            ports = row.next()
            sealedEnvironment = row.next()
            memoryMB = row.next()
        }
    }

    /// First who goes, then who comes: what stands in the way of those must not keep the others.
    func run() throws -> Job.Outcome {
        let outcome = try inTransaction { transaction in
            guard let group = try group(transaction) else { return Job.Outcome.done }
            let members = try members(transaction)
            return group.desired == "DELETED" ? try end(members, transaction) : try settle(group, members, transaction)
        }
        do {
            try inTransaction { transaction in
                guard let group = try group(transaction), group.desired != "DELETED" else { return }
                for _ in 0..<plan(of: group, try members(transaction)).made { try make(group, transaction) }
            }
            return outcome
        } catch let failure as Unattainable {
            return try inTransaction { try rest($0, because: failure.reason) }
        }
    }

    private func inTransaction<Result>(_ body: (Transaction) throws -> Result) throws -> Result {
        let transaction = try bench.connection.begin()
        do {
            let outcome = try body(transaction)
            transaction.notify("jobs")
            transaction.notify("events")
            try transaction.commit()
            return outcome
        } catch {
            transaction.rollback()
            throw error
        }
    }

    /// The row, which is held until the end of the transaction; what is made in it is the owner's.
    private func group(_ transaction: Transaction) throws -> Group? {
        guard let row = try transaction.query("select \(Group.columns) from scaling_groups where id = \(id) for no key update").first else {
            return nil
        }
        let group = Group(row)
        try transaction.send("select set_config('thecloud.owner', \(group.owner.description), true)")
        return group
    }

    private func members(_ transaction: Transaction) throws -> [GroupPlan.Member] {
        try transaction.query(
            "select id, status, status_reason, desired, leaves_at from instances where group_id = \(id) order by id"
        ).map { row in
            var row = row
            return GroupPlan.Member(id: row.next(), status: row.next(), reason: row.next(), desired: row.next(), leavesAt: row.next())
        }
    }

    private func plan(of group: Group, _ members: [GroupPlan.Member]) -> GroupPlan {
        GroupPlan(
            desired: group.count, isBalanced: group.balancer != nil, members: members, trouble: group.trouble, now: bench.now())
    }

    private func settle(_ group: Group, _ members: [GroupPlan.Member], _ transaction: Transaction) throws -> Job.Outcome {
        let plan = plan(of: group, members)
        try remove(plan.removed, transaction)
        try retire(plan.retired, transaction)
        try store(plan, transaction)
        return plan.nextLook.map { .again(seconds: max(Double($0.microseconds - bench.now().microseconds) / 1_000_000, 0.1)) } ?? .done
    }

    /// What could not be made counts like one that failed.
    private func rest(_ transaction: Transaction, because reason: String) throws -> Job.Outcome {
        guard var group = try group(transaction) else { return .done }
        group.trouble.note([reason], isWhole: false, bench.now())
        try store(plan(of: group, try members(transaction)), transaction)
        return .again(seconds: Double(GroupPlan.pause(after: group.trouble.failures)))
    }

    /// The members first; the last one that is gone wishes this job again.
    private func end(_ members: [GroupPlan.Member], _ transaction: Transaction) throws -> Job.Outcome {
        try remove(members.filter { $0.desired != "DELETED" }.map(\.id), transaction)
        guard members.isEmpty else { return .done }
        try transaction.send(
            .telling(bench.newID(), "'autoscaling.deleted'", of: "delete from scaling_groups where id = \(id) returning owner_id, id, name")
        )
        return .done
    }

    private func remove(_ ids: [ID], _ transaction: Transaction) throws {
        for member in ids {
            let change: SQL =
                """
                update instances set desired = 'DELETED', status = 'TERMINATING', status_reason = null, updated_at = now()
                where id = \(member) and group_id = \(id) returning owner_id, id, status
                """
            try transaction.send(
                .telling(bench.newID(), "'instance.terminating'", of: change, data: "jsonb_build_object('status', status)"))
            try transaction.send("select enqueue('instance', \(member.description), null)")
        }
    }

    private func retire(_ ids: [ID], _ transaction: Transaction) throws {
        let time = bench.now().advanced(seconds: GroupPlan.drainSeconds)
        for member in ids {
            try transaction.send("update instances set leaves_at = \(time) where id = \(member) and group_id = \(id)")
            try transaction.send("delete from load_balancer_targets where instance_id = \(member) and owner_id = current_owner()")
        }
    }

    private func store(_ plan: GroupPlan, _ transaction: Transaction) throws {
        try transaction.send(
            """
            with before as (select status from scaling_groups where id = \(id)), changed as (
                update scaling_groups set status = \(plan.status), status_reason = \(plan.statusReason), failures = \(plan.trouble.failures),
                failed_at = \(plan.trouble.failedAt), failure_reason = \(plan.trouble.reason), retry_at = \(plan.trouble.retryAt),
                updated_at = case when (status, status_reason) is distinct from (\(plan.status), \(plan.statusReason)) then now()
                    else updated_at end
                where id = \(id) returning owner_id, id, name, desired_count)
            insert into events (id, owner_id, type, resource_id, data)
            select \(bench.newID()), c.owner_id, \("autoscaling." + plan.status.lowercased()), c.id, jsonb_build_object('name', c.name,
            'status', \(plan.status)::text, 'status_reason', \(plan.statusReason)::text, 'desired_count', c.desired_count)
            from changed c, before b where b.status <> \(plan.status)
            """)
    }
}
