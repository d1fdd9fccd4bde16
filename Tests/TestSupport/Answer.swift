// What came back, and its comparison with a literal body. In the literal, a text that starts with `$` stands for what can't be known before:
// $id a UUID, $time an RFC 3339 time in UTC, $key a key's text, $prefix its beginning, $text any text, $request the request's own id.
package import HTTP
package import Testing

package struct Answer: CustomStringConvertible {
    package let response: Response
    package let requestID: String
    /// What the log says beyond the answer.
    package let cause: String?

    package var status: Int { response.status }
    package var text: String { String(decoding: response.body, as: UTF8.self) }
    package var json: JSON { (try? JSON(parsing: response.body)) ?? .null }
    package var code: String? { self["error_code"]?.string }
    package var description: String { "\(status) \(text)\(cause.map { " (\($0))" } ?? "")" }

    package subscript(name: String) -> JSON? { json[name] }

    /// The first value of a header; the name's case does not matter.
    package func header(_ name: String) -> String? {
        response.headers.first { $0.name.lowercased() == name.lowercased() }?.value
    }

    /// The names of the fields that an error complains about.
    package var badFields: [String] { (self["errors"]?.array ?? []).compactMap { $0["field"]?.string } }
}

/// Holds an answer against its status and its literal body.
package func expect(_ answer: Answer, _ status: Int, _ literal: String, sourceLocation: SourceLocation = #_sourceLocation) {
    guard answer.status == status else {
        Issue.record("expected \(status), got \(answer)", sourceLocation: sourceLocation)
        return
    }
    do {
        let differences = Literal(requestID: answer.requestID).differences(try JSON(parsing: Array(literal.utf8)), answer.json, "body")
        if !differences.isEmpty {
            Issue.record("\(differences.joined(separator: "\n")) in \(answer)", sourceLocation: sourceLocation)
        }
    } catch {
        Issue.record("the literal of the test is no JSON: \(error)", sourceLocation: sourceLocation)
    }
}

/// Holds an answer against the one error body: class, precise code, sentence, bad fields.
package func expect(
    _ answer: Answer, _ status: Int, error: String, _ code: String, _ message: String, fields: KeyValuePairs<String, String> = [:],
    sourceLocation: SourceLocation = #_sourceLocation
) {
    let errors = JSON.array(fields.map { ["field": .string($0.key), "message": .string($0.value)] })
    let literal: JSON = [
        "error": .string(error), "message": .string(message), "code": .int(status), "detail": .string(message),
        "error_code": .string(code), "status_code": .int(status), "request_id": "$request", "errors": errors,
    ]
    expect(answer, status, literal.text, sourceLocation: sourceLocation)
}

private struct Literal {
    let requestID: String

    func differences(_ expected: JSON, _ actual: JSON, _ place: String) -> [String] {
        switch (expected, actual) {
        case (.object(let wanted), .object(let present)):
            let (wantedNames, presentNames) = (Set(wanted.map(\.name)), Set(present.map(\.name)))
            let missing = wantedNames.subtracting(presentNames).sorted().map { "\(place).\($0) is missing" }
            let further = presentNames.subtracting(wantedNames).sorted().map { "\(place).\($0) was not expected" }
            let twice = present.count == presentNames.count ? [] : ["\(place) has a member twice"]
            return missing + further + twice
                + wanted.flatMap { member in actual[member.name].map { differences(member.value, $0, "\(place).\(member.name)") } ?? [] }
        case (.array(let wanted), .array(let present)):
            guard wanted.count == present.count else { return ["\(place) has \(present.count) items instead of \(wanted.count)"] }
            return zip(wanted, present).enumerated().flatMap { differences($1.0, $1.1, "\(place)[\($0)]") }
        case (.string(let pattern), .string(let text)) where pattern.hasPrefix("$"):
            return stands(pattern, for: text) ? [] : ["\(place) is \(text), not \(pattern)"]
        case _ where expected == actual: return []
        default: return ["\(place) is \(actual.text) instead of \(expected.text)"]
        }
    }

    private func stands(_ pattern: String, for text: String) -> Bool {
        switch pattern {
        case "$id": text.wholeMatch(of: /[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/) != nil
        case "$time": text.wholeMatch(of: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z/) != nil
        case "$key": text.wholeMatch(of: /thecloud_[0-9A-Za-z]{33}/) != nil
        case "$prefix": text.wholeMatch(of: /thecloud_[0-9A-Za-z]{4}/) != nil
        case "$request": text == requestID
        default: pattern == "$text"
        }
    }
}
