// Clears away what belonged to processes that are gone: their sandboxes, their places among the homes, and the synchronous invocations they ran.
// A home is gone when it has said nothing while we looked on for half a minute: not by the clock, or an outage of the database would look like the
// end of everybody. Tables: sandbox_homes, invocations.
import API
import Docker
import HTTP
import Postgres

final class SandboxKeeping {
    private let bench: Workbench
    /// When each home had spoken last, and since when we have known that.
    private var seen: [ID: (at: Timestamp, since: ContinuousClock.Instant)] = [:]

    /// How long a home may be silent; it speaks every three seconds.
    private let silence: Duration

    init(_ bench: Workbench, silence: Duration = .seconds(30)) {
        self.bench = bench
        self.silence = silence
    }

    /// Looks once; to be called every few seconds.
    func run() throws {
        // First: a sandbox is made only after its home is known.
        let containers = try bench.engine.containers(labels: bench.names.labels(kind: "sandbox"))
        let homes = try livingHomes()
        try endLostInvocations()
        for container in containers {
            guard let home = container.labels["thecloud.home"].flatMap(ID.init), homes.contains(home) else {
                try? bench.engine.remove(container.id, force: true)
                continue
            }
        }
    }

    /// Those that are left when the dead ones have been struck off.
    private func livingHomes() throws -> Set<ID> {
        var present: [ID: (at: Timestamp, since: ContinuousClock.Instant)] = [:]
        var dead: [ID] = []
        for var row in try bench.connection.begin().commit("select id, seen_at from sandbox_homes") {
            let (id, at): (ID, Timestamp) = (row.next(), row.next())
            if let known = seen[id], known.at == at {
                if known.since.duration(to: .now) >= silence { dead.append(id) } else { present[id] = known }
            } else {
                present[id] = (at, .now)
            }
        }
        seen = present
        guard !dead.isEmpty else { return Set(present.keys) }
        let ids = dead.map(\.description)
        _ = try bench.connection.begin().commit("delete from sandbox_homes where id = any (\(ids)::uuid[])")
        return Set(present.keys)
    }

    private func endLostInvocations() throws {
        let transaction = try bench.connection.begin()
        transaction.notify("events")
        _ = try transaction.commit(
            """
            with lost as (
                update invocations i set status = 'FAILED', error = 'the worker was lost', home = null, leased_until = null, finished_at = now()
                where i.status in ('PENDING', 'RUNNING') and not i.is_async
                and (i.leased_until < now() or not exists (select from sandbox_homes h where h.id = i.home)) returning i.*
            )
            insert into events (id, owner_id, type, resource_id, data)
            select new_id(), l.owner_id, 'function.failed', l.function_id, invocation_told(l::invocations) from lost l
            """)
    }
}
