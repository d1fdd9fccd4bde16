// Facts of the schema, read from pg_catalog, so that a new table is covered without edits: row-level security enabled and forced,
// composite references between owned tables, secrets that workers can't read, functions that can't be borrowed.
import Crypto
import HTTP
import Postgres
import TestSupport
import Testing

struct SchemaTests {
    let cloud: TestCloud

    init() throws { cloud = try TestCloud() }

    /// The first column of what must be an empty list: the offenders.
    private func offenders(_ sql: SQL) throws -> [String] {
        try cloud.admin(sql).map { row in
            var row = row
            return row.next(String.self)
        }
    }

    /// Tables whose rows belong to somebody.
    private static let owned: SQL =
        """
        (select c.oid, c.relname::text as name, c.relrowsecurity, c.relforcerowsecurity from pg_class c
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and (c.relname = 'users' or exists (
            select from pg_attribute a where a.attrelid = c.oid and a.attname = 'owner_id' and not a.attisdropped)))
        """

    @Test func thereAreOwnedTables() throws {
        let names = try offenders("select name from \(Self.owned) t order by name")
        #expect(
            Set(names).isSuperset(of: [
                "api_keys", "audit_log", "idempotency_keys", "instances", "host_ports", "networks", "refresh_tokens", "sessions",
                "users",
            ]))
    }

    @Test func rowLevelSecurityIsEnabledAndForced() throws {
        #expect(try offenders("select name from \(Self.owned) t where not (relrowsecurity and relforcerowsecurity)") == [])
    }

    @Test func policiesExistOnlyForTheNamedRoles() throws {
        #expect(
            try offenders(
                """
                select format('%s: %s for %s', p.polrelid::regclass, p.polname, r.name) from pg_policy p
                cross join lateral (select coalesce(r::regrole::text, '') as name from unnest(p.polroles) r) r
                where r.name not in ('thecloud_api', 'thecloud_auth', 'thecloud_cron', 'thecloud_owner')
                """) == [])
        // Only those who work for everybody see everything; a worker's policy always asks who the transaction is for.
        #expect(
            try offenders(
                """
                select format('%s: %s', p.polrelid::regclass, p.polname) from pg_policy p
                where 'thecloud_api'::regrole = any (p.polroles) and p.polpermissive
                and concat(pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) not like '%current_owner()%'
                """) == [])
        // Restrictive ones narrow it further down, for clients' users.
        #expect(
            try offenders(
                """
                select format('%s: %s', p.polrelid::regclass, p.polname) from pg_policy p where not p.polpermissive
                and not (p.polname = 'of_the_member' and pg_get_expr(p.polqual, p.polrelid) like '(current_member() IS NULL%')
                and not (p.polname = 'of_the_member' and pg_get_expr(p.polqual, p.polrelid) like '((current_member() IS NULL)%')
                """) == [])
        #expect(
            try offenders(
                """
                select format('%s for %s', t.name, r) from \(Self.owned) t
                cross join unnest(array['thecloud_auth', 'thecloud_cron', 'thecloud_owner']) r
                where not exists (select from pg_policy p where p.polrelid = t.oid and r::regrole = any (p.polroles))
                """) == [], "without a policy, forced security would hide the rows from those who work for everybody")
    }

    @Test func referencesBetweenOwnedTablesAreComposite() throws {
        #expect(
            try offenders(
                """
                select format('%s of %s', k.conname, k.conrelid::regclass) from pg_constraint k
                where k.contype = 'f' and exists (select from \(Self.owned) t where t.oid = k.conrelid and t.name <> 'users')
                and exists (select from \(Self.owned) t where t.oid = k.confrelid and t.name <> 'users')
                and not exists (
                    select from unnest(k.conkey, k.confkey) as pair (here, there)
                    join pg_attribute a on a.attrelid = k.conrelid and a.attnum = pair.here and a.attname = 'owner_id'
                    join pg_attribute b on b.attrelid = k.confrelid and b.attnum = pair.there and b.attname = 'owner_id')
                """) == [])
    }

    /// A column that is called like a reference must be one: a bare uuid would take a stranger's id.
    @Test func whatIsCalledLikeAReferenceIsOne() throws {
        let known = [
            "audit_log.actor_id", "audit_log.credential_id", "audit_log.resource_id", "events.resource_id",
            "idempotency_keys.credential_id",
            // What was sent under a name is remembered longer than the message lives.
            "queue_dedup.message_id",
            // A socket outlives what it belonged to, until it has been closed.
            "sockets.credential_id", "sockets.member_id", "sockets.server_id",
            // A delivery outlives its event.
            "webhook_deliveries.event_id",
        ]
        let bare = try offenders(
            """
            select t.name || '.' || a.attname from \(Self.owned) t join pg_attribute a on a.attrelid = t.oid and not a.attisdropped
            where a.attname like '%\\_id' and a.attname <> 'owner_id' and a.atttypid = 'uuid'::regtype
            and not exists (select from pg_constraint k where k.conrelid = t.oid and k.contype = 'f' and a.attnum = any (k.conkey))
            order by 1
            """)
        #expect(bare == known, "a new one is either a foreign key, or stands in this list with a reason")
    }

    @Test func workersCannotReadHashes() throws {
        #expect(
            try offenders(
                """
                select a.attrelid::regclass || '.' || a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid
                where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped
                and (a.attname ~ 'hash|password|token|sealed') and a.atttypid <> 'timestamptz'::regtype
                and has_column_privilege('thecloud_api', a.attrelid, a.attnum, 'select')
                """) == [])
        for column in ["users.password_hash", "api_keys.key_hash", "password_resets.token_hash", "refresh_tokens.token_hash"] {
            let parts = column.split(separator: ".")
            let answer = Result {
                try cloud.connection.begin().commit("select \(verbatim: String(parts[1])) from \(verbatim: String(parts[0]))")
            }
            guard case .failure(let error as DatabaseError) = answer, error.state == "42501" else {
                Issue.record("\(column) can be read")
                continue
            }
        }
        #expect(
            try cloud.admin(
                "select has_table_privilege('thecloud_api', 'login_attempts', 'select') or has_any_column_privilege('thecloud_api', 'password_resets', 'select')"
            ).scalar(Bool.self) == false)
    }

    @Test func definersFunctionsCannotBeBorrowed() throws {
        let functions: SQL = "(select * from pg_proc where proowner = 'thecloud_auth'::regrole)"
        #expect(try offenders("select proname::text from \(functions) f where not prosecdef") == [])
        #expect(
            try offenders(
                """
                select proname::text from \(functions) f
                where coalesce(array_to_string(proconfig, ';'), '') !~ 'search_path=pg_catalog, public'
                """) == [])
        #expect(
            try offenders(
                "select proname::text from \(functions) f, aclexplode(coalesce(proacl, acldefault('f', proowner))) where grantee = 0")
                == [])
        // The operator's way in is not the workers'.
        #expect(
            try offenders(
                "select r from unnest(array['thecloud_api', 'thecloud_cron']) r where has_function_privilege(r, 'operator_grant_role(text, text)', 'execute')"
            ) == [])
        // Nobody but the auth role defines functions that run with more rights than their caller's.
        #expect(
            try offenders(
                """
                select proname::text from pg_proc where prosecdef and proowner <> 'thecloud_auth'::regrole
                and pronamespace = 'public'::regnamespace
                """) == [])
    }

    @Test func workersOwnNothingAndBypassNothing() throws {
        #expect(
            try offenders(
                """
                select rolname::text from pg_roles where rolname in ('thecloud_api', 'thecloud_cron', 'thecloud_auth', 'thecloud_owner')
                and (rolbypassrls or rolsuper or rolcreaterole or rolcreatedb or rolreplication)
                """) == [])
        #expect(
            try offenders(
                """
                select relname::text from pg_class where relowner in ('thecloud_api'::regrole, 'thecloud_cron'::regrole)
                union all select proname::text from pg_proc where proowner in ('thecloud_api'::regrole, 'thecloud_cron'::regrole)
                union all select nspname::text from pg_namespace where nspowner in ('thecloud_api'::regrole, 'thecloud_cron'::regrole)
                """) == [])
        #expect(
            try offenders(
                """
                select roleid::regrole::text from pg_auth_members where member in ('thecloud_api'::regrole, 'thecloud_cron'::regrole)
                """) == [], "they are members of no other role")
        #expect(
            try offenders(
                """
                select r from unnest(array['thecloud_api', 'thecloud_cron']) r where has_schema_privilege(r, 'public', 'create')
                or has_database_privilege(r, current_database(), 'create')
                """) == [])
    }

    /// Rows of somebody exist in each of them; without a principal a worker sees none.
    @Test func withoutAPrincipalThereIsNoRow() throws {
        let owner = try cloud.newOwner()
        let made = cloud.call(
            .post, "/instances", key: owner.key, json: ["name": "web", "image": "nginx", "ports": "0:80"], headers: ["Idempotency-Key": "k"]
        )
        #expect(made.status == 201)
        #expect(
            cloud.call(.post, "/api/v1/auth/login", json: ["email": .string(owner.email), "password": .string(owner.password)]).status
                == 200)
        let member = try cloud.newMember()
        let room = try cloud.newRoom(of: member, joinedBy: [member])
        #expect(cloud.call(.post, "/api/v1/messages", key: member.key, json: ["room_id": .string(room), "content": "hello"]).status == 201)
        let notification: JSON = ["type": "websocket", "user_id": .string(member.memberID ?? ""), "content": "news"]
        #expect(cloud.call(.post, "/api/v1/notifications", key: member.master, json: notification).status == 201)
        try cloud.admin("insert into servers (id, owner_id, name, host) values (new_id(), \(owner.id)::uuid, 'a', 'b')")
        #expect(cloud.call(.post, "/api/v1/runs", key: owner.key, json: ["name": "run", "config": [:]]).status == 201)
        try cloud.admin("insert into events (id, owner_id, type) values (new_id(), \(owner.id)::uuid, 'a.b')")
        #expect(
            cloud.call(.post, "/api/v1/webhooks", key: owner.key, json: ["url": "https://hooks.example/"]).status == 201)
        try cloud.admin(
            """
            insert into webhook_deliveries (id, owner_id, webhook_id, event_id, event_type, body)
            select new_id(), owner_id, id, new_id(), 'a.b', '{}' from webhooks where owner_id = \(owner.id)::uuid
            """)
        try cloud.admin(
            """
            with s as (select owner_id, id from servers where owner_id = \(owner.id)::uuid),
            m as (insert into server_metrics (id, owner_id, server_id, cpu_percent, memory_percent, reported_at)
                select new_id(), owner_id, id, 1, 1, now() from s)
            insert into commands (id, owner_id, server_id, command) select new_id(), owner_id, id, 'uptime' from s
            """)
        let job = cloud.call(
            .post, "/cron", key: owner.key, json: ["name": "c", "schedule": "@daily", "target_url": "https://hooks.example/in"])
        #expect(cloud.call(.post, "/cron/\(job["data"]?["id"]?.string ?? "")/run", key: owner.key).status == 202)
        #expect(
            cloud.call(.post, "/routes", key: owner.key, json: ["name": "r", "prefix": "/r", "target": "https://hooks.example"]).status
                == 201)
        let queue = cloud.call(.post, "/queues", key: owner.key, json: ["name": "q"])["data"]?["id"]?.string ?? ""
        #expect(cloud.call(.post, "/queues/\(queue)/messages", key: owner.key, json: ["body": "a", "dedup_id": "d"]).status == 201)
        let topic = cloud.call(.post, "/topics", key: owner.key, json: ["name": "t"])["data"]?["id"]?.string ?? ""
        let subscription: JSON = ["topic_id": .string(topic), "protocol": "queue", "endpoint": .string(queue)]
        #expect(cloud.call(.post, "/subscriptions", key: owner.key, json: subscription).status == 201)
        #expect(cloud.call(.post, "/topics/\(topic)/publish", key: owner.key, json: ["message": "m"]).status == 201)
        let vpc = cloud.call(.post, "/vpcs", key: owner.key, json: ["name": "v", "cidr_block": "10.0.0.0/28"])["data"]?["id"] ?? .null
        let subnet: JSON = ["name": "s", "cidr_block": "10.0.0.0/29"]
        #expect(cloud.call(.post, "/vpcs/\(vpc.string ?? "")/subnets", key: owner.key, json: subnet).status == 201)
        let inside = cloud.call(.post, "/instances", key: owner.key, json: ["name": "i", "image": "nginx", "vpc_id": vpc])["data"]?["id"]
        let balancer: JSON = ["name": "b", "vpc_id": vpc, "port": .int(try cloud.freePort())]
        let balancerID = cloud.call(.post, "/loadbalancers", key: owner.key, json: balancer)["data"]?["id"]?.string ?? ""
        let target: JSON = ["instance_id": inside ?? .null, "port": 80]
        #expect(cloud.call(.post, "/loadbalancers/\(balancerID)/targets", key: owner.key, json: target).status == 201)
        let group: JSON = ["name": "g", "vpc_id": vpc, "image": "nginx", "min_instances": 0, "max_instances": 1, "desired_count": 0]
        let groupID = cloud.call(.post, "/autoscaling/groups", key: owner.key, json: group)["data"]?["id"]?.string ?? ""
        let policy: JSON = ["metric": "cpu", "target": 50]
        #expect(cloud.call(.post, "/autoscaling/groups/\(groupID)/policies", key: owner.key, json: policy).status == 201)
        #expect(cloud.call(.post, "/volumes", key: owner.key, json: ["name": "v", "size_gb": 1]).status == 201)
        #expect(cloud.call(.post, "/caches", key: owner.key, json: ["name": "c", "memory_mb": 16]).status == 201)
        let zip = Base64.standard.padded(ZipMaker(["index.js": "exports.handler = () => 1;"]).bytes)
        let function = cloud.call(
            .post, "/functions", key: owner.key, json: ["name": "f", "runtime": "nodejs20", "code_zip": .string(zip)])
        let functionID = function["data"]?["id"]?.string ?? ""
        #expect(cloud.call(.post, "/functions/\(functionID)/invoke", key: owner.key, json: ["async": true]).status == 202)
        let tables = try offenders(
            "select name from \(Self.owned) t where has_any_column_privilege('thecloud_api', t.oid, 'select') order by name")
        #expect(tables.count >= 6)
        for table in tables {
            let filled = try cloud.admin("select exists (select from \(verbatim: table))").scalar(Bool.self)
            #expect(filled == true, "the test must put a row into \(table), or it proves nothing")
            #expect(try cloud.connection.begin().commit("select 1 from \(verbatim: table)").isEmpty, "\(table)")
        }
    }

    /// With somebody else's principal there are only somebody else's rows, and none can be made for a third.
    @Test func withAPrincipalThereAreOnlyItsRows() throws {
        let (owner, other) = (try cloud.newOwner(), try cloud.newOwner())
        #expect(cloud.call(.post, "/instances", key: other.key, json: ["name": "web", "image": "nginx", "ports": "0:80"]).status == 201)
        let tables = try offenders(
            """
            select name from \(Self.owned) t where has_any_column_privilege('thecloud_api', t.oid, 'select') and name <> 'users'
            and exists (select from pg_attribute a where a.attrelid = t.oid and a.attname = 'owner_id'
                and has_column_privilege('thecloud_api', t.oid, a.attnum, 'select'))
            """)
        for table in tables {
            let transaction = try cloud.connection.begin()
            try transaction.send("select set_config('thecloud.owner', \(owner.id), true)")
            let foreign = try transaction.query("select 1 from \(verbatim: table) where owner_id <> \(owner.id)::uuid")
            #expect(foreign.isEmpty, "\(table)")
            transaction.rollback()
        }
        let transaction = try cloud.connection.begin()
        try transaction.send("select set_config('thecloud.owner', \(owner.id), true)")
        do {
            _ = try transaction.commit(
                """
                insert into instances (id, owner_id, name, image, instance_type, cpus, memory_mb)
                values (gen_random_uuid(), \(other.id)::uuid, 'sly', 'nginx', 'nano', 1, 64)
                """)
            Issue.record("a row was made for a stranger")
        } catch {
            #expect(error.state == "42501")
        }
    }
}
