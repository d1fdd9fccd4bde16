// /cron: requests that are sent by the clock. thecloud-cron claims what is due (Sources/Jobs/CronScheduler.swift) and sends it (CronDispatcher.swift).
// Tables: cron_jobs, cron_runs. `next_run_at` is null exactly while a job is paused; values of `headers` are stored sealed and never come back.
import API
import Crypto
import HTTP
import Identity
import Postgres
import Schedules

enum CronJobs {
    static let routes: [Route] = [
        .get("/cron", .permission(.cronRead), list),
        .create("/cron", .permission(.cronCreate), create),
        .get("/cron/:id", .permission(.cronRead), get),
        .put("/cron/:id", .permission(.cronUpdate), update),
        .delete("/cron/:id", .permission(.cronDelete), delete),
        .action("/cron/:id/pause", .permission(.cronUpdate), input: .none, pause),
        .action("/cron/:id/resume", .permission(.cronUpdate), input: .none, resume),
        .action("/cron/:id/run", .permission(.cronRun), input: .none, run),
        .get("/cron/:id/runs", .permission(.cronRead), runs),
    ]

    private static let columns: SQL =
        """
        id, name, schedule, timezone, target_url, method, header_names, payload, timeout_seconds, retries, overlap, missed, status, \
        next_run_at, created_at, updated_at
        """

    private static func write(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.text("name", &row)
        let (schedule, timezone): (String, String) = (row.next(), row.next())
        out.member("schedule", schedule)
        out.member("timezone", timezone)
        out.text("target_url", &row)
        out.text("method", &row)
        out.masked("headers", &row)
        out.json("payload", &row)
        out.member("timeout", .int(row.next(Int.self)))
        out.member("retries", .int(row.next(Int.self)))
        out.text("overlap", &row)
        out.text("missed", &row)
        out.text("status", &row)
        let next = row.next(Timestamp?.self)
        out.member("next_run_at", next?.description)
        out.member("next_runs", .strings(next.map { upcoming($0, schedule, timezone) } ?? []))
        out.time("created_at", &row)
        out.time("updated_at", &row)
    }

    /// Five due times, the next one included.
    private static func upcoming(_ next: Timestamp, _ schedule: String, _ timezone: String) -> [String] {
        guard let schedule = try? CronSchedule(schedule), let zone = Zone.named(timezone) else { return [next.description] }
        return ([next] + schedule.next(4, after: next, in: zone)).map(\.description)
    }

    private static func json(_ row: Row) -> JSON { ["data": .written { write(row, to: &$0) }] }

    private static let refusals: [String: APIError] = [
        "cron_jobs_name_taken": .alreadyExists("You have a cron job of this name already"),
        "cron_jobs_payload": .invalid("payload", CronDraft.noPayload),
    ]

