// Keyset paging, newest first: `?limit=` and an opaque `?cursor=`. Ids grow with time, so a cursor is the last id of the page before.

extension Query {
    /// - Throws: `APIError.invalid` naming the parameter when it is no whole number of the range.
    package func number(_ name: String, default fallback: Int, _ range: ClosedRange<Int>) throws(APIError) -> Int {
        guard let text = self[name] else { return fallback }
        guard let number = Int(text), range.contains(number) else { throw .invalid(name, Rule.integer(range).requirement) }
        return number
    }
}

package struct Page: Sendable {
    /// 1–100, default 50.
    package let limit: Int
    /// Only objects older than this one.
    package let after: ID?

    /// - Throws: `APIError.invalid` naming `limit` and `cursor` where they are bad.
    package init(_ query: Query) throws(APIError) {
        var errors: [FieldError] = []
        limit = query["limit"].map { Int($0) ?? 0 } ?? 50
        if !(1...100).contains(limit) { errors.append(FieldError("limit", Rule.integer(1...100).requirement)) }
        let cursor = query["cursor"]
        after = cursor.flatMap { $0.hasPrefix("c_") ? ID(String($0.dropFirst(2))) : nil }
        if cursor != nil, after == nil { errors.append(FieldError("cursor", "must be a next_cursor of an earlier answer")) }
        guard errors.isEmpty else { throw .invalid(errors) }
    }
}
