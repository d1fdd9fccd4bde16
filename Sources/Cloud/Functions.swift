// /functions: code that runs when it is asked. What a function is stands here, what is asked of it in Functions+Invocations.swift; sandboxes are in
// Sources/Sandboxes. Tables: functions, function_code. `version` changes with all that a sandbox is made of, so no old one is used any more.
import API
import Crypto
import HTTP
import Identity
import Postgres
import Sandboxes

enum Functions {
    static let routes: [Route] = [
        .get("/functions", .permission(.functionRead), list),
        .create("/functions", .permission(.functionCreate), pool: .long, bodyLimit: codeBodyLimit, create),
        .get("/functions/:id", .permission(.functionRead), get),
        .put("/functions/:id", .permission(.functionUpdate), pool: .long, bodyLimit: codeBodyLimit, update),
        .delete("/functions/:id", .permission(.functionDelete), delete),
        .action("/functions/:id/invoke", .permission(.functionInvoke), pool: .long, invoke),
        .get("/functions/:id/logs", .permission(.functionRead), logs),
        .get("/functions/:id/invocations", .permission(.functionRead), invocations),
        .get("/functions/:id/invocations/:iid", .permission(.functionRead), invocation),
    ]

    /// A zip file in base64, and the rest; nginx lets as much through.
    private static let codeBodyLimit = 48 << 20

    private static let columns: SQL =
        "id, name, runtime, handler, timeout_seconds, memory_mb, env_names, code_size, code_sha256, created_at, updated_at"

    private static func write(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.text("name", &row)
        out.text("runtime", &row)
        out.text("handler", &row)
        out.member("timeout", .int(row.next(Int.self)))
        out.member("memory_mb", .int(row.next(Int.self)))
        out.masked("env", &row)
        out.member("code_size", .int(row.next(Int.self)))
        out.text("code_sha256", &row)
        out.time("created_at", &row)
        out.time("updated_at", &row)
    }

    private static func json(_ row: Row) -> JSON { ["data": .written { write(row, to: &$0) }] }

    private static let refusals: [String: APIError] = [
        "functions_name_taken": .alreadyExists("You have a function of this name already")
    ]

    private static func told(_ id: ID) -> SQL {
        """
        select jsonb_build_object('id', id, 'name', name, 'runtime', runtime, 'handler', handler, 'code_sha256', code_sha256) from functions
        where id = \(id)
        """
    }

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let rows = try context.commit("select \(columns) from functions where \(page.window)")
        return .json(page.envelope(rows, write))
    }

    private static func create(_ context: Context) throws -> Response {
        let draft = try FunctionDraft(context.fields())
        let (id, code, change) = (context.newID(), draft.code, draft.change)
        let env = change.env ?? [:]
        let sealed = context.config.keyring.sealEnvironment(env, of: id, as: .functionEnvironment)
        try context.send("select check_function_quota(\(context.config.quota.functions))")
        try context.record("function.created", id, ["name": .string(draft.name), "code_sha256": .string(code.sha256)])
        let rows = try context.query(
            """
            insert into functions (id, name, runtime, handler, timeout_seconds, memory_mb, env_names, env_sealed, version, code_sha256,
            code_size, unpacked_size, file_count)
            values (\(id), \(draft.name), \(draft.runtime.rawValue), \(draft.handler), \(change.timeout ?? 30), \(change.memoryMB ?? 128),
            \(env.keys.sorted())::text[], \(sealed)::bytea, \(context.newID()), \(code.sha256), \(code.zip.count), \(code.unpackedSize),
            \(code.files.count)) returning \(columns)
            """, refusals: refusals)
        try context.send("insert into function_code (function_id, code) values (\(id), \(code.zip)::bytea)")
        try context.emit("function.created", id, from: told(id))
        return .created(json(rows[0]))
    }

    private static func get(_ context: Context) throws -> Response {
        let rows = try context.commit("select \(columns) from functions where id = \(try context.id())")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(json(row))
    }

    /// Invocations that are under way end as they began.
    private static func update(_ context: Context) throws -> Response {
        let change = try FunctionChange(context.fields())
        let id = try context.id()
        guard var present = try context.query("select runtime, handler from functions where id = \(id) for update").first else {
            throw APIError.notFound
        }
        let (runtime, handler): (String, String) = (present.next(), present.next())
        if change.code != nil || change.runtime != nil || change.handler != nil {
            try checkHandler(change.handler ?? handler, change.runtime ?? Runtime(rawValue: runtime), change, id, context)
        }
        if let env = change.env {
            let sealed = context.config.keyring.sealEnvironment(env, of: id, as: .functionEnvironment)
            try context.send(
                "update functions set env_names = \(env.keys.sorted())::text[], env_sealed = \(sealed)::bytea where id = \(id)")
        }
        if let code = change.code {
            try context.send("update function_code set code = \(code.zip)::bytea where function_id = \(id)")
        }
        let version = change.needsNewSandboxes ? context.newID() : nil
        let rows = try context.query(
            """
            update functions set name = coalesce(\(change.name), name), runtime = coalesce(\(change.runtime?.rawValue), runtime),
            handler = coalesce(\(change.handler), handler), timeout_seconds = coalesce(\(change.timeout)::int, timeout_seconds),
            memory_mb = coalesce(\(change.memoryMB)::int, memory_mb), version = coalesce(\(version)::uuid, version),
            code_sha256 = coalesce(\(change.code?.sha256), code_sha256), code_size = coalesce(\(change.code?.zip.count)::int, code_size),
            unpacked_size = coalesce(\(change.code?.unpackedSize)::int, unpacked_size),
            file_count = coalesce(\(change.code?.files.count)::int, file_count), updated_at = now()
            where id = \(id) returning \(columns)
            """, refusals: refusals)
        try context.record("function.updated", id, ["changed": .strings(change.names)])
        try context.emit("function.updated", id, from: told(id))
        return .json(json(rows[0]))
    }

    /// - Throws: `invalid` where what is to be the code has no file for what is to be the handler.
    private static func checkHandler(_ handler: String, _ runtime: Runtime?, _ change: FunctionChange, _ id: ID, _ context: Context) throws
    {
        guard let runtime else { throw APIError.invalid("runtime", "is no longer offered; choose another") }
        if let code = change.code {
            if let complaint = FunctionCode.complaint(code.files, runtime, handler) { throw APIError.invalid("code_zip", complaint) }
            return
        }
        let zip = try context.query("select code from function_code where function_id = \(id)").scalar([UInt8].self) ?? []
        guard FunctionCode.complaint(try FunctionCode(zip).files, runtime, handler) == nil else {
            let wanted = runtime.files(of: handler).joined(separator: " or ")
            throw APIError.invalid(change.handler == nil ? "runtime" : "handler", "needs \(wanted), which the code does not have")
        }
    }

    /// Its code and invocations go along; what runs at this moment is not called back, and its result is lost.
    private static func delete(_ context: Context) throws -> Response {
        let id = try context.id()
        try context.emit("function.deleted", id, from: told(id))
        guard try context.query("delete from functions where id = \(id)").affected == 1 else { throw APIError.notFound }
        try context.record("function.deleted", id)
        return .message("Function deleted")
    }
}
