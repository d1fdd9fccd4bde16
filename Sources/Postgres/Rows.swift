// Results, typed by position: a row is read from left to right in the order of its select list, `name = row.next()`.
import CPostgres
package import HTTP

/// A Swift value that a column can be read as.
package protocol Column {
    /// - Parameter column: PostgreSQL's text form.
    init(column: UnsafeBufferPointer<UInt8>)
}

/// The rows of one statement.
package final class Rows: RandomAccessCollection {
    private let result: OpaquePointer

    init(_ result: OpaquePointer) { self.result = result }

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

    fileprivate func bytes(_ row: Int32, _ column: Int32) -> UnsafeBufferPointer<UInt8>? {
        precondition(column < PQnfields(result), "the row has no column \(column)")
        guard PQgetisnull(result, row, column) == 0, let start = PQgetvalue(result, row, column) else { return nil }
        let count = Int(PQgetlength(result, row, column))
        return UnsafeRawBufferPointer(start: start, count: count).assumingMemoryBound(to: UInt8.self)
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
    package mutating func next<Value: Column>(_ type: Value.Type = Value.self) -> Value {
        guard let value: Value = next() else { preconditionFailure("column \(column - 1) is null") }
        return value
    }

    package mutating func next<Value: Column>(_ type: Value?.Type = Value?.self) -> Value? {
        defer { column += 1 }
        return rows.bytes(index, column).map(Value.init(column:))
    }
}

extension String: Column {
    package init(column: UnsafeBufferPointer<UInt8>) { self.init(decoding: column, as: UTF8.self) }
}

extension Int: Column {
    package init(column: UnsafeBufferPointer<UInt8>) {
        guard let number = Int(String(column: column)) else { preconditionFailure("the column is no integer") }
        self = number
    }
}

extension Double: Column {
    package init(column: UnsafeBufferPointer<UInt8>) {
        guard let number = Double(String(column: column)) else { preconditionFailure("the column is no number") }
        self = number
    }
}

extension Bool: Column {
    package init(column: UnsafeBufferPointer<UInt8>) { self = column.first == UInt8(ascii: "t") }
}

extension ID: Column {
    package init(column: UnsafeBufferPointer<UInt8>) { self.init(trusted: String(column: column)) }
}

extension Timestamp: Column {
    package init(column: UnsafeBufferPointer<UInt8>) { self.init(postgres: column) }
}

/// What an array column can be made of.
package protocol ColumnElement {
    static func items(of column: UnsafeBufferPointer<UInt8>) -> [Self]
}

extension Array: Column where Element: ColumnElement {
    package init(column: UnsafeBufferPointer<UInt8>) { self = Element.items(of: column) }
}

extension UInt8: ColumnElement {
    /// bytea in hex form (PostgreSQL manual §8.4.1).
    package static func items(of column: UnsafeBufferPointer<UInt8>) -> [UInt8] {
        func nibble(_ digit: UInt8) -> UInt8 { digit < UInt8(ascii: "a") ? digit - UInt8(ascii: "0") : digit - UInt8(ascii: "a") + 10 }
        return stride(from: 2, to: column.count - 1, by: 2).map { nibble(column[$0]) << 4 | nibble(column[$0 + 1]) }
    }
}

extension String: ColumnElement {
    /// A one-dimensional array without nulls (PostgreSQL manual §8.15.6).
    package static func items(of column: UnsafeBufferPointer<UInt8>) -> [String] {
        var items: [String] = []
        var item: [UInt8] = []
        var (isQuoted, isEscaped, hasItem) = (false, false, false)
        for byte in column.dropFirst().dropLast() {
            switch byte {
            case _ where isEscaped:
                item.append(byte)
                isEscaped = false
            case UInt8(ascii: "\\"): isEscaped = true
            case UInt8(ascii: "\""):
                isQuoted.toggle()
                hasItem = true
            case UInt8(ascii: ",") where !isQuoted:
                items.append(String(decoding: item, as: UTF8.self))
                item = []
            default:
                item.append(byte)
                hasItem = true
            }
        }
        if hasItem { items.append(String(decoding: item, as: UTF8.self)) }
        return items
    }
}

extension Int: ColumnElement {
    package static func items(of column: UnsafeBufferPointer<UInt8>) -> [Int] { String.items(of: column).compactMap { Int($0) } }
}
