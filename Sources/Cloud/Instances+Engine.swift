// What only the engine knows of an instance: its log and its statistics. Served by the long pool; no transaction is open while the engine answers.
import API
import Docker
import HTTP
import Postgres

extension Instances {
    static func logs(_ context: Context) throws -> Response {
        let tail = try context.request.query.number("tail", default: 100, 1...10_000)
        let container = try container(context)
        let lines: [String]
        do {
            lines = try context.engine.logs(container, tail: tail).map(\.text)
        } catch .notFound {
            lines = []
        }
        return .json(["data": ["logs": .string(lines.joined())]])
    }

    static func stats(_ context: Context) throws -> Response {
        let container = try container(context)
        do {
            let stats = try context.engine.stats(container)
            return .json(["data": stats.json])
        } catch .notFound {
            throw APIError.conflict("The instance is not running")
        }
    }

    /// The container's name, once the instance is known to be the caller's; the transaction is over then.
    private static func container(_ context: Context) throws -> String {
        let id = try context.id()
        let rows = try context.commit("select i.id, s.id from instances i, installation s where i.id = \(id)")
        guard var row = rows.first else { throw APIError.notFound }
        _ = row.next(ID.self)
        return ContainerNames.instance(id, stack: row.next())
    }
}
