// What is asked of functions, and what became of it. A synchronous invocation waits for its turn, runs in a sandbox of this process and holds no
// connection meanwhile; an asynchronous one is a job (Sources/Jobs/InvocationJob.swift). Table: invocations.
import API
import HTTP
import Postgres
import Sandboxes

extension Functions {
    /// Asynchronous invocations of an owner that may wait.
    private static let queueLimit = 1000
    /// Requests of an owner that wait for functions at once, in one child.
    private static let waitLimit = 64

    private static let invocationColumns: SQL =
        """
        id, function_id, status, is_async, attempt, result, error, logs, is_log_truncated, duration_ms, is_cold_start, created_at, started_at,
        finished_at
        """

    private static func writeInvocation(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.id("function_id", &row)
        out.text("status", &row)
        out.member("async", .bool(row.next(Bool.self)))
        out.member("attempt", .int(row.next(Int.self)))
        out.json("result", &row)
        out.text("error", &row)
        out.text("logs", &row)
        out.member("is_truncated", .bool(row.next(Bool.self)))
        writeTimes(&row, to: &out)
    }

    /// Without result and log.
    private static func writeEntry(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.id("function_id", &row)
        out.text("status", &row)
        out.member("async", .bool(row.next(Bool.self)))
        out.member("attempt", .int(row.next(Int.self)))
        out.text("error", &row)
        writeTimes(&row, to: &out)
    }

    private static func writeTimes(_ row: inout Row, to out: inout JSONWriter) {
        out.member("duration_ms", .optional(row.next(Int?.self)))
        out.member("cold_start", row.next(Bool?.self).map(JSON.bool) ?? .null)
        out.time("created_at", &row)
        out.time("started_at", &row)
        out.time("finished_at", &row)
    }

    static func invoke(_ context: Context) throws -> Response {
        let wish = try InvocationWish(context.fields())
        let id = try context.id()
        return wish.isAsync ? try enqueue(wish, id, context) : try ask(wish, id, context)
    }

    private static func enqueue(_ wish: InvocationWish, _ id: ID, _ context: Context) throws -> Response {
        let invocation = context.newID()
        try context.send("select check_queued_invocations(\(queueLimit))")
        let rows = try context.query(
            """
            insert into invocations (id, function_id, is_async, payload)
            select \(invocation)::uuid, id, true, \(wish.payload.text) from functions where id = \(id) returning \(invocationColumns)
            """)
        guard let row = rows.first else { throw APIError.notFound }
        try context.enqueue("invocation", invocation)
        return .json(["data": .written { writeInvocation(row, to: &$0) }], status: 202)
    }

    private static func ask(_ wish: InvocationWish, _ id: ID, _ context: Context) throws -> Response {
        let (invocation, home) = (context.newID(), try context.sandboxes)
        try home.enter()
        let known = try context.query("select owner_id, timeout_seconds from functions where id = \(id)")
        guard var row = known.first else { throw APIError.notFound }
        let (owner, timeout): (ID, Int) = (row.next(), row.next())
        let patience = max(60, timeout)
        return try OwnerSlots.invocations.hold(for: owner, limit: waitLimit) {
            try context.send(
                """
                insert into invocations (id, function_id, is_async, home, leased_until)
                values (\(invocation), \(id), false, \(home.id), now() + \(patience + 60)::int * interval '1 second')
                """)
            try run(invocation, wish, patience, timeout, home, context)
            let rows = try context.commit("select \(invocationColumns) from invocations where id = \(invocation)")
            guard let row = rows.first else { throw APIError.notFound }
            return .json(["data": .written { writeInvocation(row, to: &$0) }])
        }
    }

