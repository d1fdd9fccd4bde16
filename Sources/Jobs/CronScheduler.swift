// Turns due times of cron jobs into runs: one row of cron_runs for each, by a unique index, however many processes do this at once.
// A job's row is locked while its next due time is worked out, so each due time is seen by one of them. Tables: cron_jobs, cron_runs.
import API
import HTTP
import Postgres
import Schedules

struct CronScheduler {
    let bench: Workbench
    /// Of whoever sends the runs.
    var dispatch: Bell?

    static let batch = 500
    /// What is due longer than this, in seconds, was missed.
    static let grace = 60

    private struct Job {
        let id: ID
        let schedule: String
        let timezone: String
        let due: Timestamp
        let runsOnceWhenMissed: Bool

        init(_ row: Row) {
            var row = row
            id = row.next()
            schedule = row.next()
            timezone = row.next()
            due = row.next()
            runsOnceWhenMissed = row.next(Bool.self)
        }
    }

    func run(waking bell: Bell, isStopping: () -> Bool) {
        while !isStopping() {
            do {
                bell.wait(milliseconds: try pause(after: try tick()))
            } catch {
                if !isStopping() { Event.trouble("cron jobs wait: \(error)").log() }
                bell.wait(milliseconds: 500)
            }
        }
    }

    /// Milliseconds until there is something to do; at most a second, should nobody tell of a new job.
    private func pause(after isMore: Bool) throws -> Int {
        if isMore { return 0 }
        let first = try bench.connection.begin().commit("select min(next_run_at) from cron_jobs where next_run_at is not null")
        guard let first = first.scalar(Timestamp.self) else { return 1000 }
        // What is due already is in other hands at this moment.
        let wait = (first.microseconds - bench.now().microseconds + 999) / 1000
        return wait <= 0 ? 50 : min(wait, 1000)
    }

    /// Works off a batch of what is due.
    /// - Returns: whether there may be more.
    func tick() throws -> Bool {
        let now = bench.now()
        let transaction = try bench.connection.begin()
        try transaction.planAnew()
        let jobs = try transaction.query(
            """
            select id, schedule, timezone, next_run_at, missed = 'run_once' from cron_jobs
            where next_run_at <= \(now) order by next_run_at limit \(Self.batch) for update skip locked
            """
        ).map(Job.init)
        guard !jobs.isEmpty else {
            try transaction.commit()
            return false
        }
        transaction.notify("cron")
        // Only now, with the jobs locked, is it seen what runs: what others have begun is committed.
        _ = try transaction.commit(
            """
            with moved as (
                update cron_jobs j set next_run_at = plan.next, status = case when plan.next is null then 'PAUSED' else j.status end
                from jsonb_to_recordset(\(plans(jobs, now))::jsonb)
                as plan (job uuid, next timestamptz, run uuid, due timestamptz, status text, error text)
                where j.id = plan.job
                returning j.owner_id, j.id, j.overlap = 'forbid' as is_exclusive, plan.run, plan.due, plan.status as wish, plan.error
            ), outcome as materialized (
                select *, case when wish = 'SCHEDULED' and is_exclusive and exists (
                    select from cron_runs o where o.owner_id = moved.owner_id and o.cron_id = moved.id
                    and (o.status = 'SCHEDULED' or o.status = 'RUNNING' and o.leased_until > now())
                ) then 'SKIPPED' else wish end as status
                from moved where run is not null
            )
            insert into cron_runs (id, owner_id, cron_id, due_at, status, is_exclusive, next_attempt_at, finished_at, error)
            select run, owner_id, id, due, status, is_exclusive,
            case status when 'SCHEDULED' then due end, case when status <> 'SCHEDULED' then \(now)::timestamptz end,
            case status when 'SKIPPED' then 'the run before was not finished' else error end
            from outcome on conflict do nothing
            """)
        dispatch?.ring()
        return true
    }

    /// What becomes of all jobs with the same schedule that came due at the same time.
    private enum Course {
        case runs(next: Timestamp?, due: Timestamp?)
        case missed(next: Timestamp?, latest: Timestamp)
        case impossible(String)
    }

    /// Many jobs share a schedule: each is worked out once.
    private func plans(_ jobs: [Job], _ now: Timestamp) -> JSON {
        var known: [String: Course] = [:]
        return .array(
            jobs.map { job in
                let key = "\(job.schedule)\n\(job.timezone)\n\(job.due.microseconds) \(job.runsOnceWhenMissed)"
                let course = known[key] ?? course(job, now)
                known[key] = course
                return plan(job, course)
            })
    }

    private func plan(_ job: Job, _ course: Course) -> JSON {
        func plan(next: Timestamp?, _ status: String, _ due: Timestamp?, _ error: String? = nil) -> JSON {
            [
                "job": .string(job.id.description), "next": .optional(next?.description),
                "run": .optional(due.map { _ in bench.newID().description }), "due": .optional(due?.description), "status": .string(status),
                "error": .optional(error),
            ]
        }
        return switch course {
        case .runs(let next, let due): plan(next: next, "SCHEDULED", due)
        case .missed(let next, let latest): plan(next: next, "MISSED", latest, "nothing ran the jobs at that time")
        case .impossible(let why): plan(next: nil, "FAILED", job.due, why)
        }
    }

    private func course(_ job: Job, _ now: Timestamp) -> Course {
        guard let schedule = try? CronSchedule(job.schedule), let zone = Zone.named(job.timezone) else {
            return .impossible("the system does not know the time zone \(job.timezone) any more")
        }
        let horizon = now.advanced(seconds: -Self.grace)
        guard job.due <= horizon else { return .runs(next: schedule.next(after: job.due, in: zone), due: job.due) }
        // Nobody was there for it. What came due within the grace since then is on time, and stands for what was missed.
        let next = schedule.next(after: horizon, in: zone)
        let latest = schedule.latest(after: job.due, through: horizon, in: zone) ?? job.due
        guard job.runsOnceWhenMissed else { return .missed(next: next, latest: latest) }
        let isOnTime = next.map { $0 <= now } ?? false
        return .runs(next: next, due: isOnTime ? nil : latest)
    }
}

extension Transaction {
    /// Has the statements of this transaction planned for the tables as they are now: a plan that was kept from when they were nearly empty
    /// would be held on to while they fill.
    func planAnew() throws(DatabaseError) { try send("select set_config('plan_cache_mode', 'force_custom_plan', true)") }
}
