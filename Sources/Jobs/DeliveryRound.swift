// Delivers one message to one receiver: to a webhook, or to a topic's subscriber. The schedule stands in the delivery's row, so a job that
// comes early, twice or after a crash does no harm: what was answered with 2xx and stored is never sent again. Tables: those of the source.
import API
import Crypto
import HTTP
import Outbound
import Postgres

/// Where deliveries of one kind stand; both tables have the columns of webhook_deliveries and webhooks.
struct DeliverySource: Sendable {
    /// Of the job.
    let kind: String
    /// The table of deliveries, and its column that names the receiver.
    let deliveries: String
    let reference: String
    /// The table of receivers, and its column with the URL.
    let receivers: String
    let url: String
    /// What a receiver is called in the audit log and in errors.
    let noun: String
    let secret: SealedColumn
    /// The message of the delivery `d`.
    let body: String

    /// Runs one round of the delivery that it names.
    var job: Job {
        Job(kind: kind, lane: .delivery, attempts: .max, patience: 60) { [self] bench, subject in
            guard let id = ID(subject) else { return .done }
            return try DeliveryRound(bench: bench, source: self, id: id).run()
        }
    }
}

/// One look at a delivery: an attempt if it is due.
struct DeliveryRound {
    let bench: Workbench
    let source: DeliverySource
    let id: ID
    /// Milliseconds.
    var timeout = WebhookAttempt.timeout
    var slots = DeliverySlots.shared

    private struct Delivery {
        let owner: ID
        let receiver: ID
        let body: String
        let attempts: Int
        let nextAttemptAt: Timestamp
        let url: String
        let sealedSecret: [UInt8]
        let isActive: Bool

        init(_ row: Row) {
            var row = row
            owner = row.next()
            receiver = row.next()
            body = row.next()
            attempts = row.next()
            nextAttemptAt = row.next()
            url = row.next()
            sealedSecret = row.next()
            isActive = row.next()
        }
    }

    func run() throws -> Job.Outcome {
        let rows = try bench.connection.begin().commit(
            """
            select d.owner_id, w.id, \(verbatim: source.body), d.attempts, d.next_attempt_at, w.\(verbatim: source.url), w.secret_sealed, w.is_active
            from \(verbatim: source.deliveries) d
            join \(verbatim: source.receivers) w on w.owner_id = d.owner_id and w.id = d.\(verbatim: source.reference)
            where d.id = \(id) and d.status = 'PENDING'
            """)
        guard let delivery = rows.first.map(Delivery.init) else { return .done }
        guard delivery.isActive else {
            try end(delivery, because: "the \(source.noun) is not active")
            return .done
        }
        let wait = delivery.nextAttemptAt.microseconds - bench.now().microseconds
        guard wait <= 0 else { return .again(seconds: Double(wait) / 1_000_000) }
        switch try slots.hold(for: delivery.owner, to: delivery.receiver.description, { try store(attempt(delivery), delivery) }) {
        case .done(let outcome): return outcome
        case .full(let seconds): return .again(seconds: seconds)
        }
    }

    private func attempt(_ delivery: Delivery) -> WebhookAttempt.Result {
        guard let secret = try? bench.config.keyring.open(delivery.sealedSecret, source.secret, of: delivery.receiver) else {
            return .unsent("the \(source.noun)'s secret can't be opened any more; rotate it")
        }
        let attempt = WebhookAttempt(id: id, body: delivery.body, url: delivery.url, secret: WebhookSecret(bytes: secret))
        return attempt.send(at: bench.now(), under: bench.config.egress, timeout: timeout)
    }

    private func store(_ result: WebhookAttempt.Result, _ delivery: Delivery) throws -> Job.Outcome {
        var pause: Double?
        if case .failed(let retryAfter) = result.verdict {
            pause = RetrySchedule.pause(after: delivery.attempts + 1, retryAfter: retryAfter)
        }
        let next = pause.map { Timestamp(microseconds: bench.now().microseconds + Int($0 * 1_000_000)) }
        let status = result.verdict == .delivered ? "DELIVERED" : next == nil ? "FAILED" : "PENDING"
        let transaction = try bench.connection.begin()
        // The receiver is locked before its deliveries, here and by whoever deletes it.
        if result.verdict == .gone { try disable(delivery, transaction) }
        // Whoever replayed or ended it meanwhile is right; but what was taken was taken.
        try transaction.send(
            """
            update \(verbatim: source.deliveries) set status = \(status), attempts = attempts + 1, next_attempt_at = \(next)::timestamptz,
            finished_at = case when \(next)::timestamptz is null then now() end,
            response_status = \(result.status), response_excerpt = \(result.excerpt), error = \(result.error), duration_ms = \(result.duration)
            where id = \(id) and status = 'PENDING' and (attempts = \(delivery.attempts) or \(status) = 'DELIVERED')
            """)
        if result.verdict == .gone {
            try transaction.send(
                """
                update \(verbatim: source.deliveries) d set status = 'FAILED', next_attempt_at = null, finished_at = now(), error = \(Self.goneReason)
                from \(verbatim: source.receivers) w where w.owner_id = \(delivery.owner) and w.id = \(delivery.receiver) and not w.is_active
                and d.owner_id = w.owner_id and d.\(verbatim: source.reference) = w.id and d.status = 'PENDING'
                """)
        }
        try transaction.commit()
        return pause.map { .again(seconds: $0) } ?? .done
    }

    private static let goneReason = "The receiver answered 410 Gone"

    /// Nothing more goes to a receiver that is gone. One that meanwhile leads elsewhere is left alone.
    private func disable(_ delivery: Delivery, _ transaction: Transaction) throws {
        try transaction.send(
            """
            with w as (
                update \(verbatim: source.receivers) set is_active = false, disabled_reason = \(Self.goneReason), updated_at = now()
                where owner_id = \(delivery.owner) and id = \(delivery.receiver) and is_active and \(verbatim: source.url) = \(delivery.url)
                returning id, owner_id
            )
            insert into audit_log (id, owner_id, action, resource_type, resource_id, request_id, detail)
            select new_id(), owner_id, \(source.noun + ".disabled"), \(source.noun), id, \(id.description),
            jsonb_build_object('reason', \(Self.goneReason)::text) from w
            """)
    }

    private func end(_ delivery: Delivery, because reason: String) throws {
        _ = try bench.connection.begin().commit(
            """
            update \(verbatim: source.deliveries) set status = 'FAILED', next_attempt_at = null, finished_at = now(), error = \(reason)
            where id = \(id) and status = 'PENDING'
            """)
    }
}
