// Sends the runs of cron jobs: one thread claims and stores them in batches, many send (CronSenders.swift). Tables: cron_runs, cron_jobs, events.
// A run is leased while it is sent, and its result is stored under that lease only. A killed process's runs are sent again by another with the
// same id. Nobody fills the senders (CronShares.swift).
import API
import Crypto
import HTTP
import Outbound
import Postgres

final class CronDispatcher {
    /// Requests at once in one process.
    static let limit = 512
    /// Runs that are claimed at once, at most.
    private static let batch = 128
    /// Seconds that requests have to finish when the process is told to stop; then they go back.
    private static let farewell = 10

    private let bench: Workbench
    private let bell: Bell
    private let senders: CronSenders
    private let lease: ID
    /// By run: all that was claimed and is not stored yet.
    private var held: [ID: CronShares.Holder] = [:]
    private var unstored: [(attempt: CronAttempt, result: CronAttempt.Result)] = []
    private var renewed = ContinuousClock.now

    init(bench: Workbench, bell: Bell) {
        self.bench = bench
        self.bell = bell
        senders = CronSenders(config: bench.config, now: bench.now, bell: bell)
        lease = bench.newID()
    }

    func run(isStopping: () -> Bool) {
        var stopSince: ContinuousClock.Instant?
        while stopSince == nil || !held.isEmpty {
            do {
                if isStopping(), stopSince == nil { stopSince = .now }
                let isMore = try turn(isClaiming: stopSince == nil)
                if !isMore { bell.wait(milliseconds: stopSince == nil ? 500 : 100) }
            } catch {
                Event.trouble("sending for cron jobs is interrupted: \(error)").log()
                // Without a database there is nothing to wait for: the leases will run out.
                if stopSince != nil, unstored.count == held.count { break }
                bell.wait(milliseconds: 500)
            }
            if let stopSince, ContinuousClock.now - stopSince > .seconds(Self.farewell) { senders.cut() }
        }
        senders.close()
    }

    /// Stores what has come back, keeps the leases, claims what is due and hands it out: one transaction.
    /// - Returns: whether there may be more to claim.
    func turn(isClaiming: Bool = true) throws -> Bool {
        unstored += senders.take().map { ($0, $1) }
        let free = Self.limit - held.count
        let isRenewal = !held.isEmpty && ContinuousClock.now - renewed > .seconds(Leases.renewal)
        let count = isClaiming ? min(max(free / 4, min(free, 1)), Self.batch) : 0
        guard count > 0 || isRenewal || !unstored.isEmpty else { return false }
        let transaction = try bench.connection.begin()
        try transaction.planAnew()
        if !unstored.isEmpty {
            try transaction.send(storing)
            transaction.notify("events")
        }
        if isRenewal { try transaction.send(renewing) }
        let claimed =
            count > 0 ? try transaction.commit(claiming(count, besides: CronShares(Array(held.values), free: free))).map(Self.attempt) : []
        try transaction.commit()
        for (attempt, _) in unstored { held[attempt.run] = nil }
        unstored = []
        if isRenewal { renewed = .now }
        // One that lapsed while this process was away and is still being sent here is not sent beside itself.
        let fresh = claimed.filter { held.updateValue(.init(owner: $0.owner, job: $0.job, url: $0.url), forKey: $0.run) == nil }
        senders.send(fresh)
        return claimed.count == count && count > 0
    }

    // Runs are looked up by id alone, and a lease says by itself that they run (cron_runs_lease): offered another condition, the planner may
    // take the index that belongs to it and read all runs of an owner, or all that are being sent, for each one.
    private var renewing: SQL {
        """
        update cron_runs set leased_until = now() + \(Leases.seconds)::int * interval '1 second'
        where id = any (\(held.keys.map(\.description))::uuid[]) and lease = \(lease)
        """
    }

