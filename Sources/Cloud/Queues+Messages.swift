// /queues/:id/messages: sending, receiving, deleting, each one round trip (sql/0011_queues.sql). A receipt handle is the message's id and
// the random receipt of its last receive. Messages stand in no audit log and are no events: there may be thousands a second.
import API
import HTTP
import Identity
import Postgres

extension Queues {
    /// Of a body in UTF-8, and of all bodies of one request.
    static let messageLimit = 256 << 10

    private struct Message {
        let body: String
        let delay: Int?
        let dedupID: String?
        let attributes: JSON?

        /// - Returns: `nil` where something is wrong, which then is reported.
        init?(_ fields: inout Fields) throws(APIError) {
            let body = fields.required("body", .messageBody)
            if let body, body.utf8.count > Queues.messageLimit { throw .bodyTooLarge(limit: Queues.messageLimit) }
            delay = fields.optional("delay_seconds", .delay)
            dedupID = fields.optional("dedup_id", .dedupID)
            attributes = fields.optional("attributes", .attributes)
            guard let body else { return nil }
            self.body = body
        }
    }

    /// The messages of a batch, or the one that the body itself is.
    private static func messages(_ body: Fields) throws(APIError) -> [Message] {
        var body = body
        guard let list = body["messages"] else {
            guard let message = try Message(&body), body.problems == nil else { throw body.refusal }
            return [message]
        }
        guard let items = list.array, (1...10).contains(items.count) else {
            throw .invalid("messages", "must be a list of 1–10 messages")
        }
        var messages: [Message] = []
        for (index, item) in items.enumerated() {
            guard case .object = item else {
                body.report("messages[\(index)]", "must be an object")
                continue
            }
            var fields = try Fields(item)
            if let message = try Message(&fields) { messages.append(message) }
            if case .invalid(let errors) = fields.problems {
                for error in errors { body.report("messages[\(index)].\(error.field)", error.message) }
            }
        }
        guard messages.reduce(0, { $0 + $1.body.utf8.count }) <= messageLimit else { throw .bodyTooLarge(limit: messageLimit) }
        if let problems = body.problems { throw problems }
        return messages
    }

    static func send(_ context: Context) throws -> Response {
        let body = try context.fields()
        let messages = try messages(body)
        let queue = try context.id()
        let ids = messages.map { _ in context.newID() }
        let rows = try context.commit(statement(messages, ids, to: queue))
        guard !rows.isEmpty else { throw APIError.notFound }
        var isAwaited = false
        let sent = rows.map { row -> JSON in
            var row = row
            return .written { out in
                out.id("id", &row)
                out.time("sent_at", &row)
                out.member("deduplicated", .bool(row.next(Bool.self)))
                isAwaited = row.next(Bool.self)
            }
        }
        if isAwaited { context.wakeWaiting(forAll: [queue]) }
        return .created(["data": body.has("messages") ? .array(sent) : sent[0]])
    }

    private static func statement(_ messages: [Message], _ ids: [ID], to queue: ID) -> SQL {
        if let message = messages.first, messages.count == 1, message.dedupID == nil {
            return """
                with q as materialized (select id, delay, awaited_until from queues where id = \(queue)), stored as (
                    insert into queue_messages (id, queue_id, visible_at, attributes, body)
                    select \(ids[0])::uuid, id, now() + coalesce(\(message.delay)::int, delay) * interval '1 second',
                    coalesce(\(message.attributes), '{}'), \(message.body) from q returning id, sent_at)
                select s.id, s.sent_at, false, q.awaited_until > now() from stored s cross join q
                """
        }
        // What is absent goes as an empty text or -1: arrays hold no nulls here.
        let delays = messages.map { $0.delay ?? -1 }
        return """
            select id, sent_at, is_deduplicated, is_awaited from send_messages(\(queue), \(ids.map(\.description))::uuid[],
            \(messages.map(\.body))::text[], array(select nullif(d, -1) from unnest(\(delays)::int[]) with ordinality u (d, n) order by n),
            array(select nullif(d, '') from unnest(\(messages.map { $0.dedupID ?? "" })::text[]) with ordinality u (d, n) order by n),
            \(messages.map { $0.attributes?.text ?? "{}" })::text[])
            """
    }

