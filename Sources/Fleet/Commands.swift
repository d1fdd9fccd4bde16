// /api/v1/commands/:server_id: a command for the server's agent, and its answer. The row is the truth: it is ordered at the home of the
// agent's socket, the agent's answer settles it, and the request waits for that without a connection. Tables: commands, socket_orders.
import API
import HTTP
import Identity
import Postgres

enum Commands {
    static let routes: [Route] = [
        .create("/api/v1/commands/:server_id", .permission(.commandSend), pool: .long, send),
        .get("/api/v1/commands/:server_id", .permission(.serverRead), list),
    ]

    /// The longest that a caller waits, in seconds; `timeout` asks for less.
    private static let patience = 30

    private static let columns: SQL = "id, server_id, command, state, output, exit_code, duration_ms, created_at, finished_at"

    private static func write(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("command_id", &row)
        out.id("server_id", &row)
        out.text("command", &row)
        out.text("state", &row)
        out.text("output", &row)
        out.member("exit_code", .optional(row.next(Int?.self)))
        out.member("duration_ms", .optional(row.next(Int?.self)))
        out.time("created_at", &row)
        out.time("finished_at", &row)
    }

    private static func send(_ context: Context) throws -> Response {
        var body = try context.fields()
        let command = body.required("command", .text(1...10_000))
        let seconds = body.optional("timeout", .integer(1...patience)) ?? patience
        guard let command, body.problems == nil else { throw body.refusal }
        let server = try context.id("server_id")
        guard let isOnline: Bool = try context.query("select \(Servers.isOnline) from servers where id = \(server)").scalar() else {
            throw APIError.notFound
        }
        let offline = APIError.conflict("The server is offline")
        guard isOnline else { throw offline }
        let id = context.newID()
        let owner = try context.principal.ownerID
        try context.record("command.sent", id, ["server_id": .string(server.description)])
        try context.send("insert into commands (id, server_id, command) values (\(id), \(server), \(command))")
        guard let home: String = try context.query("select order_command(\(id))").scalar() else { throw offline }
        try context.wakeSockets(of: home)
        let outcome = try OwnerSlots.answers.hold(for: owner, limit: context.config.quota.engineWaits) {
            try context.wait(for: id, seconds: seconds) { () -> Outcome? in
                let rows = try context.commit("select state, output, exit_code, duration_ms from commands where id = \(id)")
                guard var row = rows.first else { return .offline }
                return Outcome(&row)
            }
        }
        switch outcome {
        case .done(let output, let exitCode, let milliseconds):
            return .json([
                "command_id": .string(id.description), "command": .string(command), "output": .string(output),
                "exit_code": .optional(exitCode), "duration_ms": .optional(milliseconds),
            ])
        case .offline: throw offline
        case nil: throw APIError.timedOut("The agent did not answer within \(seconds) s")
        }
    }

    private enum Outcome {
        case done(output: String, exitCode: Int?, milliseconds: Int?)
        case offline

        /// `nil` while the agent is at it.
        init?(_ row: inout Row) {
            switch row.next(String.self) {
            case "DONE": self = .done(output: row.next(String?.self) ?? "", exitCode: row.next(), milliseconds: row.next())
            case "OFFLINE": self = .offline
            default: return nil
            }
        }
    }

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let server = try context.id("server_id")
        guard try !context.query("select 1 from servers where id = \(server)").isEmpty else { throw APIError.notFound }
        let rows = try context.commit("select \(columns) from commands where server_id = \(server) and \(page.window)")
        return .json(page.envelope(rows, write))
    }
}
