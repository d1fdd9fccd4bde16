// One request's transaction, in as few round trips as its handler needs: `send` only queues, `query` flushes and waits,
// `commit(_:)` sends the last statement and the commit in one flush. After any error the transaction is over and undone.

package import HTTP

/// What listeners of a channel are woken with.
struct Notice: Equatable {
    let channel: String
    let payload: String
}

package final class Transaction {
    private let connection: Connection
    /// What nobody has fetched yet; the newest, which are wanted mostly, at the end.
    private var answered: [(number: Int, rows: Rows)] = []
    private var isOver = false
    private var notices: [Notice] = []

    init(_ connection: Connection) { self.connection = connection }

    /// One that was forgotten must not become part of the next.
    deinit { rollback() }

    /// A statement that was queued; its rows can be fetched once.
    package struct Ticket { fileprivate let number: Int }

    /// Queues a statement. Its error, if it has one, surfaces at the next `query`, `rows` or `commit`.
    @discardableResult
    package func send(_ sql: SQL) throws(DatabaseError) -> Ticket {
        precondition(!isOver, "the transaction is over")
        return Ticket(number: try connection.queue(sql))
    }

    /// Sends all that is queued and waits for the rows of one statement.
    package func rows(_ ticket: Ticket) throws(DatabaseError) -> Rows {
        if let rows = fetch(ticket) { return rows }
        try connection.flush()
        while true {
            _ = try receive()
            if let rows = fetch(ticket) { return rows }
        }
    }

    /// One statement and its rows; one round trip.
    @discardableResult
    package func query(_ sql: SQL) throws(DatabaseError) -> Rows { try rows(try send(sql)) }

    /// Wakes the listeners of a channel once this transaction has taken effect.
    /// - Parameter payload: what they are told; at most 7999 bytes.
    package func notify(_ channel: String, _ payload: String = "") {
        let notice = Notice(channel: channel, payload: payload)
        if !notices.contains(notice) { notices.append(notice) }
    }

    /// The last statement and the commit in one round trip; returns only after the commit.
    package func commit(_ sql: SQL) throws(DatabaseError) -> Rows {
        let ticket = try send(sql)
        try commit()
        return fetch(ticket)!
    }

    private func fetch(_ ticket: Ticket) -> Rows? {
        answered.lastIndex { $0.number == ticket.number }.map { answered.remove(at: $0).rows }
    }

    /// Makes all of it take effect. Does nothing when it already has.
    package func commit() throws(DatabaseError) {
        guard !isOver else { return }
        isOver = true
        try connection.sync(notifying: notices)
        while try !receive() {}
    }

    /// Undoes everything. Does nothing when the transaction is over.
    package func rollback() {
        guard !isOver else { return }
        isOver = true
        // The implicit transaction block has no rollback of its own: a statement that is refused makes the sync undo it.
        do {
            _ = try connection.queue("select 1/0")
            try connection.sync()
            try drain()
        } catch { connection.close() }
    }

    /// Whether nothing more can be sent: committed, rolled back or refused.
    package var hasEnded: Bool { isOver }

    /// Takes one answer.
    /// - Returns: true when it was the sync.
    private func receive() throws(DatabaseError) -> Bool {
        let answer: Connection.Answer
        do {
            answer = try connection.receive()
        } catch {
            isOver = true
            throw error
        }
        switch answer {
        case .rows(let ticket, let rows): answered.append((ticket, rows))
        case .prepared, .skipped: break
        case .synced: return true
        case .refused(let refusal):
            if !isOver {
                isOver = true
                try connection.sync()
            }
            try drain()
            throw .refused(refusal)
        }
        return false
    }

    private func drain() throws(DatabaseError) {
        while true {
            if case .synced = try connection.receive() { return }
        }
    }
}

extension Transaction {
    /// Like `commit(_:)`; a violated constraint that is named here becomes the error beside it.
    package func commit(_ sql: SQL, refusals: [String: APIError]) throws -> Rows {
        do {
            return try commit(sql)
        } catch {
            throw error.constraint.flatMap { refusals[$0] } ?? error
        }
    }
}
