// From a column straight into an answer: `out.text("name", &row)`. A resource's mapping is a list of these, in the order of its select list.
package import HTTP

extension JSONWriter {
    /// text, varchar, name; `null` for null.
    package mutating func text(_ name: StaticString, _ row: inout Row) { row.withNextBytes { member(name, utf8: $0) } }

    package mutating func id(_ name: StaticString, _ row: inout Row) {
        if let id = row.next(ID?.self) { member(name, id) } else { member(name, JSON.null) }
    }

    package mutating func time(_ name: StaticString, _ row: inout Row) {
        if let time = row.next(Timestamp?.self) { member(name, time) } else { member(name, JSON.null) }
    }

    /// text[]; `null` for null.
    package mutating func texts(_ name: StaticString, _ row: inout Row) {
        let items: [String]? = row.next()
        member(name, items.map(JSON.strings) ?? .null)
    }

    /// jsonb or json, selected as `…::text`.
    package mutating func json(_ name: StaticString, _ row: inout Row) {
        row.withNextBytes { member(name, $0.map { .text(Array($0)) } ?? .null) }
    }
}

extension Page {
    /// The list envelope.
    /// - Parameters:
    ///   - rows: fetched with `limit + 1`, the id first; the extra one only tells that there is more.
    ///   - write: the members of one row.
    package func envelope(_ rows: Rows, _ write: (Row, inout JSONWriter) -> Void) -> JSON {
        let count = min(rows.count, limit)
        let next = rows.count > limit ? "c_" + rows[count - 1].id.description : nil
        return .written { out in
            out.member("data", objects: count) { write(rows[$0], &$1) }
            out.member("meta", .written { $0.member("next_cursor", next) })
        }
    }
}

extension Row {
    /// The next column's bytes, valid while the closure runs; `nil` for null.
    mutating func withNextBytes(_ body: (UnsafeRawBufferPointer?) -> Void) {
        body(nextBytes())
    }
}
