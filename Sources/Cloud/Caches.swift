// /caches: Redis servers, each with a password of its own. A handler writes the wish (`desired`) and a job; thecloud-cron makes it so and
// writes `status`. The password comes back in the connection URL of one cache's details. Tables: caches, host_ports.
import API
import Crypto
import Docker
import HTTP
import Identity
import Postgres

enum Caches {
    static let routes: [Route] = [
        .get("/caches", .permission(.cacheRead), list),
        .create("/caches", .permission(.cacheCreate), create),
        .get("/caches/:id", .permission(.cacheRead), pool: .long, get),
        .delete("/caches/:id", .permission(.cacheDelete), delete),
        .get("/caches/:id/stats", .permission(.cacheRead), pool: .long, stats),
    ]

    private static let columns: SQL = "id, name, memory_mb, status, status_reason, host_port, created_at, updated_at"

    private static func write(_ row: Row, host: String, password: String, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.text("name", &row)
        out.member("memory_mb", .int(row.next()))
        out.text("status", &row)
        out.text("status_reason", &row)
        let port: Int = row.next()
        out.member("host", host)
        out.member("port", .int(port))
        out.member("connection_url", "redis://:\(password)@\(host.contains(":") ? "[\(host)]" : host):\(port)/0")
        out.time("created_at", &row)
        out.time("updated_at", &row)
    }

    private struct Draft {
        let name: String
        let memoryMB: Int

        init(_ body: Fields) throws(APIError) {
            var body = body
            let name = body.required("name", .resourceName)
            let memoryMB = body.required("memory_mb", .integer(16...16384))
            guard let name, let memoryMB, body.problems == nil else { throw body.refusal }
            self.name = name
            self.memoryMB = memoryMB
        }
    }

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let rows = try context.commit("select \(columns) from caches where \(page.window)")
        let host = context.config.publicHost
        return .json(page.envelope(rows) { write($0, host: host, password: JSON.mask, to: &$1) })
    }

    private static func create(_ context: Context) throws -> Response {
        let draft = try Draft(context.fields())
        let id = context.newID()
        let sealed = context.config.keyring.seal(Array(KeyText.make(prefix: "").utf8), .cachePassword, of: id)
        try context.send("select check_cache_quota(\(context.config.quota.caches))")
        let known: JSON = ["name": .string(draft.name), "memory_mb": .int(draft.memoryMB)]
        try context.record("cache.created", id, known)
        try context.emit("cache.created", id, known.adding(["status": "CREATING"]))
        try context.enqueue("cache", id)
        let ports = try Instances.pick([PortMapping(host: 0, container: CacheServer.port)], busy: HostPorts.listening(), context)
        let rows = try context.commit(
            """
            with made as (
                insert into caches (id, name, memory_mb, host_port, password_sealed)
                values (\(id), \(draft.name), \(draft.memoryMB), \(ports[0].host), \(sealed)::bytea) returning \(columns)
            ), held as (
                insert into host_ports (cache_id, position, host_port, container_port, is_picked)
                values (\(id), 0, \(ports[0].host), \(ports[0].container), true)
            )
            select * from made
            """, refusals: ["caches_name_taken": .alreadyExists("You have a cache of this name already")])
        let host = context.config.publicHost
        return .created(["data": .written { write(rows[0], host: host, password: JSON.mask, to: &$0) }])
    }

    private static func delete(_ context: Context) throws -> Response {
        let id = try context.id()
        let rows = try context.query(
            """
            update caches set desired = 'DELETED', status = 'TERMINATING', status_reason = null, updated_at = now()
            where id = \(id) returning id
            """)
        guard !rows.isEmpty else { throw APIError.notFound }
        try context.record("cache.deleted", id)
        try context.emit("cache.terminating", id, ["status": "TERMINATING"])
        try context.enqueue("cache", id)
        return .message("Cache is being terminated")
    }
}

// MARK: - What its server knows

extension Caches {
    /// One cache of the caller's with its password. No transaction is open any more.
    private struct Details {
        let id: ID
        /// Begins with `columns`.
        let row: Row
        let owner: ID
        let stack: ID
        let isRunning: Bool
        let password: String

        init(_ context: Context) throws {
            id = try context.id()
            let rows = try context.commit(
                """
                select \(columns), owner_id, (select id from installation), status = 'RUNNING', cache_password(id) from caches
                where id = \(id)
                """)
            guard let row = rows.first else { throw APIError.notFound }
            self.row = row
            var rest = row
            rest.skip(8)
            (owner, stack, isRunning) = (rest.next(), rest.next(), rest.next())
            password = String(decoding: try context.config.keyring.open(rest.next(), .cachePassword, of: id), as: UTF8.self)
        }

        /// Asks the server; `nil` where it is not up.
        func stats(_ context: Context) throws -> JSON? {
            guard isRunning else { return nil }
            let server = CacheServer(try context.engine, container: EngineNames(stack: stack).name("cache", id), password: password)
            return try OwnerSlots.engine.hold(for: owner, limit: context.config.quota.engineWaits) {
                do {
                    return try server.stats()?.adding(["time": .string(context.now.description)])
                } catch EngineError.notFound, EngineError.conflict {
                    return nil
                }
            }
        }
    }

    /// Its statistics are left out where they can't be had just now.
    private static func get(_ context: Context) throws -> Response {
        let cache = try Details(context)
        let stats = try? cache.stats(context)
        let data = JSON.written { out in
            write(cache.row, host: context.config.publicHost, password: cache.password, to: &out)
            out.member("stats", stats ?? .null)
        }
        return Response.json(["data": data]).withSecret
    }

    private static func stats(_ context: Context) throws -> Response {
        guard let stats = try Details(context).stats(context) else { throw APIError.conflict("The cache is not running") }
        return .json(["data": stats])
    }
}
