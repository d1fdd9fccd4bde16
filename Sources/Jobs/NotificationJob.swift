// Delivers what clients of Chat wish by POST /api/v1/notifications: mails by the relay, WebSocket events and webhooks through the events table.
// Tables: notifications, members, users, clients, events. A row is delivered at least once; its own count of attempts ends it, not the job's.
import API
import Crypto
import HTTP
import Outbound
import Postgres

enum NotificationJob {
    /// Then it has failed.
    private static let attempts = 10

    static let job = Job(kind: "notification", lane: .delivery, attempts: attempts * 2, patience: 600) { bench, subject in
        guard let id = ID(subject), let (owner, receiver) = try Wish.receiver(of: id, bench) else { return .done }
        switch try DeliverySlots.shared.hold(for: owner, to: receiver, { try attempt(id, bench) }) {
        case .done: return .done
        case .full(let seconds): return .again(seconds: seconds)
        }
    }

    /// - Throws: why it is to be tried again.
    private static func attempt(_ id: ID, _ bench: Workbench) throws {
        guard let wish = try Wish.claim(id, bench) else { return }
        do {
            try deliver(wish, bench)
        } catch let failure as Failure {
            let isOver = failure.isPermanent || wish.attempt >= attempts
            _ = try bench.connection.begin().commit(
                """
                update notifications set error = \(failure.reason), status = case when \(isOver) then 'failed' else 'pending' end
                where owner_id = \(wish.owner) and id = \(wish.id)
                """)
            if !isOver { throw failure }
        }
    }

    /// Why it did not go out; the reason is shown to the client.
    private struct Failure: Error, CustomStringConvertible {
        let reason: String
        let isPermanent: Bool
        var description: String { reason }
    }

    /// A pending notification, with its attempt counted.
    private struct Wish {
        let id: ID
        let owner: ID
        let type: String
        let url: String?
        let subject: String?
        let content: String
        let attempt: Int
        let member: ID?
        /// `to_email`, else the member's.
        let address: String?
        let client: String
        let sealedSecret: [UInt8]?
        let createdAt: Timestamp

        /// Whose it is, and which of its owner's receivers would hold it up.
        static func receiver(of id: ID, _ bench: Workbench) throws -> (owner: ID, receiver: String)? {
            let rows = try bench.connection.begin().commit(
                "select owner_id, type, url from notifications where id = \(id) and status = 'pending'")
            guard var row = rows.first else { return nil }
            let (owner, type, url): (ID, String, String?) = (row.next(), row.next(), row.next())
            return (owner, url.flatMap { try? Target($0).authority } ?? type)
        }

        static func claim(_ id: ID, _ bench: Workbench) throws -> Wish? {
            let rows = try bench.connection.begin().commit(
                """
                update notifications n set attempts = n.attempts + 1 from users u
                where n.id = \(id) and n.status = 'pending' and u.id = n.owner_id
                returning n.id, n.owner_id, n.type, n.url, n.subject, n.content, n.attempts, n.member_id,
                coalesce(n.to_email, (select m.email from members m where m.owner_id = n.owner_id and m.id = n.member_id)), u.name,
                (select c.webhook_secret_sealed from clients c where c.owner_id = n.owner_id), n.created_at
                """)
            return rows.first.map(Wish.init)
        }

        private init(_ row: Row) {
            var row = row
            id = row.next()
            owner = row.next()
            type = row.next()
            url = row.next()
            subject = row.next()
            content = row.next()
            attempt = row.next()
            member = row.next(ID?.self)
            address = row.next()
            client = row.next()
            sealedSecret = row.next()
            createdAt = row.next()
        }

        /// What listeners and URLs are told; `user_id` says whose sockets it is for.
        var data: JSON {
            [
                "id": .string(id.description), "type": .string(type), "user_id": .optional(member?.description),
                "subject": .optional(subject), "content": .string(content),
            ]
        }
    }

    private static func deliver(_ wish: Wish, _ bench: Workbench) throws {
        switch (wish.type, wish.url) {
        case ("email", _):
            try mail(wish, bench)
            _ = try bench.connection.begin().commit(sent(wish))
        case ("webhook", let url?):
            try post(wish, to: url, bench)
            _ = try bench.connection.begin().commit(sent(wish))
        case ("websocket", _) where wish.member == nil: throw Failure(reason: "the user is gone", isPermanent: true)
        default: try tell(wish, bench)
        }
    }

    private static func sent(_ wish: Wish) -> SQL {
        """
        update notifications set status = 'sent', sent_at = now(), error = null
        where owner_id = \(wish.owner) and id = \(wish.id) and status = 'pending'
        """
    }

    private static func mail(_ wish: Wish, _ bench: Workbench) throws {
        guard let address = wish.address.flatMap(MailAddress.init) else { throw Failure(reason: "there is no address", isPermanent: true) }
        do throws(MailError) {
            let message = try MailMessage(
                from: bench.config.mailFrom, to: address, subject: wish.subject ?? "Notification from \(wish.client)", text: wish.content)
            try Mail.send(message, via: bench.config.mailTransport)
        } catch {
            throw Failure(reason: reason(error), isPermanent: error.isPermanent)
        }
    }

    /// Nothing of our relay but its verdict is the client's business.
    private static func reason(_ error: MailError) -> String {
        switch error {
        case .illegal(let why): why
        case .refused(let code): "the mail relay refused it with code \(code)"
        case .badTransport, .loginRefused, .failed: "the mail relay could not be used"
        }
    }

    /// The event goes on to the member's sockets, or to the client's webhooks; whether those take it, their deliveries tell.
    private static func tell(_ wish: Wish, _ bench: Workbench) throws {
        let transaction = try bench.connection.begin()
        try transaction.send(
            """
            with s as (\(sent(wish)) returning owner_id, id)
            insert into events (id, owner_id, type, resource_id, data)
            select \(bench.newID())::uuid, owner_id, 'notification.created', id, \(wish.data)::jsonb from s
            """)
        transaction.notify("events")
        try transaction.commit()
    }

    /// One POST to a URL of the client's choice; the same message, in the form of the registered webhooks, at every attempt.
    private static func post(_ wish: Wish, to url: String, _ bench: Workbench) throws {
        guard let sealed = wish.sealedSecret, let secret = try? bench.config.keyring.open(sealed, .clientSecret, of: wish.owner) else {
            throw Failure(reason: "the client has no secret to sign with", isPermanent: true)
        }
        let message: JSON = [
            "id": .string(wish.id.description), "type": "notification.created", "timestamp": .string(wish.createdAt.description),
            "data": wish.data,
        ]
        let attempt = WebhookAttempt(id: wish.id, body: message.text, url: url, secret: WebhookSecret(bytes: secret))
        let result = attempt.send(at: bench.now(), under: bench.config.egress)
        switch result.verdict {
        case .delivered: return
        case .gone: throw Failure(reason: result.error ?? "the receiver is gone", isPermanent: true)
        case .failed: throw Failure(reason: result.error ?? "the receiver did not take it", isPermanent: false)
        }
    }
}
