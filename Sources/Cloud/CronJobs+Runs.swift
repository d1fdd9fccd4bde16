// The history of a cron job. Table: cron_runs. What ended a while ago is thrown away by thecloud-cron (THECLOUD_RETENTION_RUNS).
import API
import HTTP
import Postgres

extension CronJobs {
    static let runColumns: SQL =
        """
        id, cron_id, trigger, due_at, status, attempt, next_attempt_at, started_at, finished_at, duration_ms, response_status, \
        response_excerpt, error, created_at
        """

    static func writeRun(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.id("cron_id", &row)
        out.text("trigger", &row)
        out.time("due_at", &row)
        out.text("status", &row)
        out.member("attempt", .int(row.next(Int.self)))
        out.time("next_attempt_at", &row)
        out.time("started_at", &row)
        out.time("finished_at", &row)
        out.member("duration_ms", .optional(row.next(Int?.self)))
        out.member("response_status", .optional(row.next(Int?.self)))
        out.text("response_excerpt", &row)
        out.text("error", &row)
        out.time("created_at", &row)
    }

    /// Whether a run waits or is being sent; one whose sender has died is not.
    static func isRunning(_ id: ID, _ context: Context) throws -> Bool {
        try context.query(
            """
            select exists (select from cron_runs where cron_id = \(id) and (status = 'SCHEDULED' or status = 'RUNNING' and leased_until > now()))
            """
        ).scalar() == true
    }

    static func runs(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let id = try context.id()
        let rows = try context.query("select \(runColumns) from cron_runs where cron_id = \(id) and \(page.window)")
        if rows.isEmpty, try context.query("select from cron_jobs where id = \(id)").isEmpty { throw APIError.notFound }
        return .json(page.envelope(rows, writeRun))
    }
}
