// /api/v1/metrics/:server_id: what agents reported, the latest and the history. Table: server_metrics.
import API
import HTTP
import Identity
import Postgres

enum Metrics {
    static let routes: [Route] = [
        .get("/api/v1/metrics/:server_id", .permission(.serverRead), latest),
        .get("/api/v1/metrics/:server_id/history", .permission(.serverRead), history),
    ]

    private static let columns: SQL =
        "id, server_id, cpu_percent, memory_percent, disk_usage::text, network::text, reported_at, received_at"

    private static func write(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.id("server_id", &row)
        out.member("cpu_percent", row.next(Double?.self).map(JSON.double) ?? .null)
        out.member("memory_percent", row.next(Double?.self).map(JSON.double) ?? .null)
        out.json("disk_usage", &row)
        out.json("network", &row)
        out.time("timestamp", &row)
        out.time("received_at", &row)
    }

    /// All but `status` is null before the first report.
    private static func latest(_ context: Context) throws -> Response {
        let id = try context.id("server_id")
        let rows = try context.commit(
            """
            select case when \(Servers.isOnline) then 'online' else 'offline' end, s.id, m.cpu_percent, m.memory_percent, m.disk_usage::text,
            m.network::text, m.reported_at, m.received_at
            from servers s left join lateral (
                select * from server_metrics m where m.owner_id = s.owner_id and m.server_id = s.id order by m.id desc limit 1) m on true
            where s.id = \(id)
            """)
        guard var row = rows.first else { throw APIError.notFound }
        return .json(
            .written { out in
                out.text("status", &row)
                out.id("server_id", &row)
                out.member("cpu_percent", row.next(Double?.self).map(JSON.double) ?? .null)
                out.member("memory_percent", row.next(Double?.self).map(JSON.double) ?? .null)
                out.json("disk_usage", &row)
                out.json("network", &row)
                out.time("timestamp", &row)
                out.time("received_at", &row)
            })
    }

    /// What came in from `start` (by default an hour ago) to `end` (by default now), newest first.
    private static func history(_ context: Context) throws -> Response {
        let id = try context.id("server_id")
        let page = try Page(context.request.query)
        let end = try moment("end", context) ?? context.now
        let start = try moment("start", context) ?? end.advanced(seconds: -3600)
        guard start <= end else { throw APIError.invalid("start", "must not lie behind end") }
        let known = try context.query("select 1 from servers where id = \(id)")
        guard !known.isEmpty else { throw APIError.notFound }
        // Ids grow with the time of receipt but for a few milliseconds: bounds on them let the primary key serve.
        let (oldest, newest) = (ID.least(at: start.advanced(seconds: -5)), ID.greatest(at: end.advanced(seconds: 5)))
        let rows = try context.commit(
            """
            select \(columns) from server_metrics where server_id = \(id) and id between \(oldest) and \(newest)
            and received_at between \(start) and \(end) and \(page.window)
            """)
        return .json(page.envelope(rows, write))
    }

    private static func moment(_ name: String, _ context: Context) throws(APIError) -> Timestamp? {
        guard let text = context.request.query[name] else { return nil }
        // A plus that was not encoded is a blank by now.
        guard let moment = Timestamp(rfc3339: text) ?? Timestamp(rfc3339: text.replacing(" ", with: "+")) else {
            throw .invalid(name, Rule<Timestamp>.timestamp.requirement)
        }
        return moment
    }
}
