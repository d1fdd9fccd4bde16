// Functions and their invocations.
import Postgres
import TestSupport
import Testing

extension PlanTests {
    static let functions = Crowd(
        rows: [
            """
            insert into functions (id, owner_id, name, runtime, handler, timeout_seconds, memory_mb, version, code_sha256, code_size,
            unpacked_size, file_count)
            select new_id(), id, 'f', 'nodejs20', 'index.handler', 30, 128, gen_random_uuid(), '', 1, 1, 1 from users where name = 'crowd'
            """,
            // Most owners asked a few times, one very often.
            invocations(1, "true"), invocations(20000, "email = 'c1@example.com'"),
        ],
        tables: ["functions", "invocations"],
        lists: [
            "functions",
            "invocations where function_id = '01890000-0000-7000-8000-000000000000'",
        ])

    private static func invocations(_ count: Int, _ whose: String) -> SQL {
        """
        insert into invocations (id, owner_id, function_id, is_async, status, finished_at)
        select new_id(), f.owner_id, f.id, true, 'SUCCEEDED', now() from functions f join users u on u.id = f.owner_id
        cross join generate_series(1, \(count)::int) where \(verbatim: whose)
        """
    }

    /// What start_invocation, finish_invocation and thecloud-cron look for among all that ever was.
    @Test(arguments: [
        (
            "select count(*) from invocations i where i.owner_id = $1 and i.status = 'RUNNING' and i.leased_until > now()",
            "invocations_running"
        ),
        (
            """
            select count(*) from invocations i where i.owner_id = $1 and i.status = 'PENDING' and not i.is_async and i.id < $1
            and i.leased_until > now()
            """, "invocations_waiting"
        ),
        (
            "select i.id from invocations i where i.owner_id = $1 and i.status = 'PENDING' and i.is_async order by i.id limit 1",
            "invocations_queued"
        ),
        (
            "select i.id from invocations i where i.status in ('PENDING', 'RUNNING') and not i.is_async and i.leased_until < now()",
            "invocations_leased"
        ),
        ("select i.owner_id from invocations i where i.id = $1", "invocations_id"),
        ("select f.id from functions f where f.version = $1", "functions_version"),
    ])
    func invocationsGoByIndex(statement: String, index: String) throws {
        let (database, owner) = try Self.crowd.get()
        let transaction = try database.administrator().begin()
        try transaction.send("set local plan_cache_mode = force_generic_plan")
        try transaction.send("prepare asked (uuid) as \(verbatim: statement)")
        let plan: String = try transaction.query("explain (format json) execute asked (\(verbatim: "'\(owner.id)'"))").scalar() ?? ""
        transaction.rollback()
        let used = plan.matches(of: /"Index Name": "([a-z_]+)"/).map { String($0.1) }
        #expect(used == [index] && !plan.contains("Seq Scan"), "\(plan)")
    }
}
