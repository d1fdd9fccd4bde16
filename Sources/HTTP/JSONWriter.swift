// JSON text, written into one growing buffer: the only writer there is. Values go through it, and lists write their rows into it
// member by member, without values in between.

/// Members are written in the order of the calls.
package struct JSONWriter: ~Copyable {
    private var start: UnsafeMutablePointer<UInt8>
    private var capacity: Int
    private var count = 0

    init(capacity: Int = 512) {
        start = .allocate(capacity: capacity)
        self.capacity = capacity
    }

    deinit { start.deallocate() }

    /// What was written so far.
    var bytes: [UInt8] { Array(UnsafeBufferPointer(start: start, count: count)) }

    package mutating func member(_ name: StaticString, _ text: String) {
        open(name)
        value(text)
    }

    /// `null` for `nil`.
    package mutating func member(_ name: StaticString, _ text: String?) {
        if let text { member(name, text) } else { member(name, JSON.null) }
    }

    package mutating func member(_ name: StaticString, _ time: Timestamp) {
        open(name, room: Timestamp.textLength + 2)
        mark("\"")
        time.write(to: UnsafeMutableRawPointer(start + count))
        count += Timestamp.textLength
        mark("\"")
    }

    package mutating func member(_ name: StaticString, _ id: ID) {
        open(name, room: ID.textLength + 2)
        mark("\"")
        id.write(to: UnsafeMutableRawPointer(start + count))
        count += ID.textLength
        mark("\"")
    }

    package mutating func member(_ name: StaticString, _ value: JSON) {
        open(name)
        self.value(value)
    }

    /// UTF-8 text as it came from somewhere; `null` for `nil`.
    package mutating func member(_ name: StaticString, utf8 text: UnsafeRawBufferPointer?) {
        guard let text else { return null(name) }
        open(name, room: text.count + 2)
        quote(text.assumingMemoryBound(to: UInt8.self))
    }

    /// JSON text as it came from somewhere.
    package mutating func member(_ name: StaticString, json text: UnsafeRawBufferPointer) {
        open(name, room: text.count)
        copy(text.assumingMemoryBound(to: UInt8.self))
    }

    package mutating func null(_ name: StaticString) {
        open(name, room: 4)
        put("null")
    }

    /// A list of so many objects, each written by the body.
    package mutating func member(_ name: StaticString, objects count: Int, _ body: (Int, inout JSONWriter) -> Void) {
        open(name)
        begin("[")
        for index in 0..<count {
            if index > 0 { begin(",") }
            begin("{")
            body(index, &self)
            begin("}")
        }
        begin("]")
    }

    mutating func value(_ value: JSON) {
        switch value {
        case .null: put("null")
        case .bool(let flag): put(flag ? "true" : "false")
        case .int(let number): copy(String(number))
        case .double(let number): copy(number.isFinite ? String(number) : "null")
        case .string(let text): self.value(text)
        case .text(let bytes): bytes.withUnsafeBufferPointer { copy($0) }
        case .array(let items):
            begin("[")
            for (index, item) in items.enumerated() {
                if index > 0 { begin(",") }
                self.value(item)
            }
            begin("]")
        case .object(let members):
            begin("{")
            for (index, member) in members.enumerated() {
                if index > 0 { begin(",") }
                self.value(member.name)
                begin(":")
                self.value(member.value)
            }
            begin("}")
        }
    }

    private mutating func value(_ text: String) {
        var text = text
        text.withUTF8 { quote($0) }
    }

    private mutating func quote(_ bytes: UnsafeBufferPointer<UInt8>) {
        reserve(bytes.count + 2)
        mark("\"")
        // Nearly every text needs no escape.
        var plain = 0
        while plain < bytes.count, Self.isPlain(bytes[plain]) {
            start[count + plain] = bytes[plain]
            plain += 1
        }
        count += plain
        if plain < bytes.count {
            reserve((bytes.count - plain) * 6 + 1)
            for byte in bytes[plain...] { escape(byte) }
        }
        mark("\"")
    }

    private static func isPlain(_ byte: UInt8) -> Bool { byte >= 0x20 && byte != UInt8(ascii: "\"") && byte != UInt8(ascii: "\\") }

    /// Room for six bytes is there.
    private mutating func escape(_ byte: UInt8) {
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"):
            mark("\\")
            mark(Unicode.Scalar(byte))
        case 0x0A: put("\\n")
        case 0x0D: put("\\r")
        case 0x09: put("\\t")
        case 0..<0x20:
            put("\\u00")
            for digit in [byte >> 4, byte & 15] {
                mark(Unicode.Scalar(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10))
            }
        default:
            start[count] = byte
            count += 1
        }
    }

    /// `"name":`, after a comma where it is not the first; and so many bytes of room behind it.
    private mutating func open(_ name: StaticString, room: Int = 0) {
        let length = name.utf8CodeUnitCount
        reserve(length + 4 + room)
        if count > 0, start[count - 1] != UInt8(ascii: "{") { mark(",") }
        mark("\"")
        (start + count).update(from: name.utf8Start, count: length)
        count += length
        mark("\"")
        mark(":")
    }

    fileprivate mutating func begin(_ mark: Unicode.Scalar) {
        reserve(1)
        self.mark(mark)
    }

    private mutating func copy(_ text: String) {
        var text = text
        text.withUTF8 { copy($0) }
    }

    private mutating func copy(_ bytes: UnsafeBufferPointer<UInt8>) {
        guard let source = bytes.baseAddress else { return }
        reserve(bytes.count)
        (start + count).update(from: source, count: bytes.count)
        count += bytes.count
    }

    private mutating func put(_ text: StaticString) {
        reserve(text.utf8CodeUnitCount)
        (start + count).update(from: text.utf8Start, count: text.utf8CodeUnitCount)
        count += text.utf8CodeUnitCount
    }

    /// ASCII; room for it is there.
    private mutating func mark(_ mark: Unicode.Scalar) {
        start[count] = UInt8(truncatingIfNeeded: mark.value)
        count += 1
    }

    private mutating func reserve(_ more: Int) {
        guard count + more > capacity else { return }
        capacity = max(capacity * 2, count + more)
        let larger = UnsafeMutablePointer<UInt8>.allocate(capacity: capacity)
        larger.update(from: start, count: count)
        start.deallocate()
        start = larger
    }
}

extension JSON {
    /// Stands in answers for a value that never comes back.
    package static let mask = "********"

    /// An object that is text already.
    package static func written(_ members: (inout JSONWriter) -> Void) -> JSON {
        var writer = JSONWriter()
        writer.begin("{")
        members(&writer)
        writer.begin("}")
        return .text(writer.bytes)
    }

    /// The value as compact UTF-8 text; members in their order.
    package var bytes: [UInt8] {
        if case .text(let bytes) = self { return bytes }
        var writer = JSONWriter()
        writer.value(self)
        return writer.bytes
    }

    package var text: String { String(decoding: bytes, as: UTF8.self) }
}
