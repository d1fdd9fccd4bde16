// Servers, their metrics and commands.
import Postgres

extension PlanTests {
    static let servers = Crowd(
        rows: [
            "insert into servers (id, owner_id, name, host) select new_id(), id, 's', 'h' from users where name = 'crowd'",
            """
            insert into server_metrics (id, owner_id, server_id, cpu_percent, memory_percent, reported_at)
            select new_id(), owner_id, id, 1, 1, now() from servers, generate_series(1, 3)
            """,
            "insert into commands (id, owner_id, server_id, command) select new_id(), owner_id, id, 'uptime' from servers",
        ],
        tables: ["servers", "server_metrics", "commands"],
        lists: [
            "servers",
            "server_metrics where server_id = '01890000-0000-7000-8000-000000000000'",
            "commands where server_id = '01890000-0000-7000-8000-000000000000'",
        ])
}
