// What a job changes of a row, and the event that tells it to the row's owner: one statement, so neither is there without the other. Table events.
import HTTP
import Postgres

extension SQL {
    /// - Parameters:
    ///   - event: its id.
    ///   - type: its type, as an expression over what `change` returns: `'cache.deleted'`.
    ///   - change: updates or deletes at most one row, and returns `owner_id`, `id`, and what `type` and `data` read.
    ///   - data: its data, likewise, as jsonb.
    static func telling(_ event: ID, _ type: SQL, of change: SQL, data: SQL = "jsonb_build_object('name', name)") -> SQL {
        """
        with changed as (\(change))
        insert into events (id, owner_id, type, resource_id, data) select \(event)::uuid, owner_id, \(type), id, \(data) from changed
        """
    }

    /// The data of an event that tells of another state. Reads `name`, `status` and `status_reason`.
    static let state: SQL = "jsonb_build_object('name', name, 'status', status, 'status_reason', status_reason)"
}

extension Workbench {
    /// Commits a change with its event, see `SQL.telling`, and wakes who listens.
    func tell(_ type: SQL, of change: SQL, data: SQL = "jsonb_build_object('name', name)") throws(DatabaseError) {
        let transaction = try connection.begin()
        transaction.notify("events")
        _ = try transaction.commit(.telling(newID(), type, of: change, data: data))
    }
}
