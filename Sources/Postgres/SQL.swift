// SQL as a type: `\(value)` binds `$n`, `\(fragment)` splices another SQL, and the only way to put text in unbound is `\(verbatim:)`.
// A statement's text is put together only when it is prepared; afterwards it is known by its shape (Statements.swift).
package import HTTP

/// A parameter in text form, or bytes as they are (bytea).
package enum Bind: Equatable, Sendable {
    case null
    case text(String)
    case bytes([UInt8])
}

/// A Swift value that can stand in `\(…)`.
package protocol Bindable {
    var bind: Bind { get }
}

package struct SQL: ExpressibleByStringInterpolation, Sendable {
    enum Part: Sendable {
        /// Text of the program, known by where it stands.
        case literal(StaticString)
        case text(String)
        case bind(Bind)
    }

    private(set) var parts: [Part]

    package init(stringLiteral value: StaticString) { parts = [.literal(value)] }

    package init(stringInterpolation: Interpolation) { parts = stringInterpolation.parts }

    package struct Interpolation: StringInterpolationProtocol {
        fileprivate var parts: [Part] = []

        package init(literalCapacity: Int, interpolationCount: Int) { parts.reserveCapacity(2 * interpolationCount + 1) }

        package mutating func appendLiteral(_ literal: StaticString) { parts.append(.literal(literal)) }

        package mutating func appendInterpolation(_ value: some Bindable) { parts.append(.bind(value.bind)) }

        package mutating func appendInterpolation(_ value: (some Bindable)?) { parts.append(.bind(value?.bind ?? .null)) }

        // For one type each what the two above do: from other modules those would be called unspecialised.
        package mutating func appendInterpolation(_ value: String) { parts.append(.bind(value.bind)) }
        package mutating func appendInterpolation(_ value: String?) { parts.append(.bind(value?.bind ?? .null)) }
        package mutating func appendInterpolation(_ value: ID) { parts.append(.bind(value.bind)) }
        package mutating func appendInterpolation(_ value: Int) { parts.append(.bind(value.bind)) }
        package mutating func appendInterpolation(_ value: Bool) { parts.append(.bind(value.bind)) }

        package mutating func appendInterpolation(_ fragment: SQL) { parts.append(contentsOf: fragment.parts) }

        /// Text of our own making only (column lists): it is not quoted in any way.
        package mutating func appendInterpolation(verbatim text: String) { parts.append(.text(text)) }
    }

    /// The statement with `$1…` where values belong.
    package var text: String {
        var text = ""
        var binds = 0
        for part in parts {
            switch part {
            case .literal(let piece): text += piece.description
            case .text(let piece): text += piece
            case .bind:
                binds += 1
                text += "$\(binds)"
            }
        }
        return text
    }

    /// What belongs there.
    package var binds: [Bind] { parts.compactMap { if case .bind(let bind) = $0 { bind } else { nil } } }
}

extension [SQL] {
    /// One fragment after the other, with text of our own making between them.
    package func joined(separator: StaticString) -> SQL {
        var interpolation = SQL.Interpolation(literalCapacity: 0, interpolationCount: count)
        for (index, fragment) in enumerated() {
            if index > 0 { interpolation.appendLiteral(separator) }
            interpolation.appendInterpolation(fragment)
        }
        return SQL(stringInterpolation: interpolation)
    }
}

extension String: Bindable { package var bind: Bind { .text(self) } }
extension Int: Bindable { package var bind: Bind { .text(String(self)) } }
extension Double: Bindable { package var bind: Bind { .text(String(self)) } }
extension Bool: Bindable { package var bind: Bind { .text(self ? "t" : "f") } }
extension ID: Bindable { package var bind: Bind { .text(description) } }
extension Timestamp: Bindable { package var bind: Bind { .text(description) } }
extension JSON: Bindable { package var bind: Bind { .text(text) } }

/// What an array can be made of.
package protocol BindableElement {
    static func bind(_ items: [Self]) -> Bind
}

extension Array: Bindable where Element: BindableElement {
    package var bind: Bind { Element.bind(self) }
}

extension UInt8: BindableElement {
    package static func bind(_ items: [UInt8]) -> Bind { .bytes(items) }
}

extension String: BindableElement {
    /// An array literal (PostgreSQL manual §8.15.2).
    package static func bind(_ items: [String]) -> Bind {
        var literal: [UInt8] = [UInt8(ascii: "{")]
        for (index, item) in items.enumerated() {
            if index > 0 { literal.append(UInt8(ascii: ",")) }
            literal.append(UInt8(ascii: "\""))
            for byte in item.utf8 {
                if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { literal.append(UInt8(ascii: "\\")) }
                literal.append(byte)
            }
            literal.append(UInt8(ascii: "\""))
        }
        literal.append(UInt8(ascii: "}"))
        return .text(String(decoding: literal, as: UTF8.self))
    }
}

extension Int: BindableElement {
    package static func bind(_ items: [Int]) -> Bind { .text("{" + items.map(String.init).joined(separator: ",") + "}") }
}