    /// Waits for its turn and runs it. Once its row is there, it is ended whatever happens.
    private static func run(
        _ id: ID, _ wish: InvocationWish, _ patience: Int, _ timeout: Int, _ home: SandboxHome, _ context: Context
    ) throws {
        var turn = Invocation.turn(id, try context.query(Invocation.begin(id, in: home, context.config)))
        // The sandbox may have to be made first.
        try context.pause(seconds: patience + timeout + 120)
        let outcome: SandboxOutcome
        do {
            if case .later = turn { turn = try patientTurn(id, patience, home, context) }
            outcome = try answer(to: turn, wish, home, context)
        } catch {
            try? end(id, .notRun(sentence(about: error)), home, context)
            throw error
        }
        try end(id, outcome, home, context)
    }

    private static func patientTurn(_ id: ID, _ patience: Int, _ home: SandboxHome, _ context: Context) throws -> Invocation.Turn {
        let turn = try context.wait(for: id, seconds: patience) { () -> Invocation.Turn? in
            let turn = Invocation.turn(id, try context.query(Invocation.begin(id, in: home, context.config)))
            if case .later = turn { return nil }
            return turn
        }
        try context.restart()
        if let turn { return turn }
        throw APIError.quotaExceeded(
            "at most \(context.config.quota.invocations) invocations at once; there was no place for this one within \(patience) s")
    }

    private static func answer(
        to turn: Invocation.Turn, _ wish: InvocationWish, _ home: SandboxHome, _ context: Context
    ) throws -> SandboxOutcome {
        var turn = turn
        for _ in 0..<3 {
            guard case .begun(let invocation) = turn else { throw APIError.notFound }
            do {
                return try invocation.run(in: home, on: context.engine, context.config, payload: wish.payload.bytes) {
                    let rows = try context.query(invocation.code)
                    try context.restart()
                    return rows
                }
            } catch is Invocation.Changed {
                turn = Invocation.turn(invocation.id, try context.query(Invocation.begin(invocation.id, in: home, context.config)))
                try context.restart()
            }
        }
        throw APIError.conflict("The function is being changed all the time")
    }

    /// In a transaction without the credential, which may have ended meanwhile.
    private static func end(_ id: ID, _ outcome: SandboxOutcome, _ home: SandboxHome, _ context: Context) throws {
        try context.withoutPrincipal { try Invocation.end(id, outcome, in: home, context.config, $0) }
    }

    /// What the history tells of one that was not run.
    private static func sentence(about error: any Error) -> String {
        (error as? APIError)?.message ?? "the function could not be run: the service was briefly unavailable"
    }

    static func invocations(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let columns: SQL =
            "id, function_id, status, is_async, attempt, error, duration_ms, is_cold_start, created_at, started_at, finished_at"
        return try history(columns, page, context) { page.envelope($0, writeEntry) }
    }

    /// The newest first; of each log the first 64 KiB, the rest is with the invocation.
    static func logs(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let columns: SQL =
            """
            id, status, is_async, left(logs, 65536), is_log_truncated or length(logs) > 65536, error, duration_ms, is_cold_start, created_at, started_at,
            finished_at
            """
        return try history(columns, page, context) { rows in
            page.envelope(rows) { row, out in
                var row = row
                out.id("invocation_id", &row)
                out.text("status", &row)
                out.member("async", .bool(row.next(Bool.self)))
                out.text("logs", &row)
                out.member("is_truncated", .bool(row.next(Bool.self)))
                out.text("error", &row)
                writeTimes(&row, to: &out)
            }
        }
    }

    private static func history(_ columns: SQL, _ page: Page, _ context: Context, _ envelope: (Rows) -> JSON) throws -> Response {
        let id = try context.id()
        let rows = try context.query("select \(columns) from invocations where function_id = \(id) and \(page.window)")
        if rows.isEmpty, try context.query("select from functions where id = \(id)").isEmpty { throw APIError.notFound }
        return .json(envelope(rows))
    }

    static func invocation(_ context: Context) throws -> Response {
        let (function, id) = (try context.id(), try context.id("iid"))
        let rows = try context.commit(
            "select \(invocationColumns) from invocations where function_id = \(function) and id = \(id)")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(["data": .written { writeInvocation(row, to: &$0) }])
    }
}
