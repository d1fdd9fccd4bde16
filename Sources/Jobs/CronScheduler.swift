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
        let owner: ID
        let schedule: String
        let timezone: String
        let due: Timestamp
        let runsOnceWhenMissed: Bool

        init(_ row: Row) {
            var row = row
            id = row.next()
            owner = row.next()
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
        let jobs = try transaction.query(
            """
            select id, owner_id, schedule, timezone, next_run_at, missed = 'run_once' from cron_jobs
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
            with plan as (
                select * from jsonb_to_recordset(\(plans(jobs, now))::jsonb)
                as plan (owner_id uuid, job uuid, next timestamptz, run uuid, due timestamptz, status text, error text)
            ), moved as (
                update cron_jobs j set next_run_at = plan.next, status = case when plan.next is null then 'PAUSED' else j.status end
                from plan where j.owner_id = plan.owner_id and j.id = plan.job returning j.id, j.overlap = 'forbid' as is_exclusive
            )
            insert into cron_runs (id, owner_id, cron_id, due_at, status, is_exclusive, next_attempt_at, finished_at, error)
            select plan.run, plan.owner_id, plan.job, plan.due, outcome.status, moved.is_exclusive,
            case outcome.status when 'SCHEDULED' then plan.due end, case when outcome.status <> 'SCHEDULED' then \(now)::timestamptz end,
            case outcome.status when 'SKIPPED' then 'the run before was not finished' else plan.error end
            from plan join moved on moved.id = plan.job
            cross join lateral (
                select case when plan.status = 'SCHEDULED' and moved.is_exclusive and exists (
                    select from cron_runs o where o.owner_id = plan.owner_id and o.cron_id = plan.job
                    and (o.status = 'SCHEDULED' or o.status = 'RUNNING' and o.leased_until > now())
                ) then 'SKIPPED' else plan.status end as status) outcome
            where plan.run is not null
            on conflict do nothing
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
                "owner_id": .string(job.owner.description), "job": .string(job.id.description), "next": .optional(next?.description),
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
