// What only the engine knows of an instance: its log and its statistics. Served by the long pool; no transaction is open while the engine
// answers, and no owner may hold more than a few of the pool's threads.
import API
import Docker
import HTTP
import Postgres

extension Instances {
    static func logs(_ context: Context) throws -> Response {
        let tail = try context.request.query.number("tail", default: 100, 1...10_000)
        return try asking(context) { engine, container in
            do {
                let logs = try engine.logs(container, tail: tail)
                return .json(["data": ["logs": .string(logs.text), "is_truncated": .bool(logs.isTruncated)]])
            } catch EngineError.notFound {
                return .json(["data": ["logs": "", "is_truncated": false]])
            }
        }
    }

    static func stats(_ context: Context) throws -> Response {
        let notRunning = APIError.conflict("The instance is not running")
        return try asking(context) { engine, container in
            do {
                let stats = try engine.stats(container)
                guard stats.pids > 0 else { throw notRunning }
                return .json(["data": stats.json.adding(["time": .string(context.now.description)])])
            } catch EngineError.notFound {
                throw notRunning
            }
        }
    }

    /// Asks the engine about the container of the path's instance, once that is known to be the caller's; the transaction is over then.
    private static func asking(_ context: Context, _ question: (Engine, String) throws -> Response) throws -> Response {
        let id = try context.id()
        let rows = try context.commit("select i.owner_id, s.id from instances i, installation s where i.id = \(id)")
        guard var row = rows.first else { throw APIError.notFound }
        let (owner, stack): (ID, ID) = (row.next(), row.next())
        return try OwnerSlots.engine.hold(for: owner, limit: context.config.quota.engineWaits) {
            try question(context.engine, EngineNames(stack: stack).instance(id))
        }
    }
}
