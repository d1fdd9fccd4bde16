// PUT /api/v1/runs/:id/status and /tps: a run on its way, and what it measured. Each change of status is an event `run.<status>`.
import API
import HTTP
import Identity
import Postgres

extension Runs {
    /// In the order in which a run may come through them; the last three are ends.
    static let statuses = ["pending", "running", "completed", "failed", "cancelled"]

    private static let ends = ["completed", "failed", "cancelled"]

    private static func mayMove(from present: String, to next: String) -> Bool {
        switch present {
        case "pending": next == "running"
        case "running": ends.contains(next)
        default: false
        }
    }

    static func changeStatus(_ context: Context) throws -> Response {
        var body = try context.fields()
        let wish = body.required("status", .oneOf(statuses))
        let given = body.optional("result", .result)
        guard let wish, body.problems == nil else { throw body.refusal }
        let id = try context.id()
        guard var row = try context.query("select name, status, result::text from runs where id = \(id) for no key update").first else {
            throw APIError.notFound
        }
        let (name, present, stored): (String, String, String?) = (row.next(), row.next(), row.next())
        guard mayMove(from: present, to: wish) else { throw APIError.conflict("A run that is \(present) can't become \(wish)") }
        try context.record("run.status_changed", id, ["from": .string(present), "to": .string(wish)])
        let result = given ?? stored.map { .text(Array($0.utf8)) } ?? .null
        try context.emit("run.\(wish)", id, event(id, name, wish, further: ["previous_status": .string(present), "result": result]))
        let rows = try context.commit(
            """
            update runs set status = \(wish), result = coalesce(\(given)::jsonb, result), updated_at = now(),
            started_at = case when \(wish) = 'running' then now() else started_at end,
            finished_at = case when \(wish) = any (\(ends)::text[]) then now() end
            where id = \(id) returning \(columns)
            """, refusals: refusals)
        return .json(try json(rows))
    }

    private static let figures = ["max", "min", "average", "95p", "99p"]

    /// Figures that are not given stay as they were.
    static func setFigures(_ context: Context) throws -> Response {
        var body = try context.fields()
        let given = figures.compactMap { name in body.optional(name, .figure).map { JSON.Member(name, $0) } }
        if !figures.contains(where: body.has) { body.report("average", "or max, min, 95p or 99p is required") }
        if let problems = body.problems { throw problems }
        let id = try context.id()
        guard try !context.query("select 1 from runs where id = \(id) for no key update").isEmpty else { throw APIError.notFound }
        try context.record("run.updated", id, ["changed": ["tps"]])
        let none = JSON.object(figures.map { JSON.Member($0, .null) })
        let rows = try context.commit(
            """
            update runs set tps = coalesce(tps, \(none)::jsonb) || \(JSON.object(given))::jsonb, updated_at = now()
            where id = \(id) returning \(columns)
            """)
        return .json(try json(rows))
    }
}

extension Rule where Value == JSON {
    /// Kept as it came: 1500 stays a whole number.
    fileprivate static let figure = Rule("must be a number that is not negative") { json in
        switch json {
        case .int(let number) where number >= 0: json
        case .double(let number) where number >= 0 && number.isFinite: json
        default: Optional.none
        }
    }
}
