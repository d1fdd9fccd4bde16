// /routes: which paths of an owner's gateway lead to which target. Tables: routes, gateways (one for each owner, made with the first route).
// The traffic itself is judged in Gateway.swift. A target's name is resolved by Sources/Jobs/GatewayTarget.swift; an address needs no resolving.
import API
import Crypto
import HTTP
import Identity
import Outbound
import Postgres

enum GatewayRoutes {
    static let routes: [Route] = [
        .get("/routes", .permission(.routeRead), list),
        .create("/routes", .permission(.routeCreate), create),
        .get("/routes/:id", .permission(.routeRead), get),
        .put("/routes/:id", .permission(.routeUpdate), update),
        .delete("/routes/:id", .permission(.routeDelete), delete),
    ]

    private static let columns: SQL =
        """
        id, name, prefix, target, strip_prefix, methods, (select g.id from gateways g) as gateway, status, status_reason, created_at, updated_at
        """

    private static func write(_ row: Row, to out: inout JSONWriter, base: String) {
        var row = row
        out.id("id", &row)
        out.text("name", &row)
        let prefix: String = row.next()
        out.member("prefix", prefix)
        out.text("target", &row)
        out.member("strip_prefix", .bool(row.next(Bool.self)))
        out.texts("methods", &row)
        out.member("url", base + row.next(String.self) + prefix)
        out.text("status", &row)
        out.text("status_reason", &row)
        out.time("created_at", &row)
        out.time("updated_at", &row)
    }

    private static func json(_ row: Row, _ context: Context) -> JSON {
        ["data": .written { write(row, to: &$0, base: base(context)) }]
    }

    /// What stands before the gateway's id in URLs.
    private static func base(_ context: Context) -> String {
        let url = context.config.publicURL
        return (url.hasSuffix("/") ? String(url.dropLast()) : url) + GatewayRequest.path
    }

    private struct Draft {
        let name: String
        let prefix: String
        let target: Target
        let stripsPrefix: Bool
        let methods: [String]

        init(_ body: Fields, _ egress: EgressRule) throws(APIError) {
            var body = body
            let name = body.required("name", .resourceName)
            let prefix = body.required("prefix", .prefix)
            let target = body.required("target", .url).flatMap { body.gatewayTarget($0, egress) }
            stripsPrefix = body.optional("strip_prefix", .flag) ?? false
            methods = body.optional("methods", .methods) ?? []
            guard let name, let prefix, let target, body.problems == nil else { throw body.refusal }
            self.name = name
            self.prefix = prefix
            self.target = target
        }
    }

    private struct Change {
        let name: String?
        let prefix: String?
        let target: Target?
        let stripsPrefix: Bool?
        let methods: [String]?

        init(_ body: Fields, _ egress: EgressRule) throws(APIError) {
            var body = body
            name = body.optional("name", .resourceName)
            prefix = body.optional("prefix", .prefix)
            target = body.optional("target", .url).flatMap { body.gatewayTarget($0, egress) }
            stripsPrefix = body.optional("strip_prefix", .flag)
            methods = body.optional("methods", .methods)
            if !["name", "prefix", "target", "strip_prefix", "methods"].contains(where: body.has) {
                body.report("name", "or prefix, target, strip_prefix or methods is required")
            }
            if let problems = body.problems { throw problems }
        }
    }

