// How columns are read from PostgreSQL's binary form: integers big-endian, times as microseconds since 2000, arrays with a header.
package import HTTP

extension UnsafeRawBufferPointer {
    /// A big-endian integer at an offset.
    fileprivate func integer<Number: FixedWidthInteger>(at offset: Int = 0, as type: Number.Type = Number.self) -> Number {
        precondition(count >= offset + MemoryLayout<Number>.size, "the column is too short for its Swift type")
        return Number(bigEndian: loadUnaligned(fromByteOffset: offset, as: Number.self))
    }
}

extension String: Column {
    /// text, varchar, name.
    package init(column: UnsafeRawBufferPointer) { self.init(decoding: column, as: UTF8.self) }
}

extension Int: Column {
    /// int2, int4, int8.
    package init(column: UnsafeRawBufferPointer) {
        switch column.count {
        case 2: self = Int(column.integer(as: Int16.self))
        case 4: self = Int(column.integer(as: Int32.self))
        case 8: self = Int(column.integer(as: Int64.self))
        default: preconditionFailure("the column is no integer")
        }
    }
}

extension Double: Column {
    /// float8.
    package init(column: UnsafeRawBufferPointer) { self.init(bitPattern: column.integer()) }
}

extension Bool: Column {
    package init(column: UnsafeRawBufferPointer) { self = column.integer(as: UInt8.self) != 0 }
}

extension ID: Column {
    /// uuid.
    package init(column: UnsafeRawBufferPointer) { self.init(high: column.integer(), low: column.integer(at: 8)) }
}

extension Timestamp: Column {
    /// timestamptz.
    package init(column: UnsafeRawBufferPointer) {
        let since2000 = column.integer(as: Int64.self)
        self.init(microseconds: Int(since2000) + 946_684_800_000_000)
    }
}

/// What an array column can be made of.
package protocol ColumnElement {
    static func items(of column: UnsafeRawBufferPointer) -> [Self]
}

extension Array: Column where Element: ColumnElement {
    package init(column: UnsafeRawBufferPointer) { self = Element.items(of: column) }
}

extension UInt8: ColumnElement {
    /// bytea.
    package static func items(of column: UnsafeRawBufferPointer) -> [UInt8] { Array(column) }
}

extension ColumnElement where Self: Column {
    /// A one-dimensional array without nulls: header of 20 bytes (12 when empty), then length and bytes of each item.
    package static func items(of column: UnsafeRawBufferPointer) -> [Self] {
        guard column.integer(as: Int32.self) > 0 else { return [] }
        let count = Int(column.integer(at: 12, as: Int32.self))
        var offset = 20
        return (0..<count).map { _ in
            let length = Int(column.integer(at: offset, as: Int32.self))
            precondition(length >= 0, "an item of the array is null")
            defer { offset += 4 + length }
            return Self(column: UnsafeRawBufferPointer(rebasing: column[(offset + 4)..<(offset + 4 + length)]))
        }
    }
}

extension String: ColumnElement {}
extension Int: ColumnElement {}
