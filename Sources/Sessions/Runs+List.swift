// GET /api/v1/runs: pages by number, with a total, a search and an order of the client's choice; and what its filters can be.
// Every order has an index (sql/0007_runs.sql). Plans are made anew for each list: a generic one would be the first caller's, and what is
// right for an owner of a million runs reads the whole table for an owner of ten.
import API
import HTTP
import Identity
import Postgres

extension Runs {
    private static let sortColumns = ["created_at", "updated_at", "name", "status"]
    private static let sortOrders = ["desc", "asc"]

    /// What is asked for.
    private struct Listing {
        private(set) var page = 1
        private(set) var limit = 20
        private let search: String?
        private let status: String?
        private let sortColumn: String
        private let sortOrder: String

        init(_ query: Query) throws(APIError) {
            var errors: [FieldError] = []
            func choice(_ name: String, _ values: [String]) -> String? {
                guard let text = query[name] else { return nil }
                if !values.contains(text) { errors.append(FieldError(name, Rule<String>.oneOf(values).requirement)) }
                return text
            }
            func number(_ name: String, default fallback: Int, _ range: ClosedRange<Int>) -> Int {
                guard let text = query[name] else { return fallback }
                if let number = Int(text), range.contains(number) { return number }
                errors.append(FieldError(name, Rule.integer(range).requirement))
                return fallback
            }
            page = number("page", default: page, 1...1_000_000)
            limit = number("limit", default: limit, 1...100)
            search = query["search"].flatMap { $0.isEmpty ? nil : $0 }
            if let search, search.count > 200 || search.utf8.contains(0) {
                errors.append(FieldError("search", "must be a text of at most 200 characters"))
            }
            status = choice("status", statuses)
            sortColumn = choice("sort_by", sortColumns) ?? sortColumns[0]
            sortOrder = choice("sort_order", sortOrders) ?? sortOrders[0]
            guard errors.isEmpty else { throw .invalid(errors) }
        }

        /// `%`, `_` and `\` are letters like any other.
        var condition: SQL {
            var conditions: [SQL] = ["true"]
            if let status { conditions.append("status = \(status)") }
            if let search {
                conditions.append(
                    "(strpos(lower(name), lower(\(search))) > 0 or strpos(lower(coalesce(description, '')), lower(\(search))) > 0)")
            }
            return conditions.joined(separator: " and ")
        }

        /// Runs of one status, and those of one moment, stand in the order of their making.
        var order: SQL {
            let columns = sortColumn == "status" ? ["status", "created_at", "id"] : [sortColumn, "id"]
            return "\(verbatim: columns.map { "\($0) \(sortOrder)" }.joined(separator: ", "))"
        }

        var window: SQL { "limit \(limit) offset \((page - 1) * limit)" }
    }

    static func list(_ context: Context) throws -> Response {
        let listing = try Listing(context.request.query)
        try context.send("select set_config('plan_cache_mode', 'force_custom_plan', true)")
        // The page is found by its index alone; only its own rows are read in full. The total comes along even where the page is empty.
        let rows = try context.commit(
            """
            with page as materialized (select id as found from runs where \(listing.condition) order by \(listing.order) \(listing.window))
            select (select count(*) from runs where \(listing.condition)), \(columns)
            from (values (1)) one left join page on true left join lateral (select * from runs where id = found limit 1) runs on true
            order by \(listing.order)
            """)
        var first = rows[0]
        let total = first.next(Int.self)
        let count = first.next(ID?.self) == nil ? 0 : rows.count
        return .json(
            .written { out in
                out.member("runs", objects: count) { index, out in
                    var row = rows[index]
                    _ = row.next(Int.self)
                    write(row, to: &out)
                }
                out.member("total", .int(total))
                out.member("page", .int(listing.page))
                out.member("limit", .int(listing.limit))
            })
    }

    static func filterOptions(_ context: Context) throws -> Response {
        try context.send("select set_config('plan_cache_mode', 'force_custom_plan', true)")
        let rows = try context.commit("select status, count(*) from runs group by status")
        let counts = Dictionary(
            uniqueKeysWithValues: rows.map { row in
                var row = row
                return (row.next(String.self), row.next(Int.self))
            })
        return .json([
            "statuses": .strings(statuses), "counts": .object(statuses.map { JSON.Member($0, .int(counts[$0] ?? 0)) }),
            "sort_by": .strings(sortColumns), "sort_order": .strings(sortOrders),
        ])
    }
}
