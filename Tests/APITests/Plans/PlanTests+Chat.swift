// Rooms, their users and messages; notifications.
import HTTP
import Postgres
import TestSupport
import Testing

extension PlanTests {
    static let chat = Crowd(
        rows: [
            "insert into rooms (id, owner_id, name) select new_id(), id, 'r' from users where name = 'crowd'",
            """
            insert into members (id, owner_id, email, email_key, username)
            select new_id(), id, 'm@example.com', 'm@example.com', 'm' from users where name = 'crowd'
            """,
            """
            insert into participants (owner_id, room_id, member_id)
            select r.owner_id, r.id, m.id from rooms r join members m on m.owner_id = r.owner_id
            """,
            """
            insert into messages (id, owner_id, room_id, member_id, content)
            select new_id(), p.owner_id, p.room_id, p.member_id, 'hello' from participants p, generate_series(1, 3)
            """,
        ],
        tables: ["rooms", "members", "participants", "messages"],
        lists: [
            "rooms",
            "members",
            "notifications",
        ])

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
}
