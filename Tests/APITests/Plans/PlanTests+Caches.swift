// Caches.
import Postgres

extension PlanTests {
    static let caches = Crowd(
        rows: [
            """
            insert into caches (id, owner_id, name, memory_mb, host_port, password_sealed)
            select new_id(), id, 'cache', 16, 20000, '\\x00' from users where name = 'crowd'
            """
        ],
        tables: ["caches"],
        lists: ["caches"])
}