    /// What listeners are told: neither URL nor payload, which may hold secrets.
    private static func told(_ id: ID) -> SQL {
        """
        select jsonb_build_object('id', id, 'name', name, 'schedule', schedule, 'timezone', timezone, 'status', status) from cron_jobs
        where id = \(id)
        """
    }

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let rows = try context.commit("select \(columns) from cron_jobs where \(page.window)")
        return .json(page.envelope(rows, write))
    }

    private static func create(_ context: Context) throws -> Response {
        let draft = try CronDraft(context.fields(), context.config.egress)
        let (id, change) = (context.newID(), draft.change)
        let sealed = change.headers.flatMap { CronHeader.seal($0, context.config.keyring, of: id) }
        try context.send("select check_cron_quota(\(context.config.quota.cronJobs))")
        try context.record("cron.created", id, ["name": .string(draft.name), "schedule": .string(draft.schedule.text)])
        let rows = try context.query(
            """
            insert into cron_jobs (id, name, schedule, timezone, target_url, method, header_names, headers_sealed, payload, timeout_seconds,
            retries, overlap, missed, next_run_at)
            values (\(id), \(draft.name), \(draft.schedule.text), \(draft.zone.name), \(draft.targetURL), \(change.method ?? "POST"),
            \(change.headers?.map(\.name) ?? [])::text[], \(sealed)::bytea, \(change.payload?.text), \(change.timeout ?? 30),
            \(change.retries ?? 0), \(change.overlap ?? "allow"), \(change.missed ?? "skip"),
            \(draft.schedule.next(after: context.now, in: draft.zone))) returning \(columns)
            """, refusals: refusals)
        try context.emit("cron.created", id, from: told(id))
        try context.wakeCron()
        return .created(json(rows[0]))
    }

    private static func get(_ context: Context) throws -> Response {
        let rows = try context.commit("select \(columns) from cron_jobs where id = \(try context.id())")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(json(row))
    }

    /// What decides when a job runs, with the row locked: the scheduler stays away until the transaction ends.
    private struct Course {
        let schedule: String
        let timezone: String
        let isPaused: Bool
        let isExclusive: Bool

        init(locking id: ID, _ context: Context) throws {
            let rows = try context.query(
                "select schedule, timezone, status = 'PAUSED', overlap = 'forbid' from cron_jobs where id = \(id) for update")
            guard var row = rows.first else { throw APIError.notFound }
            schedule = row.next()
            timezone = row.next()
            isPaused = row.next(Bool.self)
            isExclusive = row.next(Bool.self)
        }

        /// - Throws: `conflict` where the system has lost the zone since.
        func next(after now: Timestamp, _ change: CronChange? = nil) throws -> Timestamp? {
            guard let zone = change?.zone ?? CronDraft.ZoneName(timezone) else {
                throw APIError.conflict("The system does not know the time zone \(timezone) any more; choose another")
            }
            return try (change?.schedule ?? CronDraft.Schedule(schedule)).next(after: now, in: zone)
        }
    }

    /// Another schedule or time zone counts from now on.
    private static func update(_ context: Context) throws -> Response {
        let change = try CronChange(context.fields(), context.config.egress)
        let id = try context.id()
        let course = try Course(locking: id, context)
        var next: Timestamp?
        if !course.isPaused, change.schedule != nil || change.zone != nil { next = try course.next(after: context.now, change) }
        if let headers = change.headers {
            let sealed = CronHeader.seal(headers, context.config.keyring, of: id)
            try context.send(
                "update cron_jobs set header_names = \(headers.map(\.name))::text[], headers_sealed = \(sealed) where id = \(id)")
        }
        let rows = try context.query(
            """
            update cron_jobs set name = coalesce(\(change.name), name), schedule = coalesce(\(change.schedule?.text), schedule),
            timezone = coalesce(\(change.zone?.name), timezone), target_url = coalesce(\(change.targetURL), target_url),
            method = coalesce(\(change.method), method),
            payload = case when \(change.hasPayload) then \(change.payload?.text) else payload end,
            timeout_seconds = coalesce(\(change.timeout)::int, timeout_seconds), retries = coalesce(\(change.retries)::int, retries),
            overlap = coalesce(\(change.overlap), overlap), missed = coalesce(\(change.missed), missed),
            next_run_at = coalesce(\(next)::timestamptz, next_run_at), updated_at = now()
            where id = \(id) returning \(columns)
            """, refusals: refusals)
        try context.record("cron.updated", id, ["changed": .strings(change.names)])
        try context.emit("cron.updated", id, from: told(id))
        try context.wakeCron()
        return .json(json(rows[0]))
    }

    /// Its runs go along; what is being sent at this moment is not called back.
    private static func delete(_ context: Context) throws -> Response {
        let id = try context.id()
        try context.emit("cron.deleted", id, from: told(id))
        guard try context.query("delete from cron_jobs where id = \(id)").affected == 1 else { throw APIError.notFound }
        try context.record("cron.deleted", id)
        return .message("Cron job deleted")
    }

    private static func pause(_ context: Context) throws -> Response {
        let id = try context.id()
        let course = try Course(locking: id, context)
        if !course.isPaused {
            try context.send("update cron_jobs set status = 'PAUSED', next_run_at = null, updated_at = now() where id = \(id)")
            try context.record("cron.paused", id)
            try context.emit("cron.paused", id, from: told(id))
        }
        return try answer("Cron job paused", id, context)
    }

    /// From now on: what was due meanwhile is nobody's loss.
    private static func resume(_ context: Context) throws -> Response {
        let id = try context.id()
        let course = try Course(locking: id, context)
        if course.isPaused {
            let next = try course.next(after: context.now)
            try context.send("update cron_jobs set status = 'ACTIVE', next_run_at = \(next), updated_at = now() where id = \(id)")
            try context.record("cron.resumed", id)
            try context.emit("cron.resumed", id, from: told(id))
            try context.wakeCron()
        }
        return try answer("Cron job resumed", id, context)
    }

    private static func answer(_ message: String, _ id: ID, _ context: Context) throws -> Response {
        let rows = try context.commit("select \(columns) from cron_jobs where id = \(id)")
        return .json(["message": .string(message), "data": .written { write(rows[0], to: &$0) }])
    }

    /// Makes a run that is due now; whether the job is paused does not matter.
    private static func run(_ context: Context) throws -> Response {
        let id = try context.id()
        let course = try Course(locking: id, context)
        if course.isExclusive, try isRunning(id, context) {
            throw APIError.conflict("A run of this job is not finished, and its overlap is \"forbid\"")
        }
        let run = context.newID()
        try context.record("cron.run", id, ["run_id": .string(run.description)])
        try context.wakeCron()
        let now = context.now
        let rows = try context.commit(
            """
            insert into cron_runs (id, cron_id, trigger, due_at, is_exclusive, next_attempt_at)
            values (\(run), \(id), 'manual', \(now), \(course.isExclusive), \(now)) returning \(runColumns)
            """)
        return .json(["data": .written { writeRun(rows[0], to: &$0) }], status: 202)
    }
}
