// One connection in libpq's pipeline mode (manual §34.5), used by one thread. Statements are prepared once, inside the pipeline that first needs them.
// Between two syncs everything is one implicit transaction: the sync commits, any error undoes all of it.
import CPostgres
import Glibc

package final class Connection {
    private let url: String
    private var session: OpaquePointer?
    private var statements = Statements()
    private var parameters = Parameters()
    /// What the server still owes an answer for, oldest first, from `next` on.
    private var expected: [Expected] = []
    private var next = 0
    private var tickets = 0

    private enum Expected {
        case preparation(Statements.Statement)
        case rows(ticket: Int)
        case sync
    }

    /// - Parameter url: a libpq URL (manual §34.1.1.2); the session is opened on first use.
    package init(url: String) { self.url = url }

    deinit { close() }

    package func close() {
        if let session { PQfinish(session) }
        session = nil
        statements.forget()
        expected = []
        next = 0
    }

    /// Starts a transaction: reads what the last one left behind, and opens the session anew if it is gone.
    /// - Throws: `connectionLost` when PostgreSQL can't be reached (2 s each host).
    package func begin() throws(DatabaseError) -> Transaction {
        if session != nil {
            do {
                while next < expected.count { _ = try receive() }
            } catch { close() }
            if hasGoneAway { close() }
        }
        if session == nil { try open() }
        return Transaction(self)
    }

    private func open() throws(DatabaseError) {
        let fallback = ["dbname", "fallback_application_name", "connect_timeout"]
        let values = [url, "thecloud", "2"]
        let opened = withCStrings(fallback) { keywords in
            withCStrings(values) { PQconnectdbParams(keywords, $0, 1) }
        }
        guard let opened, PQstatus(opened) == CONNECTION_OK, PQenterPipelineMode(opened) == 1 else {
            let why = opened.map { String(cString: PQerrorMessage($0)) } ?? "out of memory"
            if let opened { PQfinish(opened) }
            throw .connectionLost(why)
        }
        session = opened
    }

    /// Whether the server said something to an idle session: that is its farewell. (Reading it once would not tell: the end comes behind it.
    /// A changed server setting is told as well; opening anew does no harm then.)
    private var hasGoneAway: Bool {
        guard let session else { return true }
        var descriptor = pollfd(fd: PQsocket(session), events: Int16(POLLIN), revents: 0)
        return poll(&descriptor, 1, 0) > 0
    }

    /// Queues one statement; nothing is sent before `flush` or `sync`.
    func queue(_ sql: SQL) throws(DatabaseError) -> Int {
        let statement: Statements.Statement
        if let known = statements[sql] ?? pending(sql) {
            statement = known
        } else {
            statement = statements.name(sql)
            try check(PQsendPrepare(session, statement.name, sql.text, 0, nil))
            expected.append(.preparation(statement))
        }
        try check(
            parameters.with(sql) { count, values, lengths, formats in
                PQsendQueryPrepared(session, statement.name, count, values, lengths, formats, 1)
            })
        tickets += 1
        expected.append(.rows(ticket: tickets))
        return tickets
    }

    private func pending(_ sql: SQL) -> Statements.Statement? {
        for case .preparation(let statement) in expected[next...] where sql.hasShape(statement.shape) { return statement }
        return nil
    }

    /// Asks for the answers so far without ending the transaction.
    func flush() throws(DatabaseError) {
        try check(PQsendFlushRequest(session))
        guard PQflush(session) >= 0 else { throw lost() }
    }

    /// Ends the transaction. Notifications go out after it, in the same flush but in a transaction of their own:
    /// inside it they would serialise all commits behind PostgreSQL's notification lock.
    func sync(notifying notices: [Notice] = []) throws(DatabaseError) {
        try check(PQpipelineSync(session))
        expected.append(.sync)
        if !notices.isEmpty {
            let calls = notices.map { notice -> SQL in "pg_notify(\(notice.channel), \(notice.payload))" }
            _ = try queue("select \(calls.joined(separator: ", "))")
            try check(PQpipelineSync(session))
            expected.append(.sync)
        }
    }

    enum Answer {
        case rows(ticket: Int, Rows)
        case refused(DatabaseError.Refusal)
        /// An earlier refusal in the same transaction took this one along.
        case skipped
        case prepared
        case synced
    }

    /// The next answer that the server owes; waits for it.
    func receive() throws(DatabaseError) -> Answer {
        guard let result = PQgetResult(session) else { throw lost() }
        let answered = expected[next]
        next += 1
        if next == expected.count {
            expected.removeAll(keepingCapacity: true)
            next = 0
        }
        if case .sync = answered {
            let status = PQresultStatus(result)
            PQclear(result)
            guard status == PGRES_PIPELINE_SYNC else { throw lost() }
            return .synced
        }
        // Each statement's answer is followed by a null result; a sync's is not.
        if PQgetResult(session) != nil { throw lost() }
        switch (PQresultStatus(result), answered) {
        case (PGRES_COMMAND_OK, .preparation(let statement)):
            PQclear(result)
            statements.add(statement)
            return .prepared
        case (PGRES_TUPLES_OK, .rows(let ticket)), (PGRES_COMMAND_OK, .rows(let ticket)), (PGRES_EMPTY_QUERY, .rows(let ticket)):
            return .rows(ticket: ticket, Rows(result))
        case (PGRES_PIPELINE_ABORTED, _):
            PQclear(result)
            return .skipped
        default:
            defer { PQclear(result) }
            func field(_ code: Character) -> String? {
                PQresultErrorField(result, Int32(code.asciiValue!)).map { String(cString: $0) }
            }
            guard let state = field("C") else { throw lost() }
            let refusal = DatabaseError.Refusal(state: state, message: field("M") ?? "", constraint: field("n"))
            // A plan gone stale after a migration: the next transaction prepares anew.
            if refusal.state == "0A000" { statements.forget() }
            return .refused(refusal)
        }
    }

    private func check(_ status: Int32) throws(DatabaseError) {
        guard status == 1 else { throw lost() }
    }

    private func lost() -> DatabaseError {
        let why = session.map { String(cString: PQerrorMessage($0)) } ?? "not connected"
        close()
        return .connectionLost(why)
    }
}

