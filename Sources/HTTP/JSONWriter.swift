// JSON text written member by member, without values in between: for what is listed by the hundred.

/// Writes the members of one object in the order of the calls.
package struct JSONWriter {
    fileprivate var out: [UInt8]

    fileprivate init() {
        out = []
        out.reserveCapacity(512)
        out.append(UInt8(ascii: "{"))
    }

    package mutating func member(_ name: StaticString, _ text: String) {
        open(name)
        JSON.write(text, to: &out)
    }

    /// `null` for `nil`.
    package mutating func member(_ name: StaticString, _ text: String?) {
        if let text { member(name, text) } else { member(name, JSON.null) }
    }

    package mutating func member(_ name: StaticString, _ time: Timestamp) {
        open(name)
        quote(Timestamp.textLength, time.write)
    }

    package mutating func member(_ name: StaticString, _ id: ID) {
        open(name)
        quote(ID.textLength, id.write)
    }

    package mutating func member(_ name: StaticString, _ value: JSON) {
        open(name)
        value.write(to: &out)
    }

    /// Text that needs no escape, without a String in between.
    private mutating func quote(_ length: Int, _ write: (UnsafeMutableBufferPointer<UInt8>) -> Void) {
        out.append(UInt8(ascii: "\""))
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: length) { buffer in
            write(buffer)
            out.append(contentsOf: buffer)
        }
        out.append(UInt8(ascii: "\""))
    }

    private mutating func open(_ name: StaticString) {
        if out.count > 1 { out.append(UInt8(ascii: ",")) }
        out.append(UInt8(ascii: "\""))
        name.withUTF8Buffer { out.append(contentsOf: $0) }
        out.append(UInt8(ascii: "\""))
        out.append(UInt8(ascii: ":"))
    }
}

extension JSON {
    /// An object that is text already.
    package static func written(_ members: (inout JSONWriter) -> Void) -> JSON {
        var writer = JSONWriter()
        members(&writer)
        writer.out.append(UInt8(ascii: "}"))
        return .text(writer.out)
    }
}