    private static let refusals: [String: APIError] = [
        "routes_name_taken": .alreadyExists("You have a route of this name already"),
        "routes_prefix_taken": .alreadyExists("You have a route with this prefix already"),
    ]

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let rows = try context.commit("select \(columns) from routes where \(page.window)")
        let base = base(context)
        return .json(page.envelope(rows) { write($0, to: &$1, base: base) })
    }

    private static func create(_ context: Context) throws -> Response {
        let draft = try Draft(context.fields(), context.config.egress)
        let id = context.newID()
        try context.send("select check_route_quota(\(context.config.quota.routes))")
        try context.send("insert into gateways (id) values (\(GatewayRequest.newID())) on conflict (owner_id) do nothing")
        try context.record("route.created", id, ["name": .string(draft.name), "prefix": .string(draft.prefix)])
        if draft.target.literal == nil { try context.enqueue("gateway_target", id) }
        try context.emit("route.created", id, ["name": .string(draft.name), "prefix": .string(draft.prefix)])
        let rows = try context.commit(
            """
            insert into routes (id, name, prefix, target, strip_prefix, methods, address, status)
            values (\(id), \(draft.name), \(draft.prefix), \(draft.target.url), \(draft.stripsPrefix), \(draft.methods)::text[],
            \(draft.target.literal), \(draft.target.firstStatus)) returning \(columns)
            """, refusals: refusals)
        return .created(json(rows[0], context))
    }

    private static func get(_ context: Context) throws -> Response {
        let rows = try context.commit("select \(columns) from routes where id = \(try context.id())")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(json(row, context))
    }

    /// Another target has no address until its name is resolved.
    private static func update(_ context: Context) throws -> Response {
        let change = try Change(context.fields(), context.config.egress)
        let id = try context.id()
        let target = change.target?.url
        let isSame: SQL = "coalesce(\(target)::text, target) = target"
        let rows = try context.query(
            """
            update routes set name = coalesce(\(change.name), name), prefix = coalesce(\(change.prefix), prefix),
            strip_prefix = coalesce(\(change.stripsPrefix)::boolean, strip_prefix), methods = coalesce(\(change.methods)::text[], methods),
            target = coalesce(\(target), target), updated_at = now(),
            address = case when \(isSame) then address else \(change.target?.literal) end,
            status = case when \(isSame) then status else \(change.target?.firstStatus) end,
            status_reason = case when \(isSame) then status_reason end, failing_since = case when \(isSame) then failing_since end
            where id = \(id) returning \(columns)
            """, refusals: refusals)
        guard let row = rows.first else { throw APIError.notFound }
        if let target = change.target, target.literal == nil { try context.enqueue("gateway_target", id) }
        let told: JSON = ["name": .optional(change.name), "prefix": .optional(change.prefix)]
        try context.record("route.updated", id, told.adding(["target_changed": .bool(change.target != nil)]))
        try context.emit("route.updated", id, from: event(id))
        return .json(json(row, context))
    }

    private static func delete(_ context: Context) throws -> Response {
        let id = try context.id()
        try context.emit("route.deleted", id, from: event(id))
        guard try context.query("delete from routes where id = \(id)").affected == 1 else { throw APIError.notFound }
        try context.record("route.deleted", id)
        return .message("Route deleted")
    }

    private static func event(_ id: ID) -> SQL {
        "select jsonb_build_object('name', name, 'prefix', prefix) from routes where id = \(id)"
    }
}

extension Target {
    /// The address that it is written with; `nil` for a name.
    fileprivate var literal: String? { if case .address(let address) = host { address.addressText } else { nil } }

    fileprivate var firstStatus: String { literal == nil ? "PENDING" : "ACTIVE" }
}

extension Fields {
    /// - Returns: `nil` for what was reported: paths of requests are joined to a target's, so it can have neither query nor fragment;
    ///   and nginx holds certificates against names only.
    fileprivate mutating func gatewayTarget(_ url: String, _ egress: EgressRule) -> Target? {
        guard let target = target("target", url, egress) else { return nil }
        if !GatewayRequest.isPath(target.rest) {
            report("target", "must end with its host, port or path: it has no query, no fragment and no dot segments")
        } else if target.isSecure, target.literal != nil {
            report("target", "must have a host name for https, because certificates are checked by name")
        } else {
            return target
        }
        return nil
    }
}

extension Rule where Value == String {
    /// What a URL is made of is told by `Fields.target`.
    fileprivate static let url = Rule("must be an http or https URL") { $0.string }

    fileprivate static let prefix = Rule(
        "must be an absolute path of 1–256 letters, digits, '-', '.', '_', '~' and '/', without empty or dot segments and without '/' at its end"
    ) { json in
        guard let text = json.string, text.hasPrefix("/"), text.utf8.count <= 256 else { return nil }
        let segments = text.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
        let isNormal = segments.allSatisfy { !["", ".", ".."].contains($0) && $0.utf8.allSatisfy(GatewayRequest.isUnreserved) }
        return text == "/" || isNormal ? text : nil
    }
}

extension Rule where Value == [String] {
    /// HEAD comes with GET. What nginx refuses is none.
    fileprivate static let methods = Rule(
        "must be a list of at most 20 HTTP methods such as GET, without TRACE and CONNECT; an empty one means all others"
    ) { json in
        guard let items = json.array, items.count <= 20 else { return nil }
        let methods = items.compactMap(\.string).filter { $0.wholeMatch(of: /[A-Z]{1,20}/) != nil && !["TRACE", "CONNECT"].contains($0) }
        return methods.count == items.count ? methods : nil
    }
}

extension Rule where Value == Bool {
    fileprivate static let flag = Rule("must be true or false") { json in if case .bool(let flag) = json { flag } else { nil } }
}
