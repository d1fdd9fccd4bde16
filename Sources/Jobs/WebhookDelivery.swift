// Delivers one message to one webhook. The schedule stands in the delivery's row, so a job that comes early, twice or after a crash does no harm:
// what was answered with 2xx and stored is never sent again. Tables: webhook_deliveries, webhooks.
import API
import Crypto
import HTTP
import Outbound
import Postgres

enum WebhookDelivery {
    static let job = Job(kind: "webhook_delivery", lane: .delivery, attempts: .max, patience: 60) { bench, subject in
        guard let id = ID(subject) else { return .done }
        return try WebhookRound(bench: bench, id: id).run()
    }
}

/// One look at a delivery: an attempt if it is due.
struct WebhookRound {
    let bench: Workbench
    let id: ID
    /// Milliseconds.
    var timeout = WebhookAttempt.timeout
    var slots = DeliverySlots.shared

    private struct Delivery {
        let owner: ID
        let webhook: ID
        let body: String
        let attempts: Int
        let nextAttemptAt: Timestamp
        let url: String
        let sealedSecret: [UInt8]
        let isActive: Bool

        init(_ row: Row) {
            var row = row
            owner = row.next()
            webhook = row.next()
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
            select d.owner_id, d.webhook_id, d.body, d.attempts, d.next_attempt_at, w.url, w.secret_sealed, w.is_active
            from webhook_deliveries d join webhooks w on w.owner_id = d.owner_id and w.id = d.webhook_id
            where d.id = \(id) and d.status = 'PENDING'
            """)
        guard let delivery = rows.first.map(Delivery.init) else { return .done }
        guard delivery.isActive else {
            try end(delivery, because: "the webhook is not active")
            return .done
        }
        let wait = delivery.nextAttemptAt.microseconds - bench.now().microseconds
        guard wait <= 0 else { return .again(seconds: Double(wait) / 1_000_000) }
        switch try slots.hold(for: delivery.owner, { try store(attempt(delivery), delivery) }) {
        case .done(let outcome): return outcome
        case .full(let seconds): return .again(seconds: seconds)
        }
    }

    private func attempt(_ delivery: Delivery) -> WebhookAttempt.Result {
        guard let secret = try? bench.config.keyring.open(delivery.sealedSecret, .webhookSecret, of: delivery.webhook) else {
            return .unsent("the webhook's secret can't be opened any more; rotate it")
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
        // The webhook is locked before its deliveries, here and by whoever deletes it.
        if result.verdict == .gone { try disable(delivery, transaction) }
        // Whoever replayed or ended it meanwhile is right; but what was taken was taken.
        try transaction.send(
            """
            update webhook_deliveries set status = \(status), attempts = attempts + 1, next_attempt_at = \(next)::timestamptz,
            finished_at = case when \(next)::timestamptz is null then now() end,
            response_status = \(result.status), response_excerpt = \(result.excerpt), error = \(result.error), duration_ms = \(result.duration)
            where id = \(id) and status = 'PENDING' and (attempts = \(delivery.attempts) or \(status) = 'DELIVERED')
            """)
        if result.verdict == .gone {
            try transaction.send(
                """
                update webhook_deliveries d set status = 'FAILED', next_attempt_at = null, finished_at = now(), error = \(Self.goneReason)
                from webhooks w where w.owner_id = \(delivery.owner) and w.id = \(delivery.webhook) and not w.is_active
                and d.owner_id = w.owner_id and d.webhook_id = w.id and d.status = 'PENDING'
                """)
        }
        try transaction.commit()
        return pause.map { .again(seconds: $0) } ?? .done
    }

    private static let goneReason = "The receiver answered 410 Gone"

    /// Nothing more goes to a receiver that is gone. A webhook that meanwhile leads elsewhere is left alone.
    private func disable(_ delivery: Delivery, _ transaction: Transaction) throws {
        try transaction.send(
            """
            with w as (
                update webhooks set is_active = false, disabled_reason = \(Self.goneReason), updated_at = now()
                where owner_id = \(delivery.owner) and id = \(delivery.webhook) and is_active and url = \(delivery.url)
                returning id, owner_id
            )
            insert into audit_log (id, owner_id, action, resource_type, resource_id, request_id, detail)
            select new_id(), owner_id, 'webhook.disabled', 'webhook', id, \(id.description),
            jsonb_build_object('reason', \(Self.goneReason)::text) from w
            """)
    }

    private func end(_ delivery: Delivery, because reason: String) throws {
        _ = try bench.connection.begin().commit(
            """
            update webhook_deliveries set status = 'FAILED', next_attempt_at = null, finished_at = now(), error = \(reason)
            where id = \(id) and status = 'PENDING'
            """)
    }
}
