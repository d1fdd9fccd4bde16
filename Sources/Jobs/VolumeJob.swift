// Makes and removes the engine's volume of a row. A volume without a row is never touched: only a row that says so ends one, and it goes
// after the volume. One that vanished behind our back is said to be lost, never replaced by an empty one. Table volumes.
import API
import Docker
import HTTP
import Postgres

enum VolumeJob {
    static let job = Job(kind: "volume", lane: .engine, attempts: .max, patience: 5) { bench, subject in
        guard let id = ID(subject) else { return .done }
        return try VolumeConvergence(bench: bench, id: id).run()
    }

    /// Wishes the job for every row that is not as the engine has it.
    static func sweep(_ bench: Workbench) throws {
        let present = try bench.engine.volumes(labels: bench.names.labels(kind: "volume")).compactMap { $0.labels["thecloud.id"] }
        let transaction = try bench.connection.begin()
        transaction.notify("jobs")
        _ = try transaction.commit(
            """
            select enqueue('volume', id::text, null) from volumes
            where is_deleted or made_at is null or (status_reason is null) <> (id = any (\(present)::uuid[]))
            """)
    }
}

private struct VolumeConvergence {
    let bench: Workbench
    let id: ID

    private var name: String { bench.names.volume(id) }
    private static let lost = "The engine no longer has this volume: its content is lost"

    func run() throws -> Job.Outcome {
        let rows = try bench.connection.begin().commit("select owner_id, is_deleted, made_at is not null from volumes where id = \(id)")
        guard var row = rows.first else { return .done }
        let (owner, isDeleted, isMade): (ID, Bool, Bool) = (row.next(), row.next(), row.next())
        if isDeleted { return try remove() }
        if !isMade {
            try bench.engine.createVolume(name: name, labels: bench.names.labels(kind: "volume", id: id, owner: owner))
            try report(reason: nil)
        } else {
            try report(reason: try bench.engine.volumeExists(name) ? nil : Self.lost)
        }
        return .done
    }

    private func remove() throws -> Job.Outcome {
        do {
            try bench.engine.removeVolume(name)
        } catch {
            switch error {
            case .notFound: break
            // A container that is just being removed.
            case .conflict: return .again(seconds: 0.5)
            default: throw error
            }
        }
        try bench.tell("'volume.deleted'", of: "delete from volumes where id = \(id) and is_deleted returning owner_id, id, name")
        return .done
    }

    /// Writes what is; tells it where it is something new.
    private func report(reason: String?) throws {
        try bench.tell(
            "'volume.' || lower(status)",
            of: """
                update volumes set made_at = coalesce(made_at, now()), status_reason = \(reason), updated_at = now()
                where id = \(id) and (made_at is null or status_reason is distinct from \(reason))
                returning owner_id, id, name, status, status_reason
                """, data: .state)
    }
}
