// JSON in and out: escapes, depth, numbers, duplicates, and what is refused.
import HTTP
import Testing

struct JSONTests {
    private func parse(_ text: String) throws(APIError) -> JSON { try JSON(parsing: Array(text.utf8)) }

    @Test(
        arguments: [
            (#""\u0041\u00e9\ud83d\ude00\n\/\\\"""#, JSON.string("Aé😀\n/\\\"")), ("0", .int(0)), ("-0", .int(0)),
            ("9223372036854775807", .int(.max)),
            ("-9223372036854775808", .int(.min)), ("1.5e3", .int(1500)), ("0.1", .double(0.1)), ("true", .bool(true)), ("null", .null),
            (" [ ] ", []), ("{}", [:]), (#"{"a":{"b":[1,null]}}"#, ["a": ["b": [1, nil]]]),
        ] as [(String, JSON)])
    func reads(text: String, value: JSON) throws {
        #expect(try parse(text) == value)
    }

    @Test func membersHaveNoOrder() throws {
        let text = "{" + (0..<40).map { #""\#($0)":\#($0)"# }.joined(separator: ",") + "}"
        #expect(try parse(text) == .object((0..<40).reversed().map { JSON.Member("\($0)", .int($0)) }))
        #expect(["a": 1, "b": 2] as JSON != ["a": 2, "b": 1])
        #expect(["a": 1] as JSON != ["a": 1, "b": 2])
    }

    /// Beyond 64 bits a number is no whole number to any rule.
    @Test(arguments: ["9223372036854775808", "1e30", "-1e400000", "0.5"])
    func bigNumbersAreNoIntegers(text: String) {
        #expect((try? parse(text))?.int == nil)
    }

    @Test(arguments: [
        "", " ", "{", "[1,]", "{\"a\":1,}", "{'a':1}", "01", "+1", ".5", "1.", "NaN", "Infinity", "tru", "\"\n\"", "\"\\x\"", "\"\\ud800\"",
        "[1] 2", "// c\n1", "{\"a\" 1}", "{1:2}", "\"",
    ])
    func refuses(text: String) {
        #expect(throws: APIError.malformedBody("The body is not valid JSON")) { try parse(text) }
    }

    @Test func refusesWhatIsNoUTF8() {
        for bytes in [[0x22, 0xFF, 0x22], [0x22, 0xC0, 0x80, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22]] as [[UInt8]] {
            #expect(throws: APIError.self) { try JSON(parsing: bytes) }
        }
    }

    @Test(arguments: [#""\u0000""#, #"["a\u0000b"]"#, #"{"\u0000":1}"#, #"{"a":{"b":"\u0000"}}"#])
    func refusesNUL(text: String) {
        #expect(throws: APIError.malformedBody("Strings must not contain NUL")) { try parse(text) }
    }

    @Test(arguments: [("[", "]"), (#"{"a":"#, "}")])
    func isReadSixtyFourDeep(opening: String, closing: String) throws {
        func nested(_ depth: Int, around core: String) -> String {
            String(repeating: opening, count: depth) + core + String(repeating: closing, count: depth)
        }
        for core in ["1", "[]", "{}"] where core == "1" || opening == "[" {
            let depth = core == "1" ? 64 : 63
            _ = try parse(nested(depth, around: core))
            #expect(throws: APIError.malformedBody("The JSON is nested deeper than 64")) { try parse(nested(depth + 1, around: core)) }
        }
        #expect(throws: APIError.self) { try parse(nested(100_000, around: "1")) }
        #expect(throws: APIError.self) { try parse(String(repeating: opening, count: 100_000)) }
    }

    /// Of a member that comes twice one value is taken, everywhere the same one.
    @Test func duplicatesNeverShowBothValues() throws {
        let fields = try parse(#"{"a":1,"a":2}"#)
        #expect(fields == ["a": 2] || fields == ["a": 1])
    }

    @Test(
        arguments: [
            (JSON.string("\"\\\u{8}\u{1F}\n\r\t/é😀\u{2028}"), #""\"\\\u0008\u001f\n\r\t/é😀"# + "\u{2028}\""), (.double(0.25), "0.25"),
            (.double(.nan), "null"), (.double(.infinity), "null"), (.int(.min), "-9223372036854775808"),
            (["b": [], "a": [:]], #"{"b":[],"a":{}}"#),
            ([nil, true, 1, "x"], #"[null,true,1,"x"]"#),
        ] as [(JSON, String)])
    func writes(value: JSON, text: String) {
        #expect(value.text == text)
    }

    @Test func whatIsWrittenReadsTheSame() throws {
        let nasty = String(String.UnicodeScalarView((1...0x2FF).compactMap(Unicode.Scalar.init))) + "\u{FFFF}\u{10FFFF}"
        let value: JSON = [.string(nasty), .double(1.0e-7), .double(123456789.125), .int(-1)]
        #expect(try JSON(parsing: value.bytes) == value)
    }

    @Test func membersAndItems() {
        let value: JSON = ["a": [1, 2]]
        #expect(value["a"]?[1] == 2 && value["a"]?[2] == nil && value["b"] == nil && value[0] == nil)
        #expect(value.adding(["b": 1]).text == #"{"a":[1,2],"b":1}"#)
    }
}
