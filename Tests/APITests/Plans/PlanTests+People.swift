// Accounts, their keys, and what is looked up before anybody is known.
import HTTP
import Postgres
import TestSupport
import Testing

extension PlanTests {
    static let people = Crowd(
        rows: [
            """
            insert into users (id, email, email_key, name, password_hash)
            select new_id(), 'c' || n || '@example.com', 'c' || n || '@example.com', 'crowd', 'x' from generate_series(1, 20000) n
            """,
            """
            insert into api_keys (id, owner_id, name, prefix, key_hash)
            select new_id(), id, 'k', 'thecloud_xxxx', sha256(convert_to(id::text, 'UTF8')) from users where name = 'crowd'
            """,
            """
            insert into audit_log (id, owner_id, action, resource_type, request_id)
            select new_id(), id, 'auth.login', 'key', 'r' from users where name = 'crowd'
            """,
            "insert into login_attempts (subject) select id::text from users where name = 'crowd'",
        ],
        tables: ["users", "api_keys", "audit_log", "login_attempts"],
        lists: [
            "api_keys",
            "audit_log where owner_id = current_owner() and true",
        ])

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
}
