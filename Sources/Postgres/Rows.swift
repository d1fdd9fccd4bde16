// Results, typed by position: a row is read from left to right in the order of its select list, `name = row.next()`.
// Columns arrive in PostgreSQL's binary form, which costs the server less; a type without a reader here is cast in the SQL (inet, numeric, jsonb: ::text).
import CPostgres
package import HTTP

/// A Swift value that a column can be read as.
package protocol Column {
    /// - Parameter column: PostgreSQL's binary form: what the type's `…_send` function writes.
    init(column: UnsafeRawBufferPointer)
}

/// The rows of one statement.
package final class Rows: RandomAccessCollection {
    private let result: OpaquePointer
    private let columns: Int32

    init(_ result: OpaquePointer) {
        self.result = result
        columns = PQnfields(result)
    }

    deinit { PQclear(result) }

    package var startIndex: Int { 0 }
    package var endIndex: Int { Int(PQntuples(result)) }

    package subscript(index: Int) -> Row { Row(rows: self, index: Int32(index)) }

    /// Rows that an insert, update or delete touched.
    package var affected: Int { Int(String(cString: PQcmdTuples(result))) ?? 0 }

    /// The first column of the first row; `nil` when there is no row, or it is null.
    package func scalar<Value: Column>(_ type: Value.Type = Value.self) -> Value? {
        guard var row = first else { return nil }
        return row.next()
    }

    func bytes(_ row: Int32, _ column: Int32) -> UnsafeRawBufferPointer? {
        precondition(column < columns, "the row has no column \(column)")
        let count = Int(PQgetlength(result, row, column))
        // Nulls have no length, but neither has an empty value.
        guard count > 0 || PQgetisnull(result, row, column) == 0 else { return nil }
        return UnsafeRawBufferPointer(start: PQgetvalue(result, row, column), count: count)
    }
}

/// One row, read from left to right.
package struct Row {
    private let rows: Rows
    private let index: Int32
    private var column: Int32 = 0

    fileprivate init(rows: Rows, index: Int32) {
        self.rows = rows
        self.index = index
    }

    /// The next column, which the schema keeps from being null.
    package mutating func next<Value: Column>(_ type: Value.Type = Value.self) -> Value { value() }

    package mutating func next<Value: Column>(_ type: Value?.Type = Value?.self) -> Value? { optional() }

    /// Passes over the next columns.
    package mutating func skip(_ count: Int = 1) { column += Int32(count) }

    /// Valid as long as the rows are.
    mutating func nextBytes() -> UnsafeRawBufferPointer? {
        defer { column += 1 }
        return rows.bytes(index, column)
    }

    /// The first column, which lists select as the id.
    package var id: ID {
        var first = Row(rows: rows, index: index)
        return first.next()
    }
}

/// The readers that busy routes live on, each for one type: the generic ones above would be called unspecialised from other modules.
extension Row {
    package mutating func next(_: String.Type = String.self) -> String { value() }
    package mutating func next(_: String?.Type = String?.self) -> String? { optional() }
    package mutating func next(_: ID.Type = ID.self) -> ID { value() }
    package mutating func next(_: ID?.Type = ID?.self) -> ID? { optional() }
    package mutating func next(_: Timestamp.Type = Timestamp.self) -> Timestamp { value() }
    package mutating func next(_: Timestamp?.Type = Timestamp?.self) -> Timestamp? { optional() }
    package mutating func next(_: Int.Type = Int.self) -> Int { value() }
    package mutating func next(_: Int?.Type = Int?.self) -> Int? { optional() }
    package mutating func next(_: Bool.Type = Bool.self) -> Bool { value() }
    package mutating func next(_: Bool?.Type = Bool?.self) -> Bool? { optional() }
    package mutating func next(_: Double.Type = Double.self) -> Double { value() }
    package mutating func next(_: Double?.Type = Double?.self) -> Double? { optional() }
    package mutating func next(_: [String].Type = [String].self) -> [String] { value() }
    package mutating func next(_: [String]?.Type = [String]?.self) -> [String]? { optional() }

    private mutating func value<Value: Column>() -> Value {
        guard let value: Value = optional() else { preconditionFailure("column \(column - 1) is null") }
        return value
    }

    private mutating func optional<Value: Column>() -> Value? { nextBytes().map(Value.init(column:)) }
}