    // MARK: - Receiving

    private enum Found {
        case messages(JSON)
        /// after: until the next one may become visible, in seconds.
        case none(owner: ID, after: Double?)
    }

    /// A HEAD receives nothing. nginx has the pool `api` answer what does not wait, and there nothing does, however it is spelled.
    static func receive(_ context: Context) throws -> Response {
        let query = context.request.query
        let count = try query.number("count", default: 1, 1...10)
        let wanted = try query.number("wait", default: 0, 0...20)
        let seconds = context.equipment.mayWait ? wanted : 0
        let queue = try context.id()
        if context.request.method == .head {
            guard try context.commit("select from queues where id = \(queue)").count == 1 else { throw APIError.notFound }
            return .json(["data": []])
        }
        switch try look(queue, count, isWaiting: seconds > 0, context) {
        case .messages(let messages): return .json(["data": messages])
        case .none where seconds == 0: return .json(["data": []])
        case .none(let owner, _):
            let found = try OwnerSlots.polls.hold(for: owner, limit: context.config.quota.polls) {
                try context.wait(
                    for: queue, seconds: seconds,
                    looking: { () -> Waiting.Look<JSON> in
                        switch try look(queue, count, isWaiting: true, context) {
                        case .messages(let messages): .found(messages)
                        case .none(_, let after): .nothing(after: after)
                        }
                    })
            }
            return .json(["data": found ?? []])
        }
    }

    private static func look(_ queue: ID, _ count: Int, isWaiting: Bool, _ context: Context) throws -> Found {
        let rows = try context.commit(
            """
            select id, body, attributes, receipt, receive_count, sent_at, first_received_at, visible_until, next_seconds, owner
            from receive_messages(\(queue), \(count), \(isWaiting))
            """, refusals: ["queue_messages_queue": .unavailable(cause: "the dead-letter queue was deleted at this moment")])
        var first = rows[0]
        guard first.next(ID?.self) != nil else {
            first.skip(7)
            let after: Double? = first.next()
            return .none(owner: first.next(), after: after)
        }
        return .messages(
            .array(
                rows.map { row in
                    var row = row
                    return .written { write(&row, to: &$0) }
                }))
    }

    private static func write(_ row: inout Row, to out: inout JSONWriter) {
        let id: ID = row.next()
        out.member("id", id)
        out.text("body", &row)
        out.json("attributes", &row)
        out.member("receipt_handle", ReceiptHandle(message: id, receipt: row.next()).text)
        out.member("receive_count", .int(row.next(Int.self)))
        out.time("sent_at", &row)
        out.time("first_received_at", &row)
        out.time("visible_until", &row)
    }

    // MARK: - What a receipt handle is good for

    /// What holds a receipt handle; a message that was received again since has another receipt.
    private struct ReceiptHandle {
        let message: ID
        let receipt: ID

        init(message: ID, receipt: ID) {
            self.message = message
            self.receipt = receipt
        }

        /// `nil` for a text that is none.
        init?(_ text: String) {
            let halves = text.split(separator: ".", omittingEmptySubsequences: false)
            guard halves.count == 2, let message = ID(String(halves[0])), let receipt = ID(String(halves[1])) else { return nil }
            self.init(message: message, receipt: receipt)
        }

        var text: String { "\(message).\(receipt)" }

        static func of(_ context: Context) throws(APIError) -> ReceiptHandle {
            guard let handle = context.parameters["receipt_handle"].flatMap(ReceiptHandle.init) else { throw .notFound }
            return handle
        }

        /// - Returns: the error where the handle was good for nothing.
        static func refusal(isThere: Bool) -> APIError {
            isThere ? .conflict("The receipt handle is stale: the message has been received again since") : .notFound
        }
    }

    /// Whether the message is in the queue, with whatever receipt.
    private static func isThere(_ handle: ReceiptHandle, in queue: ID) -> SQL {
        "exists (select from queue_messages where id = \(handle.message) and (queue_id = \(queue)) is true)"
    }

