// Reads what the members of groups with policies use, every ten seconds, and changes how many there shall be. One process at a time does it
// (Leadership), because readings are compared with the ones before. Tables: scaling_groups, scaling_policies, instances.
import API
import Docker
import HTTP
import Postgres
import Scaling

final class ScalingRound {
    static let period = 10.0

    private let bench: Workbench
    /// Percent of one core that an instance's container has used since it was last asked for; `nil`: it is not known.
    private let cores: (ID) -> Double?
    private var usage: [ID: Usage] = [:]

    init(bench: Workbench, cores: @escaping (ID) -> Double?) {
        self.bench = bench
        self.cores = cores
    }

    private struct Group {
        let id: ID
        let desired: Int
        let range: ClosedRange<Int>
        let scaledAt: Timestamp?
        let policies: [ScalingPolicy]

        init(_ row: Row) throws {
            var row = row
            id = row.next()
            desired = row.next()
            let (least, most): (Int, Int) = (row.next(), row.next())
            range = least...most
            scaledAt = row.next()
            policies = (try JSON(parsing: Array(row.next(String.self).utf8)).array ?? []).compactMap { json in
                let form =
                    json["target"]?.int.map { ScalingPolicy.Form.target(percent: $0) }
                    ?? Rule.steps.parse(json["steps"] ?? .null).map { .steps($0) }
                return form.map { ScalingPolicy($0, cooldownSeconds: json["cooldown_seconds"]?.int ?? 300) }
            }
        }
    }

    func run() throws {
        let groups = try bench.connection.begin().commit(
            """
            select g.id, g.desired_count, g.min_instances, g.max_instances, g.scaled_at, jsonb_agg(jsonb_build_object(
            'target', p.target, 'steps', p.steps, 'cooldown_seconds', p.cooldown_seconds))::text
            from scaling_groups g join scaling_policies p on p.owner_id = g.owner_id and p.group_id = g.id
            where g.desired = 'ACTIVE' group by g.owner_id, g.id order by g.id
            """
        ).map(Group.init)
        var seen: [ID: Usage] = [:]
        for group in groups {
            let members = try bench.connection.begin().commit(
                """
                select id, cpus::float8 from instances
                where group_id = \(group.id) and status = 'RUNNING' and desired = 'RUNNING' and leaves_at is null order by id
                """)
            for var member in members {
                let (id, cpus): (ID, Double) = (member.next(), member.next())
                // One that is not known this time is not known at all.
                guard let percent = cores(id) else { continue }
                var known = usage[id] ?? Usage()
                known.note(percent / cpus)
                seen[id] = known
            }
            try decide(group, members.map(\.id).compactMap { seen[$0] })
        }
        usage = seen
    }

    private func decide(_ group: Group, _ usage: [Usage]) throws {
        let now = bench.now()
        let since = group.scaledAt.map { Double(now.microseconds - $0.microseconds) / 1_000_000 }
        let decision = ScalingDecision(desired: group.desired, range: group.range, usage: usage, secondsSinceChange: since)
        let outcome = decision.outcome(group.policies)
        guard outcome != group.desired else { return }
        let transaction = try bench.connection.begin()
        for channel in ["jobs", "events"] { transaction.notify(channel) }
        // Unless its owner has changed the numbers meanwhile.
        _ = try transaction.commit(
            """
            with changed as (
                update scaling_groups set desired_count = \(outcome), scaled_at = \(now), updated_at = now()
                where id = \(group.id) and desired = 'ACTIVE' and desired_count = \(group.desired)
                and \(outcome) between min_instances and max_instances returning owner_id, id, name
            ), told as (
                insert into events (id, owner_id, type, resource_id, data)
                select \(bench.newID())::uuid, owner_id, 'autoscaling.scaled', id,
                jsonb_build_object('name', name, 'from', \(group.desired)::int, 'to', \(outcome)::int) from changed
            )
            select enqueue('scaling_group', id::text, null) from changed
            """)
    }
}

/// Readings of the engine; those of the round before are kept for the difference.
final class CoreReadings {
    private let bench: Workbench
    private var earlier: [ID: ContainerStats] = [:]
    private var present: [ID: ContainerStats] = [:]

    init(bench: Workbench) { self.bench = bench }

    func beginRound() { (earlier, present) = (present, [:]) }

    /// Percent of one core since the round before; `nil` when there was none, or the instance does not run.
    func percent(of id: ID) -> Double? {
        guard let stats = try? bench.engine.stats(bench.names.instance(id), since: earlier[id], waits: false), stats.pids > 0 else {
            return nil
        }
        present[id] = stats
        return stats.cpuPercent
    }
}