    /// Of exclusive runs of a job only the oldest is claimed, and none beside one that is being sent, though its sender may be dead.
    func claiming(_ count: Int, besides greedy: CronShares) -> SQL {
        let now = bench.now()
        return """
            with waiting as (
                select r.id from cron_runs r
                where r.status = 'SCHEDULED' and r.next_attempt_at <= \(now) and r.owner_id <> all (\(greedy.owners)::uuid[])
                and r.cron_id <> all (\(greedy.jobs)::uuid[])
                and not (r.is_exclusive and exists (
                    select from cron_runs o where o.owner_id = r.owner_id and o.cron_id = r.cron_id and o.id <> r.id
                    and (o.status = 'RUNNING' or o.status = 'SCHEDULED' and o.id < r.id)))
                order by r.next_attempt_at limit \(count) for update of r skip locked
            ), lapsed as (
                select r.id from cron_runs r where r.status = 'RUNNING' and r.leased_until < now()
                order by r.leased_until limit \(count) for update skip locked
            ), taken as (
                select * from lapsed union all select * from waiting limit \(count)
            )
            update cron_runs r set status = 'RUNNING', attempt = r.attempt + case r.status when 'SCHEDULED' then 1 else 0 end,
            next_attempt_at = null, lease = \(lease), leased_until = now() + \(Leases.seconds)::int * interval '1 second',
            started_at = coalesce(r.started_at, \(now))
            from taken, cron_jobs j
            where r.id = taken.id and j.id = r.cron_id
            returning r.id, j.id, r.owner_id, r.due_at, r.attempt, j.target_url, j.method, j.headers_sealed, j.payload, j.timeout_seconds,
            j.retries
            """
    }

    private static func attempt(_ row: Row) -> CronAttempt {
        var row = row
        return CronAttempt(
            run: row.next(), job: row.next(), owner: row.next(), due: row.next(), attempt: row.next(), url: row.next(), method: row.next(),
            sealedHeaders: row.next(), payload: row.next(), timeout: row.next(), retries: row.next())
    }

    /// All results at once, with an event for each run that has ended.
    var storing: SQL {
        let now = bench.now()
        let results = unstored.map { attempt, result -> JSON in
            var (status, next): (String, Timestamp?) = (result.verdict == .succeeded ? "SUCCEEDED" : "FAILED", nil)
            switch result.verdict {
            case .succeeded: break
            case .interrupted: next = now
            case .failed:
                next = attempt.pause(retryAfter: result.retryAfter).map { Timestamp(microseconds: now.microseconds + Int($0 * 1_000_000)) }
            }
            if next != nil { status = "SCHEDULED" }
            return [
                "id": .string(attempt.run.description), "lease": .string(lease.description), "status": .string(status),
                "next": .optional(next?.description),
                "undone": .int(result.verdict == .interrupted ? 1 : 0),
                "duration": .optional(result.duration), "answer": .optional(result.status), "excerpt": .optional(result.excerpt),
                "error": .optional(result.error),
            ]
        }
        return """
            with result as (
                select * from jsonb_to_recordset(\(JSON.array(results))::jsonb) as result (id uuid, lease uuid, status text,
                next timestamptz, undone int, duration int, answer int, excerpt text, error text)
            ), stored as (
                update cron_runs r set status = result.status, attempt = r.attempt - result.undone, lease = null, leased_until = null,
                next_attempt_at = result.next, finished_at = case when result.next is null then \(now)::timestamptz end,
                duration_ms = result.duration, response_status = result.answer, response_excerpt = result.excerpt, error = result.error
                from result where r.id = result.id and r.lease = result.lease
                returning r.owner_id, r.cron_id, r.status, cron_run_told(r) as told
            )
            insert into events (id, owner_id, type, resource_id, data)
            select new_id(), owner_id, 'cron.run_' || lower(status), cron_id, told from stored where status in ('SUCCEEDED', 'FAILED')
            """
    }
}
