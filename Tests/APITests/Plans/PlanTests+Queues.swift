// Queues and their messages.
import HTTP
import Postgres
import TestSupport
import Testing

extension PlanTests {
    static let queues = Crowd(
        rows: [
            """
            insert into queues (id, owner_id, name, visibility_timeout, delay, retention)
            select new_id(), id, 'q', 30, 0, 345600 from users where name = 'crowd'
            """,
            // Most queues hold few messages, one holds many, most of them not visible.
            messages(2, "true"),
            messages(50000, "email = 'c1@example.com'"),
        ],
        tables: ["queues", "queue_messages"],
        lists: [
            "queues"
        ])

    private static func messages(_ count: Int, _ whose: String) -> SQL {
        """
        insert into queue_messages (id, owner_id, queue_id, body, visible_at, receipt)
        select new_id(), q.owner_id, q.id, 'payload-data', now() + (n % 10) * interval '1 hour', new_id() from queues q
        join users u on u.id = q.owner_id cross join generate_series(1, \(count)::int) n where \(verbatim: whose)
        """
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
}
