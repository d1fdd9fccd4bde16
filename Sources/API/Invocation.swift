// An invocation of a function, as whoever runs it sees it: workers the synchronous ones, thecloud-cron the others. The database says whose turn
// it is (start_invocation) and takes down the end (finish_invocation); both work without a principal. Table invocations.
package import Docker
import Glibc
package import HTTP
package import Postgres
package import Sandboxes

package struct Invocation {
    package let id: ID
    /// How often it was begun, this time included.
    package let attempt: Int
    /// How many of these went wrong.
    package let failures: Int
    package let timeout: Int
    private let function: ID
    private let version: ID
    private let owner: ID
    private let runtime: String
    private let handler: String
    private let memoryMB: Int
    private let codeSize: Int
    private let codeFiles: Int
    private let sealedEnvironment: [UInt8]?
    private let storedPayload: String?

    package enum Turn {
        /// It has ended, or its function is gone.
        case over
        /// So many come first.
        case later(ahead: Int)
        case begun(Invocation)
    }

    /// Begins it, if it is its turn; `turn` reads the rows.
    package static func begin(_ id: ID, in home: SandboxHome, _ config: Config) -> SQL {
        """
        select ahead, owner_id, function_id, version, runtime, handler, memory_mb, timeout_seconds, unpacked_size, file_count, env_sealed,
        payload, attempt, failures from start_invocation(\(id), \(home.id), \(config.quota.invocations))
        """
    }

    package static func turn(_ id: ID, _ rows: Rows) -> Turn {
        guard var row = rows.first else { return .over }
        let ahead: Int = row.next()
        return ahead > 0 ? .later(ahead: ahead) : .begun(Invocation(id, row))
    }

    /// - Parameter row: behind its first column.
    private init(_ id: ID, _ row: Row) {
        var row = row
        self.id = id
        owner = row.next()
        function = row.next()
        version = row.next()
        runtime = row.next()
        handler = row.next()
        memoryMB = row.next()
        timeout = row.next()
        codeSize = row.next()
        codeFiles = row.next()
        sealedEnvironment = row.next()
        storedPayload = row.next()
        attempt = row.next()
        failures = row.next()
    }

    /// The zip file, as long as the function is as it was when this was begun.
    package var code: SQL {
        """
        select c.code from functions f join function_code c on c.owner_id = f.owner_id and c.function_id = f.id
        where f.id = \(function) and f.version = \(version)
        """
    }

    /// The function was changed meanwhile: begin it anew.
    package struct Changed: Error {}

    /// Runs it in a sandbox of this process, which has entered its home.
    /// - Parameters:
    ///   - payload: JSON; without one, what is stored.
    ///   - code: the rows of `code`; asked only where no warm sandbox is left.
    /// - Throws: `Changed`, `EngineError.unreachable`, or what `code` throws; nothing of the function was run then.
    package func run(
        in home: SandboxHome, on engine: Engine, _ config: Config, payload: [UInt8]? = nil, code: () throws -> Rows
    ) throws -> SandboxOutcome {
        guard let runtime = Runtime(rawValue: runtime), let image = ManagedImage(rawValue: runtime.rawValue) else {
            return .notRun("the runtime \(runtime) is no longer offered")
        }
        let task = SandboxTask(
            version: version, owner: owner, runtime: runtime, image: config.images[image], handler: handler,
            environment: try config.keyring.openEnvironment(sealedEnvironment, of: function, as: .functionEnvironment), memoryMB: memoryMB,
            codeSize: codeSize, codeFiles: codeFiles, timeout: timeout, payload: payload ?? Array((storedPayload ?? "{}").utf8))
        do {
            return try home.run(task, on: engine) {
                guard let zip = try code().scalar([UInt8].self) else { throw Changed() }
                return zip
            }
        } catch SandboxError.stillborn(let why) {
            return .notRun("the sandbox did not start: \(why)")
        } catch SandboxError.engine(.imageMissing(_)) {
            return .notRun("the image of the runtime is not here")
        } catch SandboxError.engine(let error) {
            throw EngineError.unreachable("\(error)")
        }
    }

    /// Takes down how it has ended, in a transaction of its own; a database that is away is asked again for some seconds.
    /// - Parameter isFinal: false where there will be another attempt.
    package static func end(
        _ id: ID, _ outcome: SandboxOutcome, isFinal: Bool = true, in home: SandboxHome, _ config: Config, _ connection: Connection
    ) throws {
        for pause in [200, 1000, 3000] {
            do {
                return try endOnce(id, outcome, isFinal, home, config, connection)
            } catch let error as DatabaseError where error.isTransient {
                Event.trouble("an invocation's end is not taken down yet: \(error)").log()
                _ = poll(nil, 0, Int32(pause))
            }
        }
        try endOnce(id, outcome, isFinal, home, config, connection)
    }

    private static func endOnce(
        _ id: ID, _ outcome: SandboxOutcome, _ isFinal: Bool, _ home: SandboxHome, _ config: Config, _ connection: Connection
    ) throws {
        let (status, result, error) = outcome.columns
        let transaction = try connection.begin()
        if isFinal { transaction.notify("events") }
        let rows = try transaction.commit(
            """
            select finish_invocation(\(id), \(home.id), \(status), \(result), \(error), \(outcome.log), \(outcome.isLogCut), \(outcome.isCold),
            \(outcome.milliseconds), \(isFinal), \(ID(at: .now())), \(config.quota.invocations))
            """)
        guard !rows.isEmpty else { return }
        let wakeUp = try connection.begin()
        for var row in rows { wakeUp.notify(Waiting.channel, row.next(ID.self).description) }
        try wakeUp.commit()
    }
}

extension SandboxOutcome {
    /// Status, result and error as the table has them.
    fileprivate var columns: (status: String, result: String?, error: String?) {
        switch verdict {
        case .succeeded(let json): ("SUCCEEDED", String(decoding: json, as: UTF8.self), nil)
        case .failed(let why): ("FAILED", nil, why)
        case .timedOut: ("TIMED_OUT", nil, "the function did not end in time")
        }
    }
}
