// What a handler works with: the request, the principal, the transaction, and the outside world (time, ids, engine), which tests inject.
package import Docker
package import HTTP
package import Identity
package import Postgres

/// What one thread of a worker has; it outlives requests.
package struct Equipment {
    package let config: Config
    let source: ConnectionSource
    /// Only in workers that may talk to it: the long pool's.
    package let engine: Engine?
    /// Only in workers whose threads may wait for what somebody else does: the long pool's.
    package var mayWait = true
    /// Beside the engine.
    package let sandboxes: SandboxHome?
    package var now: () -> Timestamp = Timestamp.now

    package init(config: Config, connection: Connection, engine: Engine?, sandboxes: SandboxHome? = nil) {
        self.init(config: config, source: ConnectionSource(connection), engine: engine, sandboxes: sandboxes)
    }

    /// - Parameter source: gives a connection for each transaction.
    package init(config: Config, source: ConnectionSource, engine: Engine?, sandboxes: SandboxHome? = nil) {
        self.config = config
        self.source = source
        self.engine = engine
        self.sandboxes = sandboxes
    }

    package var connection: Connection { source.connection }

    /// What credentials are judged by.
    package var bench: Credential.Bench { Credential.Bench(keyring: config.keyring, now: now) }
}

package final class Context {
    package let request: Request
    package let route: Route
    package let equipment: Equipment
    /// The values of the path's `:names`.
    package let parameters: [String: String]
    private let credential: Credential?
    private var opened: Transaction?
    /// The credential's check, as long as nobody has asked how it went.
    private var authentication: Transaction.Ticket?
    private var known: Principal?
    /// When true the dispatcher still has something to write after the handler, so `commit` leaves the transaction open.
    var mustStayOpen = false
    /// Called before the handler commits early, because it is going to wait; with the seconds after which nobody waits any more.
    var park: ((Int) throws -> Void)?

    init(request: Request, route: Route, parameters: [String: String], credential: Credential?, equipment: Equipment) {
        self.request = request
        self.route = route
        self.parameters = parameters
        self.credential = credential
        self.equipment = equipment
    }

    package var config: Config { equipment.config }
    package var origin: Origin { Origin(address: request.remoteAddress, requestID: request.requestID) }

    package var now: Timestamp { equipment.now() }

    package var bench: Credential.Bench { equipment.bench }

    package func newID() -> ID { ID(at: now) }

    /// - Throws: `internalFailure` outside the long pool: the route's pool is wrong then.
    package var engine: Engine {
        get throws(APIError) {
            guard let engine = equipment.engine else { throw .internalFailure(cause: "\(route.path) is served outside the long pool") }
            return engine
        }
    }

    /// - Throws: as `engine`.
    package var sandboxes: SandboxHome {
        get throws(APIError) {
            guard let home = equipment.sandboxes else { throw .internalFailure(cause: "\(route.path) is served outside the long pool") }
            return home
        }
    }

    /// The `:id` of the path.
    /// - Throws: `notFound` for a malformed one: it names nothing.
    package func id(_ name: String = "id") throws(APIError) -> ID {
        guard let id = parameters[name].flatMap(ID.init) else { throw .notFound }
        return id
    }

    /// The body, judged by media type, size and syntax.
    package func fields() throws(APIError) -> Fields {
        if case .bytes([]) = request.body {
            guard route.input != .json else { throw .malformedBody("A JSON body is needed") }
            return try Fields([:])
        }
        let isForm = route.input == .jsonOrForm && mediaType == "application/x-www-form-urlencoded"
        guard isForm || mediaType == "application/json" else { throw .unsupportedMediaType(expected: "application/json") }
        switch request.body {
        case .bytes(let bytes) where bytes.count <= route.bodyLimit:
            return isForm ? try Fields(form: bytes) : try Fields(try JSON(parsing: bytes))
        case .bytes, .tooLarge: throw .bodyTooLarge(limit: route.bodyLimit)
        case .truncated: throw .malformedBody("The body is shorter than its Content-Length")
        }
    }

    /// curl's default for `-d` is form data; a JSON route does not guess.
    private var mediaType: String? {
        guard let text = request.headers["content-type"], text != "application/json" else { return request.headers["content-type"] }
        return text.split(separator: ";").first.map { $0.filter { !$0.isWhitespace }.lowercased() }
    }
}

// MARK: - The transaction

extension Context {
    /// The request's transaction; the credential's check is its first statement, sent with the first flush.
    private func transaction() throws(DatabaseError) -> Transaction {
        if let opened { return opened }
        let transaction = try equipment.connection.begin()
        if let credential {
            authentication = try transaction.send(
                credential.authentication(for: route.access.permission, address: request.remoteAddress))
        }
        opened = transaction
        return transaction
    }

    /// Who the request acts for, in full; costs a round trip. Most handlers don't ask: row-level security knows the owner.
    /// - Throws: `invalidCredentials` on a route that anyone may call.
    package var principal: Principal {
        get throws {
            if let known { return known }
            guard let credential, let row = try query(credential.principal).first else { throw APIError.invalidCredentials }
            let principal = Principal(row)
            known = principal
            return principal
        }
    }

    /// Password work on this thread's connection, outside the request's own transaction.
    package var accounts: Accounts { Accounts(equipment.connection, cost: config.scrypt, origin: origin) }

    /// Queues a statement that goes out with the next flush.
    package func send(_ sql: SQL) throws { try transaction().send(sql) }

