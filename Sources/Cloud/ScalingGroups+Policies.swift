// The policies of a group: when it gets more members or fewer. thecloud-cron reads the statistics and decides
// (Sources/Jobs/ScalingRound.swift). Table scaling_policies.
import API
import HTTP
import Postgres
import Scaling

extension ScalingGroups {
    private struct PolicyDraft {
        let policy: ScalingPolicy

        init(_ body: Fields) throws(APIError) {
            var body = body
            _ = body.required("metric", .oneOf(["cpu"]))
            let target = body.optional("target", .integer(1...100))
            let steps = body.optional("steps", .steps)
            let cooldown = body.optional("cooldown_seconds", .integer(60...86400)) ?? 300
            if body.has("target"), body.has("steps") { body.report("steps", "can't be together with target") }
            if !body.has("target"), !body.has("steps") { body.report("target", "or steps is required") }
            let form = target.map { ScalingPolicy.Form.target(percent: $0) } ?? steps.map { .steps($0) }
            guard let form, body.problems == nil else { throw body.refusal }
            policy = ScalingPolicy(form, cooldownSeconds: cooldown)
        }

        var target: Int? { if case .target(let percent) = policy.form { percent } else { nil } }
        var steps: JSON? { if case .steps(let steps) = policy.form { .array(steps.map(\.json)) } else { nil } }
    }

    private static let policyColumns: SQL = "id, metric, target, steps::text, cooldown_seconds, created_at"

    private static func writePolicy(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.text("metric", &row)
        out.member("target", .optional(row.next(Int?.self)))
        out.json("steps", &row)
        out.member("cooldown_seconds", .int(row.next(Int.self)))
        out.time("created_at", &row)
    }

    static func policies(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let id = try context.id()
        let known = try context.query("select from scaling_groups where id = \(id)")
        guard !known.isEmpty else { throw APIError.notFound }
        let rows = try context.commit(
            "select \(policyColumns) from scaling_policies where group_id = \(id) and \(page.window)")
        return .json(page.envelope(rows, writePolicy))
    }

    static func addPolicy(_ context: Context) throws -> Response {
        let draft = try PolicyDraft(context.fields())
        let (group, id) = (try context.id(), context.newID())
        guard try !context.query("select from scaling_groups where id = \(group) for key share").isEmpty else { throw APIError.notFound }
        try context.send("select check_policy_quota(\(group))")
        let known: JSON = [
            "policy_id": .string(id.description), "metric": "cpu", "target": .optional(draft.target), "steps": draft.steps ?? .null,
            "cooldown_seconds": .int(draft.policy.cooldownSeconds),
        ]
        try context.record("autoscaling.policy_added", group, known)
        try context.emit("autoscaling.policy_added", group, known)
        let rows = try context.commit(
            """
            insert into scaling_policies (id, group_id, metric, target, steps, cooldown_seconds)
            values (\(id), \(group), 'cpu', \(draft.target)::int, \(draft.steps)::jsonb, \(draft.policy.cooldownSeconds))
            returning \(policyColumns)
            """)
        return .created(["data": .written { writePolicy(rows[0], to: &$0) }])
    }

    static func removePolicy(_ context: Context) throws -> Response {
        let (group, id) = (try context.id(), try context.id("policy_id"))
        let rows = try context.query("delete from scaling_policies where group_id = \(group) and id = \(id) returning id")
        guard !rows.isEmpty else { throw APIError.notFound }
        try context.record("autoscaling.policy_removed", group, ["policy_id": .string(id.description)])
        try context.emit("autoscaling.policy_removed", group, ["policy_id": .string(id.description)])
        return .message("Policy removed")
    }
}
