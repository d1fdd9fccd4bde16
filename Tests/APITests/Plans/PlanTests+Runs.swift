// Test runs.
import Postgres

extension PlanTests {
    static let runs = Crowd(
        rows: [
            "insert into runs (id, owner_id, name, config) select new_id(), id, 'run', '{}' from users where name = 'crowd'",
            // Half of all runs are one owner's: what is right for that one is wrong for everybody else.
            """
            insert into runs (id, owner_id, name, config) select new_id(), id, 'run ' || n, '{}' from users
            cross join generate_series(1, 20000) n where email = 'c1@example.com'
            """,
        ],
        tables: ["runs"])
}