    static func deleteMessage(_ context: Context) throws -> Response {
        let (queue, handle) = (try context.id(), try ReceiptHandle.of(context))
        let rows = try context.commit(
            """
            with gone as (
                delete from queue_messages
                where id = \(handle.message) and (queue_id = \(queue)) is true and receipt = \(handle.receipt) returning id)
            select exists (select from gone), \(isThere(handle, in: queue))
            """)
        var row = rows[0]
        let (isGone, isThere): (Bool, Bool) = (row.next(), row.next())
        guard isGone else { throw ReceiptHandle.refusal(isThere: isThere) }
        return .message("Message deleted")
    }

    /// Each that is good is deleted, whatever the others are.
    static func deleteMessages(_ context: Context) throws -> Response {
        var body = try context.fields()
        let texts = body.required("receipt_handles", .list(1...10, of: Rule("is a text") { $0.string }))
        guard let texts, body.problems == nil else { throw body.refusal }
        let queue = try context.id()
        let handles = texts.compactMap(ReceiptHandle.init)
        let rows = try context.commit(
            """
            with gone as (
                delete from queue_messages where id = any (\(handles.map(\.message.description))::uuid[])
                and (queue_id = \(queue)) is true and id || '.' || receipt = any (\(handles.map(\.text))::text[]) returning id, receipt)
            select exists (select from queues where id = \(queue)), array(select id || '.' || receipt from gone)
            """)
        var row = rows[0]
        guard row.next(Bool.self) else { throw APIError.notFound }
        let gone = Set(row.next([String].self))
        return .json([
            "data": .array(
                texts.map { text in
                    ["receipt_handle": .string(text), "deleted": .bool(ReceiptHandle(text).map { gone.contains($0.text) } ?? false)]
                })
        ])
    }

    /// Counts from now; 0 gives the message back.
    static func changeVisibility(_ context: Context) throws -> Response {
        var body = try context.fields()
        let timeout = body.required("visibility_timeout", .visibilityTimeout)
        guard let timeout, body.problems == nil else { throw body.refusal }
        let (queue, handle) = (try context.id(), try ReceiptHandle.of(context))
        let rows = try context.commit(
            """
            with changed as (
                update queue_messages set visible_at = now() + \(timeout)::int * interval '1 second'
                where id = \(handle.message) and (queue_id = \(queue)) is true and receipt = \(handle.receipt) returning visible_at)
            select (select visible_at from changed), \(isThere(handle, in: queue)),
            exists (select from queues where id = \(queue) and awaited_until > now())
            """)
        var row = rows[0]
        let visibleUntil: Timestamp? = row.next()
        let (isThere, isAwaited): (Bool, Bool) = (row.next(), row.next())
        guard let visibleUntil else { throw ReceiptHandle.refusal(isThere: isThere) }
        if isAwaited { context.wakeWaiting(forAll: [queue]) }
        return .json([
            "data": [
                "id": .string(handle.message.description), "receipt_handle": .string(handle.text),
                "visible_until": .string(visibleUntil.description),
            ]
        ])
    }
}

extension Rule where Value == String {
    fileprivate static let messageBody = Rule("must be a text that is not empty") { json in json.string.flatMap { $0.isEmpty ? nil : $0 } }

    fileprivate static let dedupID = Rule("must be 1–128 printable ASCII characters") { json in
        guard let text = json.string, (1...128).contains(text.utf8.count), text.utf8.allSatisfy({ (0x20...0x7E).contains($0) }) else {
            return nil
        }
        return text
    }
}

extension Rule where Value == JSON {
    /// What goes along with a message.
    static let attributes = Rule("must be an object of texts, numbers, true and false, 8 KiB at most") { json in
        guard case .object(let members) = json, json.bytes.count <= 8 << 10 else { return nil }
        let isFlat = members.allSatisfy { member in
            switch member.value {
            case .string, .int, .double, .bool: true
            default: false
            }
        }
        // A bare nil would be JSON's null here.
        return isFlat ? .some(json) : .none
    }
}
