// One connection in libpq's pipeline mode (manual §34.5), used by one thread. Statements are prepared once, inside the pipeline that first needs them.
// Between two syncs everything is one implicit transaction: the sync commits, any error undoes all of it.
import CPostgres
import Glibc

package final class Connection {
    private let url: String
    private var session: OpaquePointer?
    private var prepared: [String: String] = [:]
    /// What the server still owes an answer for, oldest first.
    private var expected: [Expected] = []
    private var tickets = 0

    private enum Expected {
        case preparation(text: String, name: String)
        case rows(ticket: Int)
        case sync
    }

    /// - Parameter url: a libpq URL (manual §34.1.1.2); the session is opened on first use.
    package init(url: String) { self.url = url }

    deinit { close() }

    package func close() {
        if let session { PQfinish(session) }
        session = nil
        prepared = [:]
        expected = []
    }

    /// Starts a transaction: reads what the last one left behind, and opens the session anew if it is gone.
    /// - Throws: `connectionLost` when PostgreSQL can't be reached (2 s each host).
    package func begin() throws(DatabaseError) -> Transaction {
        if session != nil {
            do {
                while !expected.isEmpty { _ = try receive() }
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
        let (text, binds) = sql.rendered
        let name: String
        if let known = prepared[text] ?? pendingName(of: text) {
            name = known
        } else {
            name = "s\(tickets)"
            try check(PQsendPrepare(session, name, text, Int32(binds.count), nil))
            expected.append(.preparation(text: text, name: name))
        }
        try check(binds.withParameters { PQsendQueryPrepared(session, name, Int32(binds.count), $0, $1, $2, 1) })
        tickets += 1
        expected.append(.rows(ticket: tickets))
        return tickets
    }

    private func pendingName(of text: String) -> String? {
        for case .preparation(text, let name) in expected { return name }
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
        let next = expected.removeFirst()
        if case .sync = next {
            let status = PQresultStatus(result)
            PQclear(result)
            guard status == PGRES_PIPELINE_SYNC else { throw lost() }
            return .synced
        }
        // Each statement's answer is followed by a null result; a sync's is not.
        if PQgetResult(session) != nil { throw lost() }
        switch (PQresultStatus(result), next) {
        case (PGRES_COMMAND_OK, .preparation(let text, let name)):
            PQclear(result)
            prepared[text] = name
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
            if refusal.state == "0A000" { prepared = [:] }
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

extension [Bind] {
    /// Calls with libpq's three parallel arrays: values, lengths, formats. Texts end in NUL, as the text format wants it.
    fileprivate func withParameters<Result>(
        _ body: (UnsafePointer<UnsafePointer<CChar>?>?, UnsafePointer<Int32>?, UnsafePointer<Int32>?) -> Result
    ) -> Result {
        var storage: [UInt8] = []
        var offsets: [Int?] = []
        var lengths: [Int32] = []
        var formats: [Int32] = []
        for bind in self {
            switch bind {
            case .null:
                offsets.append(nil)
                lengths.append(0)
                formats.append(0)
            case .text(let text):
                offsets.append(storage.count)
                storage.append(contentsOf: text.utf8)
                storage.append(0)
                lengths.append(0)
                formats.append(0)
            case .bytes(let bytes):
                offsets.append(storage.count)
                storage.append(contentsOf: bytes)
                storage.append(0)
                lengths.append(Int32(bytes.count))
                formats.append(1)
            }
        }
        return storage.withUnsafeBytes { bytes in
            let values = offsets.map { offset in
                offset.flatMap { bytes.baseAddress?.advanced(by: $0).assumingMemoryBound(to: CChar.self) }
            }
            return body(values, lengths, formats)
        }
    }
}