    /// One statement and its rows: one round trip.
    /// - Parameter refusals: as for `commit`.
    package func query(_ sql: SQL, refusals: [String: APIError] = [:]) throws -> Rows {
        let transaction = try transaction()
        do {
            return try transaction.query(sql)
        } catch {
            throw error.constraint.flatMap { refusals[$0] } ?? error
        }
    }

    /// Has the sockets looked through, once this transaction has taken effect, because a credential ends with it.
    package func wakeSockets() throws {
        let transaction = try transaction()
        transaction.notify("events", "sockets")
        transaction.notify(SocketDesk.channel)
    }

    /// Has a home of sockets look for what is to be said, once this transaction has taken effect.
    package func wakeSockets(of home: String) throws { try transaction().notify(SocketDesk.channel, home) }

    /// Wakes those threads of thecloud-cron that see to cron jobs, once this transaction has taken effect.
    package func wakeCron() throws { try transaction().notify("cron") }

    /// Wakes thecloud-cron's lanes once this transaction has taken effect; for work that was wished in SQL.
    package func wakeJobs() throws { try transaction().notify("jobs") }

    /// Wakes the requests that wait for something, once this transaction has taken effect.
    package func wakeWaiting(for id: ID) throws { try transaction().notify(Waiting.channel, id.description) }

    /// Wakes one request that waits for something, once what was done so far has taken effect. What is committed already stays as it is
    /// when that fails: those who wait also look by themselves.
    package func wakeWaiting(forAll ids: [ID]) {
        guard !ids.isEmpty else { return }
        do {
            let transaction = if let opened, !opened.hasEnded { opened } else { try equipment.connection.begin() }
            for id in ids { transaction.notify(Waiting.channel, id.description) }
            if transaction !== opened { try transaction.commit() }
        } catch {
            Event.trouble("waking those who wait: \(error)").log()
        }
    }

    /// Commits; what follows is another transaction.
    package func restart() throws {
        try finish()
        opened = nil
        equipment.source.giveBack()
    }

    /// Undoes what is open, and lends a connection for what must be written down whether the principal's credential still lives or not.
    package func withoutPrincipal<Result>(_ body: (Connection) throws -> Result) rethrows -> Result {
        abandon()
        opened = nil
        defer { equipment.source.giveBack() }
        return try body(equipment.connection)
    }

    /// The last statement and the commit, in one round trip.
    /// - Parameter refusals: names of constraints, and the error that a client is told when one is violated.
    package func commit(_ sql: SQL, refusals: [String: APIError] = [:]) throws -> Rows {
        guard mustStayOpen else { return try transaction().commit(sql, refusals: refusals) }
        return try query(sql, refusals: refusals)
    }

    /// Ends the handler's part early: commits and gives up the connection's transaction, so that nothing is held while the handler waits
    /// for something else.
    package func release() throws {
        try finish()
        equipment.source.giveBack()
    }

    /// Lets the credential be judged, if it has not been: 401 and 403 outrank whatever else is wrong.
    func settle() throws {
        guard credential != nil, opened?.hasEnded != true else { return }
        let transaction = try transaction()
        guard let ticket = authentication else { return }
        authentication = nil
        _ = try transaction.rows(ticket)
    }

    /// Commits what the handler left open; where it asked the database nothing, the credential is judged now.
    func finish() throws {
        if credential != nil || opened != nil { try transaction().commit() }
    }

    func abandon() { opened?.rollback() }

    /// Wishes background work; coalesces with an earlier wish for the same subject.
    package func enqueue(_ kind: String, _ subject: ID) throws {
        let transaction = try transaction()
        try transaction.send("select enqueue(\(kind), \(subject.description), \(request.requestID))")
        transaction.notify("jobs")
    }

    /// Writes who did what to the audit log, in this transaction.
    /// - Parameter action: such as `instance.created`; its first part is the resource's type.
    package func record(_ action: String, _ resource: ID, _ detail: JSON = [:]) throws {
        let type = String(action.prefix { $0 != "." })
        try send(
            """
            insert into audit_log (id, action, resource_type, resource_id, address, request_id, detail)
            values (\(newID()), \(action), \(type), \(resource), \(request.remoteAddress)::inet, \(request.requestID), \(detail)::jsonb)
            """)
    }

    /// Tells sockets and webhooks of the principal what happened, once this transaction has taken effect.
    /// - Parameters:
    ///   - type: such as `run.completed`; its first part is the kind.
    ///   - data: what listeners are shown; no secrets.
    package func emit(_ type: String, _ resource: ID, _ data: JSON) throws {
        let transaction = try transaction()
        try transaction.send(
            "insert into events (id, type, resource_id, data) values (\(newID()), \(type), \(resource), \(data)::jsonb)")
        transaction.notify("events")
    }

    /// The same, with data as the database has it.
    /// - Parameter data: a select of one `jsonb` column; where it finds no row, nothing is told.
    package func emit(_ type: String, _ resource: ID, from data: SQL) throws {
        let transaction = try transaction()
        try transaction.send(
            """
            insert into events (id, type, resource_id, data)
            select \(newID())::uuid, \(type)::text, \(resource)::uuid, told.data from (\(data)) told (data)
            """)
        transaction.notify("events")
    }

    /// Takes note of a refused permission in a transaction of its own.
    func recordDenial() throws {
        guard let credential else { return }
        let denial = credential.denial(
            of: "\(route.method.rawValue) \(route.path)", address: request.remoteAddress, requestID: request.requestID)
        _ = try equipment.connection.begin().commit(denial)
    }
}
