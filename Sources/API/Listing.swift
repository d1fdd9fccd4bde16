// The SQL side of keyset paging; the JSON side is HTTP's Page.
package import HTTP
package import Postgres

extension Page {
    /// Ends a list's `where`: what is older than the cursor, newest first, one row more than is shown.
    package var window: SQL {
        let older: SQL = after.map { "id < \($0)" } ?? "true"
        return "\(older) order by id desc limit \(limit + 1)"
    }
}
