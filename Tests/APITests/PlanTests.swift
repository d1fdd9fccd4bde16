// How PostgreSQL finds what the busiest requests ask for, in a database with many owners: by index, never by reading a whole table.
// auto_explain is not needed: the statements are those of the routes, explained as thecloud_api with a principal.
import Crypto
import HTTP
import Postgres
import TestSupport
import Testing

@Suite(.serialized)
struct PlanTests {
    private static let crowd: Result<(TestDatabase, Owner), any Error> = Result {
        let database = try TestDatabase.fresh("crowd")
        let cloud = try TestCloud(database: database)
        let owner = try cloud.newOwner()
        try cloud.admin(
            """
            insert into users (id, email, email_key, name, password_hash)
            select new_id(), 'c' || n || '@example.com', 'c' || n || '@example.com', 'crowd', 'x' from generate_series(1, 20000) n
            """)
        try cloud.admin(
            """
            insert into api_keys (id, owner_id, name, prefix, key_hash)
            select new_id(), id, 'k', 'thecloud_xxxx', sha256(convert_to(id::text, 'UTF8')) from users where name = 'crowd'
            """)
        try cloud.admin(
            """
            insert into instances (id, owner_id, name, image, instance_type, cpus, memory_mb)
            select new_id(), id, 'web', 'nginx', 'nano', 1, 64 from users where name = 'crowd'
            """)
        try cloud.admin(
            """
            insert into audit_log (id, owner_id, action, resource_type, request_id)
            select new_id(), id, 'auth.login', 'key', 'r' from users where name = 'crowd'
            """)
        // Half of all runs are one owner's: what is right for that one is wrong for everybody else.
        for (who, count) in [("true", 1), ("email = 'c1@example.com'", 20000)] {
            try cloud.admin(
                """
                insert into runs (id, owner_id, name, config) select new_id(), id, 'run ' || n, '{}' from users
                cross join generate_series(1, \(count)::int) n where users.name = 'crowd' and \(verbatim: who)
                """)
        }
        try cloud.admin(
            """
            insert into webhooks (id, owner_id, url, secret_sealed)
            select new_id(), id, 'https://hooks.example/', '\\x00' from users where name = 'crowd'
            """)
        try cloud.admin(
            """
            insert into webhook_deliveries (id, owner_id, webhook_id, event_id, event_type, body)
            select new_id(), owner_id, id, new_id(), 'a.b', '{}' from webhooks
            """)
        try cloud.admin(
            "insert into events (id, owner_id, type, is_published) select new_id(), id, 'a.b', true from users where name = 'crowd'")
        try cloud.admin("insert into servers (id, owner_id, name, host) select new_id(), id, 's', 'h' from users where name = 'crowd'")
        try cloud.admin(
            """
            insert into server_metrics (id, owner_id, server_id, cpu_percent, memory_percent, reported_at)
            select new_id(), owner_id, id, 1, 1, now() from servers, generate_series(1, 3)
            """)
        try cloud.admin(
            "insert into commands (id, owner_id, server_id, command) select new_id(), owner_id, id, 'uptime' from servers")
        try cloud.admin("insert into login_attempts (subject) select id::text from users where name = 'crowd'")
        try cloud.admin(
            "insert into rooms (id, owner_id, name) select new_id(), id, 'r' from users where name = 'crowd'")
        try cloud.admin(
            """
            insert into members (id, owner_id, email, email_key, username)
            select new_id(), id, 'm@example.com', 'm@example.com', 'm' from users where name = 'crowd'
            """)
        try cloud.admin(
            """
            insert into participants (owner_id, room_id, member_id)
            select r.owner_id, r.id, m.id from rooms r join members m on m.owner_id = r.owner_id
            """)
        try cloud.admin(
            """
            insert into messages (id, owner_id, room_id, member_id, content)
            select new_id(), p.owner_id, p.room_id, p.member_id, 'hello' from participants p, generate_series(1, 3)
            """)
        // One queue holds many messages, most of them not visible; most queues hold few.
        try cloud.admin(
            """
            insert into queues (id, owner_id, name, visibility_timeout, delay, retention)
            select new_id(), id, 'q', 30, 0, 345600 from users where name = 'crowd'
            """)
        for (who, count) in [("true", 2), ("email = 'c1@example.com'", 50000)] {
            try cloud.admin(
                """
                insert into queue_messages (id, owner_id, queue_id, body, visible_at, receipt)
                select new_id(), q.owner_id, q.id, 'payload-data', now() + (n % 10) * interval '1 hour', new_id() from queues q
                join users u on u.id = q.owner_id cross join generate_series(1, \(count)::int) n where \(verbatim: who)
                """)
        }
        try cloud.admin(
            """
            insert into topics (id, owner_id, name) select new_id(), id, 't' from users where name = 'crowd'
            """)
        try cloud.admin(
            """
            insert into subscriptions (id, owner_id, topic_id, protocol, endpoint, secret_sealed)
            select new_id(), owner_id, id, 'webhook', 'https://hooks.example/', '\\x00' from topics
            """)
        for table in [
            "queues", "queue_messages", "topics", "subscriptions", "users", "api_keys", "instances", "audit_log", "login_attempts", "runs",
            "webhooks", "webhook_deliveries", "events", "servers", "server_metrics", "commands", "rooms",
            "members", "participants", "messages",
        ] { try cloud.admin("analyze \(verbatim: table)") }
        for number in 1...12 {
            _ = cloud.call(.post, "/instances", key: owner.key, json: ["name": .string("web-\(number)"), "image": "nginx"])
            _ = cloud.call(.post, "/api/v1/runs", key: owner.key, json: ["name": .string("run-\(number)"), "config": [:]])
        }
        return (database, owner)
    }

