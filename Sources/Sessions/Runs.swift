// /api/v1/runs: test runs, which their owner's tools move on and hang results on. Flat bodies. Table: runs.
// Lists are in Runs+List.swift, status and figures in Runs+Status.swift. `config` and `result` are any JSON: nothing in here reads them.
import API
import HTTP
import Identity
import Postgres

enum Runs {
    static let routes: [Route] = [
        .create("/api/v1/runs", .permission(.runCreate), create),
        .get("/api/v1/runs", .permission(.runRead), list),
        .get("/api/v1/runs/filter-options", .permission(.runRead), filterOptions),
        .get("/api/v1/runs/:id", .permission(.runRead), get),
        .put("/api/v1/runs/:id", .permission(.runUpdate), update),
        .delete("/api/v1/runs/:id", .permission(.runDelete), delete),
        .put("/api/v1/runs/:id/status", .permission(.runUpdate), changeStatus),
        .put("/api/v1/runs/:id/tps", .permission(.runUpdate), setFigures),
    ]

    static let columns: SQL =
        """
        id, name, description, config::text, status, result::text, tps::text, created_at, updated_at, started_at, finished_at
        """

    /// `columns` as an answer shows them.
    static func write(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.text("name", &row)
        out.text("description", &row)
        out.json("config", &row)
        out.text("status", &row)
        out.json("result", &row)
        out.json("tps", &row)
        out.time("created_at", &row)
        out.time("updated_at", &row)
        out.time("started_at", &row)
        out.time("finished_at", &row)
    }

    /// The run that a statement returned.
    /// - Throws: `notFound` without one.
    static func json(_ rows: Rows) throws(APIError) -> JSON {
        guard let row = rows.first else { throw .notFound }
        return .written { write(row, to: &$0) }
    }

    private struct Draft {
        let name: String
        let description: String?
        let config: JSON

        init(_ body: Fields) throws(APIError) {
            var body = body
            let name = body.required("name", .displayName)
            description = body.optional("description", .description)
            let config = body.required("config", .config)
            guard let name, let config, body.problems == nil else { throw body.refusal }
            self.name = name
            self.config = config
        }
    }

    private struct Change {
        let name: String?
        let description: String?
        let config: JSON?

        init(_ body: Fields) throws(APIError) {
            var body = body
            name = body.optional("name", .displayName)
            description = body.optional("description", .description)
            config = body.optional("config", .config)
            if !members.contains(where: body.has) { body.report("name", "or description or config is required") }
            if let problems = body.problems { throw problems }
        }
    }

    private static let members = ["name", "description", "config"]

    static let refusals: [String: APIError] = [
        "runs_config_size": .invalid("config", Rule.config.requirement),
        "runs_result_size": .invalid("result", Rule.result.requirement),
    ]

    private static func create(_ context: Context) throws -> Response {
        let draft = try Draft(context.fields())
        let id = context.newID()
        try context.record("run.created", id, ["name": .string(draft.name)])
        try context.emit("run.created", id, event(id, draft.name, "pending"))
        let rows = try context.commit(
            """
            insert into runs (id, name, description, config) values (\(id), \(draft.name), \(draft.description), \(draft.config)::jsonb)
            returning \(columns)
            """, refusals: refusals)
        return .created(try json(rows))
    }

    private static func get(_ context: Context) throws -> Response {
        .json(try json(context.commit("select \(columns) from runs where id = \(try context.id())")))
    }

    private static func update(_ context: Context) throws -> Response {
        let body = try context.fields()
        let change = try Change(body)
        let id = try context.id()
        guard try !context.query("select 1 from runs where id = \(id) for no key update").isEmpty else { throw APIError.notFound }
        try context.record("run.updated", id, ["changed": .strings(members.filter(body.has))])
        let rows = try context.commit(
            """
            update runs set name = coalesce(\(change.name), name), description = coalesce(\(change.description), description),
            config = coalesce(\(change.config)::jsonb, config), updated_at = now() where id = \(id) returning \(columns)
            """, refusals: refusals)
        return .json(try json(rows))
    }

    private static func delete(_ context: Context) throws -> Response {
        let id = try context.id()
        guard var row = try context.query("delete from runs where id = \(id) returning name, status").first else { throw APIError.notFound }
        let (name, status): (String, String) = (row.next(), row.next())
        try context.record("run.deleted", id, ["name": .string(name)])
        try context.emit("run.deleted", id, event(id, name, status))
        return .message("Run deleted")
    }

    /// What sockets and webhooks are told. It shows no `config`, which may hold what is nobody else's business.
    static func event(_ id: ID, _ name: String, _ status: String, further members: KeyValuePairs<String, JSON> = [:]) -> JSON {
        (["id": .string(id.description), "name": .string(name), "status": .string(status)] as JSON).adding(members)
    }
}

extension Rule where Value == String {
    fileprivate static let description = Rule.text(0...2000)
}

extension Rule where Value == JSON {
    private static let sizeLimit = 65536

    fileprivate static let config = Rule("must be a JSON object of at most 64 KiB") { json in
        guard case .object = json, json.bytes.count <= sizeLimit else { return Optional.none }
        return json
    }

    // A bare `nil` beside a JSON would be the value null.
    static let result = Rule("must be JSON of at most 64 KiB") { json in json.bytes.count <= sizeLimit ? json : Optional.none }
}
