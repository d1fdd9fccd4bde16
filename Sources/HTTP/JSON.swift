// JSON values (RFC 8259). Reading is Foundation's decoder; writing is ours, because members keep their order and a list costs a quarter of the time.
import FoundationEssentials

package enum JSON: Sendable, Equatable {
    case null
    case bool(Bool)
    case int(Int)
    case double(Double)
    case string(String)
    case array([JSON])
    case object([Member])
    /// One value that is JSON text already.
    case text([UInt8])

    package struct Member: Sendable, Equatable {
        package let name: String
        package let value: JSON

        package init(_ name: String, _ value: JSON) {
            self.name = name
            self.value = value
        }
    }

    /// Deepest nesting that is read.
    package static let depthLimit = 64

    /// Reads one JSON text.
    /// - Throws: `APIError.malformedBody` on anything but one JSON value at most 64 deep whose strings are free of NUL.
    package init(parsing bytes: [UInt8]) throws(APIError) {
        try Self.check(bytes)
        do {
            self = try JSONDecoder().decode(JSON.self, from: Data(bytes))
        } catch let error as APIError {
            throw error
        } catch {
            throw .malformedBody("The body is not valid JSON")
        }
    }

    /// An object's members have no order (RFC 8259, 1): read from the same text twice they may come in two.
    package static func == (left: JSON, right: JSON) -> Bool {
        switch (left, right) {
        case (.null, .null): true
        case (.bool(let left), .bool(let right)): left == right
        case (.int(let left), .int(let right)): left == right
        case (.double(let left), .double(let right)): left == right
        case (.string(let left), .string(let right)): left == right
        case (.array(let left), .array(let right)): left == right
        case (.object(let left), .object(let right)): left.sorted { $0.name < $1.name } == right.sorted { $0.name < $1.name }
        case (.text(let left), .text(let right)): left == right
        default: false
        }
    }

    /// The member of an object; `nil` without one and for values that are no objects.
    package subscript(name: String) -> JSON? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.name == name }?.value
    }

    package subscript(index: Int) -> JSON? {
        guard case .array(let items) = self, items.indices.contains(index) else { return nil }
        return items[index]
    }

    package var string: String? { if case .string(let text) = self { text } else { nil } }
    package var int: Int? { if case .int(let number) = self { number } else { nil } }
    package var array: [JSON]? { if case .array(let items) = self { items } else { nil } }

    /// `null` for `nil`.
    package static func optional(_ text: String?) -> JSON { text.map(JSON.string) ?? .null }
    package static func optional(_ number: Int?) -> JSON { number.map(JSON.int) ?? .null }
    package static func strings(_ texts: [String]) -> JSON { .array(texts.map(JSON.string)) }

    /// The same object with further members behind; only for objects.
    package func adding(_ members: KeyValuePairs<String, JSON>) -> JSON {
        guard case .object(let present) = self else { preconditionFailure("only an object takes members") }
        return .object(present + members.map { Member($0.key, $0.value) })
    }
}

extension JSON: ExpressibleByDictionaryLiteral, ExpressibleByArrayLiteral, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
    ExpressibleByBooleanLiteral, ExpressibleByNilLiteral
{
    package init(dictionaryLiteral elements: (String, JSON)...) { self = .object(elements.map { Member($0.0, $0.1) }) }
    package init(arrayLiteral elements: JSON...) { self = .array(elements) }
    package init(stringLiteral value: String) { self = .string(value) }
    package init(integerLiteral value: Int) { self = .int(value) }
    package init(booleanLiteral value: Bool) { self = .bool(value) }
    package init(nilLiteral: ()) { self = .null }
}

extension JSON: Decodable {
    private struct Name: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    package init(from decoder: any Decoder) throws {
        if let container = try? decoder.container(keyedBy: Name.self) {
            self = .object(
                try container.allKeys.map { name in
                    Member(try Self.withoutNUL(name.stringValue), try container.decode(JSON.self, forKey: name))
                })
        } else if var container = try? decoder.unkeyedContainer() {
            var items: [JSON] = []
            while !container.isAtEnd { items.append(try container.decode(JSON.self)) }
            self = .array(items)
        } else {
            let container = try decoder.singleValueContainer()
            if let text = try? container.decode(String.self) {
                self = .string(try Self.withoutNUL(text))
            } else if let number = try? container.decode(Int.self) {
                self = .int(number)
            } else if let flag = try? container.decode(Bool.self) {
                self = .bool(flag)
            } else if container.decodeNil() {
                self = .null
            } else {
                self = .double(try container.decode(Double.self))
            }
        }
    }

    /// What the decoder does not judge as RFC 8259 does: it nests as deep as it likes, and a comma may stand before a bracket.
    private static func check(_ bytes: [UInt8]) throws(APIError) {
        var (depth, isString, isEscaped, isAfterComma) = (0, false, false, false)
        for byte in bytes {
            switch byte {
            case _ where isEscaped: isEscaped = false
            case UInt8(ascii: "\\") where isString: isEscaped = true
            case UInt8(ascii: "\""):
                isString.toggle()
                isAfterComma = false
            case _ where isString, 0x20, 0x09, 0x0A, 0x0D: break
            case UInt8(ascii: "["), UInt8(ascii: "{"):
                depth += 1
                isAfterComma = false
                if depth > depthLimit { throw .malformedBody("The JSON is nested deeper than \(depthLimit)") }
            case UInt8(ascii: "]"), UInt8(ascii: "}"):
                depth -= 1
                if isAfterComma { throw .malformedBody("The body is not valid JSON") }
            default: isAfterComma = byte == UInt8(ascii: ",")
            }
        }
    }

    private static func withoutNUL(_ text: String) throws(APIError) -> String {
        guard !text.utf8.contains(0) else { throw .malformedBody("Strings must not contain NUL") }
        return text
    }
}