    /// The kinds of nodes of a plan, with what they read.
    private func nodes(_ statement: SQL, owner: Bool = true) throws -> [String] {
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
    @Test(arguments: [
        "api_keys", "instances", "queues", "topics", "subscriptions", "rooms", "members", "notifications",
        "audit_log where owner_id = current_owner() and true", "webhooks",
        "webhook_deliveries where webhook_id = '01890000-0000-7000-8000-000000000000'", "servers",
        "server_metrics where server_id = '01890000-0000-7000-8000-000000000000'",
        "commands where server_id = '01890000-0000-7000-8000-000000000000'",
    ])
    func listsGoByIndex(list: String) throws {
        let (table, condition) = list.contains(" where ") ? (list, "and") : (list, "where")
        let older = "id < '01890000-0000-7000-8000-000000000000'"
        for page in ["true", older] {
            let found = try nodes(
                "select id, owner_id from \(verbatim: table) \(verbatim: condition) \(verbatim: page) order by id desc limit 51")
            #expect(!found.isEmpty && !found.contains { $0.hasPrefix("Seq Scan") || $0.hasPrefix("Sort") }, "\(found)")
        }
    }

    /// A room's history for a client, and for a user, whose policy looks for its seat; and the rooms that a user has joined.
    @Test(arguments: [false, true])
    func chatGoesByIndex(isMember: Bool) throws {
        let (database, _) = try Self.crowd.get()
        var row = try #require(
            try database.administrator().begin().commit(
                "select p.owner_id::text, p.room_id::text, p.member_id::text from participants p limit 1 offset 7000"
            ).first)
        let (owner, room, member): (String, String, String) = (row.next(), row.next(), row.next())
        let statements: [SQL] = [
            """
            select m.id, u.username, m.content from messages m left join members u on u.id = m.member_id
            where m.room_id = \(room)::uuid and m.id < '02890000-0000-7000-8000-000000000000' order by m.id desc limit 51 offset 0
            """,
            """
            (select id, name from rooms where current_member() is null and true order by id desc limit 51) union all
            (select id, name from (select p.room_id as id, r.name from participants p join rooms r on r.id = p.room_id
                where p.member_id = current_member()) seats where true order by id desc limit 51)
            """,
        ]
        for statement in statements {
            let transaction = try Connection(url: database.api).begin()
            try transaction.send(
                "select set_config('thecloud.owner', \(owner), true), set_config('thecloud.member', \(isMember ? member : ""), true)")
            let plan: String = try transaction.query("explain (format json) \(statement)").scalar() ?? ""
            transaction.rollback()
            #expect(plan.contains("Index") && !plan.contains("Seq Scan") && !plan.contains("\"Sort\""), "\(plan)")
        }
    }

    @Test func oneObjectIsFoundByIndex() throws {
        for table in ["api_keys", "instances", "runs"] {
            let found = try nodes("select id from \(verbatim: table) where id = '01890000-0000-7000-8000-000000000000'")
            #expect(found.contains { $0.hasPrefix("Index") } && !found.contains { $0.hasPrefix("Seq Scan") }, "\(found)")
        }
    }

    /// What functions look up is asked as their owner, because workers can't read these columns.
    @Test(arguments: [
        "select a.owner_id from api_keys a join users u on u.id = a.owner_id where a.key_hash = '\\x00'",
        "select u.id, u.password_hash from users u where u.email_key = 'c77@example.com'",
        "select u.id, u.password_hash from users u where u.username_key = 'c77'",
        "select r.session_id from refresh_tokens r where r.token_hash = '\\x00'",
        """
        select a.role from sessions a where a.owner_id = '01890000-0000-7000-8000-000000000000'
        and a.id = '01890000-0000-7000-8000-000000000000' and a.expires_at > now()
        """,
        "select * from login_attempts where subject = 'x' for update", "select 1 from password_resets where token_hash = '\\x00'",
    ])
    func lookUpsOfFunctionsGoByIndex(statement: String) throws {
        let (database, _) = try Self.crowd.get()
        let transaction = try database.administrator().begin()
        try transaction.send("select set_config('role', 'thecloud_auth', true)")
        let text: String? = try transaction.query("explain (format json) \(verbatim: statement)").scalar()
        transaction.rollback()
        #expect(text?.contains("Index") == true && text?.contains("Seq Scan") == false, "\(text ?? "")")
    }

