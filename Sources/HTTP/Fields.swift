// Reading a body member by member, all bad ones named at once: a draft's `init` takes every field, then guards on `fields.problems`.
// A rule turns one JSON value into a legal Swift value or says what it must be; absent and null mean the same.

/// How one member is read.
package struct Rule<Value>: Sendable {
    /// Completes "<field> …" in the error.
    package let requirement: String
    package let parse: @Sendable (JSON) -> Value?

    package init(_ requirement: String, _ parse: @escaping @Sendable (JSON) -> Value?) {
        self.requirement = requirement
        self.parse = parse
    }
}

package struct Fields {
    private let members: [JSON.Member]
    private var errors: [FieldError] = []
    private var hasForbiddenTarget = false

    /// - Throws: `APIError.malformedBody` when the body is no object.
    package init(_ json: JSON) throws(APIError) {
        guard case .object(let members) = json else { throw .malformedBody("The body must be a JSON object") }
        self.members = members
    }

    /// Form data (`application/x-www-form-urlencoded`); of a repeated name the first counts.
    /// - Throws: `APIError.malformedBody` for a NUL.
    package init(form bytes: [UInt8]) throws(APIError) {
        members = Query(String(decoding: bytes, as: UTF8.self)).pairs.map { JSON.Member($0.name, .string($0.value)) }
        guard members.allSatisfy({ !$0.name.utf8.contains(0) && $0.value.string?.utf8.contains(0) == false }) else {
            throw .malformedBody("Strings must not contain NUL")
        }
    }

    package func has(_ name: String) -> Bool { self[name] != nil }

    /// Whether the member is there and null: what some changes take for "none".
    package func isNull(_ name: String) -> Bool { members.first { $0.name == name }?.value == .null }

    /// The raw member; `nil` where it is absent or null.
    package subscript(name: String) -> JSON? {
        guard let value = members.first(where: { $0.name == name })?.value, value != .null else { return nil }
        return value
    }

    package mutating func required<Value>(_ name: String, _ rule: Rule<Value>) -> Value? {
        guard let value = self[name] else {
            report(name, "is required")
            return nil
        }
        return read(name, value, rule)
    }

    /// `nil` where it is absent, null or (then reported) bad.
    package mutating func optional<Value>(_ name: String, _ rule: Rule<Value>) -> Value? {
        self[name].flatMap { read(name, $0, rule) }
    }

    package mutating func report(_ name: String, _ message: String) { errors.append(FieldError(name, message)) }

    /// Like `report`, for a URL that leads where nothing is sent.
    package mutating func forbid(_ name: String, _ message: String) {
        report(name, message)
        hasForbiddenTarget = true
    }

    /// The error that names every bad field so far; `nil` when all is well.
    package var problems: APIError? {
        switch errors.count {
        case 0: nil
        case 1 where hasForbiddenTarget: .targetForbidden(errors[0])
        default: .invalid(errors)
        }
    }

    /// What to throw when a draft could not be made.
    package var refusal: APIError { problems ?? .malformedBody("The body is incomplete") }

    private mutating func read<Value>(_ name: String, _ value: JSON, _ rule: Rule<Value>) -> Value? {
        let result = rule.parse(value)
        if result == nil { report(name, rule.requirement) }
        return result
    }
}

extension Rule where Value == String {
    /// - Parameter length: in characters.
    package static func text(_ length: ClosedRange<Int>) -> Rule {
        Rule("must be a text of \(length.lowerBound)–\(length.upperBound) characters") { json in
            json.string.flatMap { length.contains($0.count) ? $0 : nil }
        }
    }

    /// Names of resources: 1–64 characters of letters, digits, `-`, `_`, `.`.
    package static let resourceName = Rule("must be 1–64 characters of letters, digits, '-', '_', '.'") { json in
        guard let text = json.string, (1...64).contains(text.utf8.count) else { return nil }
        let legal = text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."):
                true
            default: false
            }
        }
        return legal ? text : nil
    }

    /// Names of keys and people: 1–100 printable characters.
    package static let displayName = Rule("must be 1–100 printable characters") { json in
        guard let text = json.string, (1...100).contains(text.count), text.contains(where: { !$0.isWhitespace }) else { return nil }
        return text.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control } ? text : nil
    }

    /// An e-mail address in the form of HTML's `<input type=email>` (WHATWG), at most 254 bytes; ASCII, so that case folds safely.
    package static let email = Rule("must be an e-mail address") { json in
        guard let text = json.string, text.utf8.count <= 254, text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { return nil }
        let halves = text.split(separator: "@", omittingEmptySubsequences: false)
        guard halves.count == 2, (1...64).contains(halves[0].utf8.count) else { return nil }
        let special = Set(".!#$%&'*+/=?^_`{|}~-".utf8)
        guard halves[0].utf8.allSatisfy({ isAlphanumeric($0) || special.contains($0) }) else { return nil }
        let labels = halves[1].split(separator: ".", omittingEmptySubsequences: false)
        let legal = labels.allSatisfy { label in
            (1...63).contains(label.utf8.count) && !label.hasPrefix("-") && !label.hasSuffix("-")
                && label.utf8.allSatisfy { isAlphanumeric($0) || $0 == UInt8(ascii: "-") }
        }
        return legal ? text : nil
    }

    /// 8–1024 bytes; length is the only rule (NIST SP 800-63B §5.1.1).
    package static let password = Rule("must be 8–1024 bytes long") { json in
        json.string.flatMap { (8...1024).contains($0.utf8.count) ? $0 : nil }
    }

    package static func oneOf(_ values: [String]) -> Rule {
        Rule("must be one of \(values.joined(separator: ", "))") { json in json.string.flatMap { values.contains($0) ? $0 : nil } }
    }
}

private func isAlphanumeric(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
    default: false
    }
}

extension Rule where Value == Int {
    package static func integer(_ range: ClosedRange<Int>) -> Rule {
        Rule("must be a whole number from \(range.lowerBound) to \(range.upperBound)") { json in
            json.int.flatMap { range.contains($0) ? $0 : nil }
        }
    }
}

extension Rule where Value == ID {
    package static let id = Rule("must be the id of one of your own objects") { json in json.string.flatMap(ID.init) }
}

extension Rule where Value == Timestamp {
    package static let timestamp = Rule("must be an RFC 3339 time such as 2030-01-31T12:00:00Z") { json in
        json.string.flatMap(Timestamp.init(rfc3339:))
    }
}

extension Rule {
    /// A list whose items all obey a rule.
    package static func list<Item>(_ count: ClosedRange<Int>, of item: Rule<Item>) -> Rule where Value == [Item] {
        Rule("must be a list of \(count.lowerBound)–\(count.upperBound) items, each of which \(item.requirement)") { json in
            guard let items = json.array, count.contains(items.count) else { return nil }
            let values = items.compactMap(item.parse)
            return values.count == items.count ? values : nil
        }
    }
}