/// Calls with a null-terminated array of C strings.
private func withCStrings<Result>(_ texts: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>) -> Result) -> Result {
    let copies = texts.map { strdup($0) }
    defer { for copy in copies { free(copy) } }
    return (copies.map { UnsafePointer($0) } + [nil]).withUnsafeBufferPointer { body($0.baseAddress!) }
}

/// Room for libpq's three parallel arrays, used again and again: values, lengths, formats. Texts end in NUL, as the text format wants it.
private struct Parameters {
    private static let keptCapacity = 64 << 10

    private var storage: [UInt8] = []
    private var offsets: [Int] = []
    private var values: [UnsafePointer<CChar>?] = []
    private var lengths: [Int32] = []
    private var formats: [Int32] = []

    /// Calls with what a statement binds.
    mutating func with<Result>(
        _ sql: SQL, _ body: (Int32, UnsafePointer<UnsafePointer<CChar>?>?, UnsafePointer<Int32>?, UnsafePointer<Int32>?) -> Result
    ) -> Result {
        storage.removeAll(keepingCapacity: true)
        offsets.removeAll(keepingCapacity: true)
        values.removeAll(keepingCapacity: true)
        lengths.removeAll(keepingCapacity: true)
        formats.removeAll(keepingCapacity: true)
        for part in sql.parts {
            guard case .bind(let bind) = part else { continue }
            switch bind {
            case .null: add(-1, length: 0, format: 0)
            case .text(let text):
                add(storage.count, length: 0, format: 0)
                storage.append(contentsOf: text.utf8)
                storage.append(0)
            case .bytes(let bytes):
                add(storage.count, length: bytes.count, format: 1)
                storage.append(contentsOf: bytes)
                storage.append(0)
            }
        }
        // What was large is not kept.
        defer { if storage.capacity > Self.keptCapacity { storage = [] } }
        return storage.withUnsafeBytes { bytes in
            for offset in offsets {
                values.append(offset < 0 ? nil : bytes.baseAddress?.advanced(by: offset).assumingMemoryBound(to: CChar.self))
            }
            return body(Int32(offsets.count), values, lengths, formats)
        }
    }

    private mutating func add(_ offset: Int, length: Int, format: Int32) {
        offsets.append(offset)
        lengths.append(Int32(length))
        formats.append(format)
    }
}