    /// What thecloud-cron asks for one delivery, and for an event that nobody's webhook waits for.
    @Test(arguments: [
        """
        select d.body from webhook_deliveries d join webhooks w on w.owner_id = d.owner_id and w.id = d.webhook_id
        where d.id = '01890000-0000-7000-8000-000000000000' and d.status = 'PENDING'
        """,
        """
        update webhook_deliveries d set status = 'FAILED', next_attempt_at = null, finished_at = now() from webhooks w
        where w.owner_id = '01890000-0000-7000-8000-000000000000' and w.id = '01890000-0000-7000-8000-000000000000' and not w.is_active
        and d.owner_id = w.owner_id and d.webhook_id = w.id and d.status = 'PENDING'
        """,
        """
        select w.id from events e join webhooks w on w.owner_id = e.owner_id
        where e.id = any ('{01890000-0000-7000-8000-000000000000,01890000-0000-7000-8000-000000000001}') and w.is_active
        """,
    ])
    func deliveriesGoByIndex(statement: String) throws {
        let (database, _) = try Self.crowd.get()
        let transaction = try Connection(url: database.cron).begin()
        let text: String? = try transaction.query("explain (format json) \(verbatim: statement)").scalar()
        transaction.rollback()
        #expect(text?.contains("Index") == true && text?.contains("Seq Scan") == false, "\(text ?? "")")
    }

    /// The statements of a queue's messages and of the functions that they call, for the owner of the biggest queue; and the one index that
    /// each has to go by: any other would read the whole queue.
    @Test(arguments: [
        (
            """
            select m.id from queue_messages m where m.queue_id = $1::uuid and m.visible_at <= now() order by m.visible_at limit $2::int
            for update skip locked
            """, "queue_messages_due"
        ),
        ("update queue_messages m set receive_count = $2::int where m.id = any (array[$1::uuid, $1::uuid])", "queue_messages_pkey"),
        ("delete from queue_messages m where m.id = any (($1::uuid || array[]::uuid[])[1:$2::int])", "queue_messages_pkey"),
        (
            """
            delete from queue_messages where id = $1::uuid and (queue_id = $1::uuid) is true and receipt = $1::uuid and $2::int > 0
            """, "queue_messages_pkey"
        ),
        (
            """
            select m.visible_at from queue_messages m where m.queue_id = $1::uuid and m.visible_at > now() order by m.visible_at limit $2::int
            """, "queue_messages_due"
        ),
        ("select count(*) from queue_messages m where m.queue_id = $1::uuid and $2::int > 0", "queue_messages_due"),
        ("select id from queue_messages where queue_id = $1::uuid order by visible_at limit $2::int", "queue_messages_due"),
    ])
    func queuesGoByIndex(statement: String, index: String) throws {
        let (database, _) = try Self.crowd.get()
        var row = try #require(
            try database.administrator().begin().commit(
                "select q.owner_id::text, q.id::text from queues q join users u on u.id = q.owner_id where u.email = 'c1@example.com'"
            ).first)
        let (owner, queue): (String, String) = (row.next(), row.next())
        let transaction = try Connection(url: database.api).begin()
        try transaction.send("select set_config('thecloud.owner', \(owner), true)")
        // As kept statements are planned: for nobody in particular.
        try transaction.send("prepare asked (uuid, int) as \(verbatim: statement)")
        let plan: String = try transaction.query("explain (format json) execute asked (\(verbatim: "'\(queue)'"), 10)").scalar() ?? ""
        transaction.rollback()
        let used = plan.matches(of: /"Index Name": "([a-z_]+)"/).map { String($0.1) }
        #expect(used == [index] && !plan.contains("Seq Scan") && !plan.contains("\"Sort\""), "\(plan)")
    }

    /// What is received costs the same however many messages there are, and however many of them are not visible.
    @Test func aReceiveReadsNoMoreThanItHandsOut() throws {
        let (database, _) = try Self.crowd.get()
        var row = try #require(
            try database.administrator().begin().commit(
                "select q.owner_id::text, q.id::text from queues q join users u on u.id = q.owner_id where u.email = 'c1@example.com'"
            ).first)
        let (owner, queue): (String, String) = (row.next(), row.next())
        let transaction = try Connection(url: database.api).begin()
        try transaction.send("select set_config('thecloud.owner', \(owner), true)")
        #expect(try transaction.query("select id from receive_messages(\(queue)::uuid, 10, false)").count == 10)
        let read: Int? = try transaction.query(
            "select (idx_tup_fetch + seq_tup_read)::int from pg_stat_xact_user_tables where relname = 'queue_messages'"
        ).scalar()
        transaction.rollback()
        #expect((read ?? .max) <= 40, "\(read ?? -1)")
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
