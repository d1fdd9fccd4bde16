// How PostgreSQL finds what the busiest requests ask for, in a database with many owners: by index, never by reading a whole table.
// auto_explain is not needed: the statements are those of the routes, explained as thecloud_api with a principal. What is one resource's
// (its rows, its lists, its statements) stands in an extension of its own.
import HTTP
import Postgres
import TestSupport
import Testing

/// What a resource has in the database of these tests.
struct Crowd: Sendable {
    /// What fills its tables, once everything above it in `PlanTests.crowds` is there.
    let rows: [SQL]
    /// Those tables.
    let tables: [String]
    /// Its lists, as far as their `where`; Page adds a window to them.
    var lists: [String] = []
}

@Suite(.serialized)
struct PlanTests {
    private static let crowds = [
        people, instances, runs, webhooks, servers, chat, queues, topics, vpcs, volumes, caches, functions, loadBalancers, scalingGroups,
    ]

    static let crowd: Result<(TestDatabase, Owner), any Error> = Result {
        let database = try TestDatabase.fresh("crowd")
        let cloud = try TestCloud(database: database)
        let owner = try cloud.newOwner()
        for rows in crowds.flatMap(\.rows) { try cloud.admin(rows) }
        for table in crowds.flatMap(\.tables) { try cloud.admin("analyze \(verbatim: table)") }
        for number in 1...12 {
            _ = cloud.call(.post, "/instances", key: owner.key, json: ["name": .string("web-\(number)"), "image": "nginx"])
            _ = cloud.call(.post, "/api/v1/runs", key: owner.key, json: ["name": .string("run-\(number)"), "config": [:]])
        }
        return (database, owner)
    }

    /// The kinds of nodes of a plan, with what they read.
    func nodes(_ statement: SQL, owner: Bool = true) throws -> [String] {
        let (database, someone) = try Self.crowd.get()
        let transaction = try Connection(url: database.api).begin()
        if owner { try transaction.send("select set_config('thecloud.owner', \(someone.id), true)") }
        let text: String? = try transaction.query("explain (format json) \(statement)").scalar()
        transaction.rollback()
        var found: [String] = []
        func walk(_ node: JSON) {
            if let kind = node["Node Type"]?.string {
                found.append([kind, node["Index Name"]?.string ?? node["Relation Name"]?.string ?? ""].joined(separator: " "))
            }
            for child in node["Plans"]?.array ?? [] { walk(child) }
        }
        if let plan = try JSON(parsing: Array((text ?? "").utf8))[0]?["Plan"] { walk(plan) }
        return found
    }

    /// The statements of these lists are what the routes send; `window` is what Page adds to them.
    @Test(arguments: crowds.flatMap(\.lists))
    func listsGoByIndex(list: String) throws {
        let (table, condition) = list.contains(" where ") ? (list, "and") : (list, "where")
        let older = "id < '01890000-0000-7000-8000-000000000000'"
        for page in ["true", older] {
            let found = try nodes(
                "select id, owner_id from \(verbatim: table) \(verbatim: condition) \(verbatim: page) order by id desc limit 51")
            #expect(!found.isEmpty && !found.contains { $0.hasPrefix("Seq Scan") || $0.hasPrefix("Sort") }, "\(found)")
        }
    }

    @Test func oneObjectIsFoundByIndex() throws {
        for table in ["api_keys", "instances", "runs"] {
            let found = try nodes("select id from \(verbatim: table) where id = '01890000-0000-7000-8000-000000000000'")
            #expect(found.contains { $0.hasPrefix("Index") } && !found.contains { $0.hasPrefix("Seq Scan") }, "\(found)")
        }
    }

    /// Not what a plan says but what happened: no whole table was read by the requests themselves.
    @Test func theRoutesThemselvesReadNoWholeTable() throws {
        let (database, owner) = try Self.crowd.get()
        let cloud = try TestCloud(database: database)
        func scans() throws -> [Int] {
            try cloud.admin(
                """
                select coalesce(array_agg(seq_scan order by relname), '{}') from pg_stat_user_tables
                where relname in ('users', 'api_keys', 'instances', 'audit_log', 'login_attempts', 'runs')
                """
            ).scalar([Int].self) ?? []
        }
        _ = cloud.call(.get, "/auth/me", key: owner.key)
        try cloud.admin("select pg_stat_clear_snapshot()")
        let before = try scans()
        #expect(before.count == 6)
        let runs = [
            "", "?page=2&limit=5", "?search=RUN-1&status=pending", "?sort_by=name", "?sort_by=status&sort_order=asc", "/filter-options",
        ]
        .map { "/api/v1/runs" + $0 }
        for path in ["/auth/keys", "/instances", "/instances?limit=3", "/auth/audit", "/auth/me", "/auth/me/role"] + runs {
            #expect(cloud.call(.get, path, key: owner.key).status == 200)
        }
        _ = try cloud.login(owner.email, owner.password)
        #expect(cloud.call(.post, "/auth/login", json: ["email": .string(owner.email), "password": "wrong password"]).status == 401)
        // A backend reports its numbers when it is idle or ends.
        cloud.connection.close()
        let quiet = try database.administrator().begin()
        while try quiet.query(
            "select 1 from pg_stat_activity where datname = current_database() and usename = 'thecloud_api'"
        ).isEmpty == false {}
        try quiet.commit()
        try cloud.admin("select pg_stat_clear_snapshot()")
        #expect(try scans() == before)
    }
}
