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

extension Row {
    /// The next column's bytes, valid while the closure runs; `nil` for null.
    mutating func withNextBytes(_ body: (UnsafeRawBufferPointer?) -> Void) {
        body(nextBytes())
    }
}
