// From a column straight into an answer: `out.text("name", &row)`. A resource's mapping is a list of these, in the order of its select list.
package import HTTP

extension JSONWriter {
    /// text, varchar, name; `null` for null.
    package mutating func text(_ name: StaticString, _ row: inout Row) { member(name, utf8: row.nextBytes()) }

    package mutating func id(_ name: StaticString, _ row: inout Row) {
        if let bytes = row.nextBytes() { member(name, ID(column: bytes)) } else { null(name) }
    }

    package mutating func time(_ name: StaticString, _ row: inout Row) {
        if let bytes = row.nextBytes() { member(name, Timestamp(column: bytes)) } else { null(name) }
    }

    /// text[]; `null` for null.
    package mutating func texts(_ name: StaticString, _ row: inout Row) {
        if let bytes = row.nextBytes() { member(name, .strings([String](column: bytes))) } else { null(name) }
    }

    /// text[] of names, as an object that hides what they stand for.
    package mutating func masked(_ name: StaticString, _ row: inout Row) {
        let names: [String] = row.next()
        member(name, .object(names.map { JSON.Member($0, .string(JSON.mask)) }))
    }

    /// jsonb or json, selected as `…::text`.
    package mutating func json(_ name: StaticString, _ row: inout Row) {
        if let bytes = row.nextBytes() { member(name, json: bytes) } else { null(name) }
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
