// What only the engine knows of an instance: its log and its statistics. Served by the long pool; no transaction is open while the engine answers.
import API
import Docker
import HTTP
import Postgres

extension Instances {
    static func logs(_ context: Context) throws -> Response {
        let tail = try context.request.query.number("tail", default: 100, 1...10_000)
        let container = try container(context)
        do {
            let logs = try context.engine.logs(container, tail: tail)
            return .json(["data": ["logs": .string(logs.text), "is_truncated": .bool(logs.isTruncated)]])
        } catch EngineError.notFound {
            return .json(["data": ["logs": "", "is_truncated": false]])
        }
    }

    static func stats(_ context: Context) throws -> Response {
        let container = try container(context)
        let notRunning = APIError.conflict("The instance is not running")
        do {
            let stats = try context.engine.stats(container)
            guard stats.pids > 0 else { throw notRunning }
            return .json([
                "data": [
                    "cpu_percent": stats.cpuPercent.map(JSON.double) ?? .null, "memory_bytes": .int(stats.memoryUsed),
                    "memory_limit_bytes": .int(stats.memoryLimit), "pids": .int(stats.pids),
                    "network_received_bytes": .int(stats.networkReceived), "network_sent_bytes": .int(stats.networkSent),
                    "time": .string(context.now.description),
                ]
            ])
        } catch EngineError.notFound {
            throw notRunning
        }
    }

    /// The container's name, once the instance is known to be the caller's; the transaction is over then.
    private static func container(_ context: Context) throws -> String {
        let id = try context.id()
        let rows = try context.commit("select i.id, s.id from instances i, installation s where i.id = \(id)")
        guard var row = rows.first else { throw APIError.notFound }
        _ = row.next(ID.self)
        return EngineNames(stack: row.next()).instance(id)
    }
}
