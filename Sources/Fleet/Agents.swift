// The agents' WebSocket, /api/v1/agents/ws: what they say comes here by nginx, one message a request. The first one brings the key;
// from then on the socket is asked with every message whether its key still lives. Tables: sockets, servers, server_metrics, commands.
import API
import HTTP
import Identity
import Postgres

enum Agents {
    static let routes: [Route] = [
        .opening("/_sockets/agent/open", open),
        .message("/_sockets/agent", message),
    ]

    private static let kind = "agent"

    private static func open(_ context: Context) throws -> Response {
        try context.openSocket(kind)
        return Response(status: 204)
    }

    private static func message(_ context: Context) throws -> JSON? {
        var body = try context.fields()
        switch body.required("type", .oneOf(["auth", "metrics", "command_response"])) {
        case "auth": return try authenticate(body, context)
        case "metrics": try store(Sample(body, now: context.now), context)
        case "command_response": try settle(CommandAnswer(body), context)
        default: throw body.refusal
        }
        return nil
    }

    private static func authenticate(_ body: Fields, _ context: Context) throws -> JSON? {
        let key = body["api_key"]?.string ?? ""
        do {
            try context.claimSocket(kind, as: try AgentKey.credential(key), for: .agentConnect)
            guard let server = try context.query("select current_server()").scalar(ID.self) else { throw APIError.invalidCredentials }
            try context.emit("server.connected", server, ["server_id": .string(server.description)])
            return ["type": "auth_success", "server_id": .string(server.description), "message": "Connected successfully"]
        } catch let error {
            guard context.isRefusal(error) else { throw error }
            return try context.dismissSocket(saying: "Invalid or inactive API key")
        }
    }

    private struct Sample {
        let server: ID
        let cpu: Double
        let memory: Double
        let disk: JSON?
        let network: JSON?
        let reportedAt: Timestamp

        init(_ body: Fields, now: Timestamp) throws(APIError) {
            var body = body
            let server = body.required("server_id", .id)
            let cpu = body.required("cpu_percent", .percent)
            let memory = body.required("memory_percent", .percent)
            disk = body.optional("disk_usage", .measurement)
            network = body.optional("network", .measurement)
            reportedAt = body.optional("timestamp", .moment) ?? now
            guard let server, let cpu, let memory, body.problems == nil else { throw body.refusal }
            self.server = server
            self.cpu = cpu
            self.memory = memory
        }
    }

    private static func store(_ sample: Sample, _ context: Context) throws {
        try context.actForSocket(kind)
        let stored = try context.commit(
            """
            insert into server_metrics (id, cpu_percent, memory_percent, disk_usage, network, reported_at)
            select \(context.newID()), \(sample.cpu)::float8, \(sample.memory)::float8, \(sample.disk)::jsonb, \(sample.network)::jsonb,
            \(sample.reportedAt)::timestamptz where \(sample.server)::uuid = current_server()
            """)
        guard stored.affected == 1 else { throw APIError.invalid("server_id", "must be the server of the key") }
    }

    private struct CommandAnswer {
        let command: ID
        let output: String
        let exitCode: Int?
        let milliseconds: Int?

        init(_ body: Fields) throws(APIError) {
            var body = body
            let command = body.required("command_id", .id)
            let output = body.required("output", .text(0...200_000))
            exitCode = body.optional("exit_code", .integer(-2_147_483_648...2_147_483_647))
            milliseconds = body.optional("duration_ms", .integer(0...2_147_483_647))
            guard let command, let output, body.problems == nil else { throw body.refusal }
            self.command = command
            self.output = output
        }
    }

    /// An answer to a command of another server, or a second one, is ignored.
    private static func settle(_ answer: CommandAnswer, _ context: Context) throws {
        try context.actForSocket(kind)
        try context.wakeWaiting(for: answer.command)
        _ = try context.commit(
            """
            update commands set state = 'DONE', output = \(answer.output), exit_code = \(answer.exitCode)::int,
            duration_ms = \(answer.milliseconds)::int, finished_at = now()
            where id = \(answer.command) and server_id = current_server() and state in ('PENDING', 'SENT')
            """)
    }
}

extension Rule where Value == Double {
    fileprivate static let percent = Rule("must be a number from 0 to 100") { json in
        switch json {
        case .int(let number) where (0...100).contains(number): Double(number)
        case .double(let number) where (0...100).contains(number): number
        default: nil
        }
    }
}

extension Rule where Value == JSON {
    /// Whatever the agent measures: a number or an object.
    fileprivate static let measurement = Rule("must be a number, an object or a list, at most 16 KiB") { json in
        // `nil` alone would be JSON's null, which is a value.
        guard json.bytes.count <= 16 << 10 else { return Optional.none }
        return switch json {
        case .int, .double, .object, .array: json
        default: Optional.none
        }
    }
}

extension Rule where Value == Timestamp {
    /// RFC 3339, or Unix time in seconds as many agents have it.
    fileprivate static let moment = Rule("must be an RFC 3339 time or Unix seconds") { json in
        switch json {
        case .int(let seconds) where (0..<253_402_300_800).contains(seconds): Timestamp(microseconds: seconds * 1_000_000)
        case .double(let seconds) where (0..<253_402_300_800).contains(seconds): Timestamp(microseconds: Int(seconds * 1_000_000))
        case .string(let text): Timestamp(rfc3339: text) ?? Timestamp(rfc3339: text + "Z")
        default: nil
        }
    }
}
