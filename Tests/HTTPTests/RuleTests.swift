// Rules for members of bodies, all problems at once, and the small values: ids, times, address blocks, queries, pages.
import FoundationEssentials
import HTTP
import Testing

struct RuleTests {
    @Test(arguments: [
        "a@b", "user@example.com", "A.b+c_d!#$%&'*/=?^`{|}~-@x-y.example", String(repeating: "l", count: 64) + "@example.com",
    ])
    func addresses(text: String) { #expect(Rule.email.parse(.string(text)) == text) }

    @Test(arguments: [
        "", "a", "@", "a@", "@b", "a b@c", "a@b@c", "a@-b", "a@b-", "a@b..c", "a@.b", "a@b.", "é@example.com", "a@é.com", "a\n@b.com",
        "a@b.com\r\n",
        "<a@b.com>", "a@[127.0.0.1]", "\"a\"@b.com", "a,b@c.com", "a@b,c", "a@b_c", String(repeating: "l", count: 65) + "@example.com",
        "a@" + String(repeating: "b", count: 64) + ".com", "a@" + Array(repeating: "example", count: 40).joined(separator: "."),
    ])
    func addressesThatAreNone(text: String) { #expect(Rule.email.parse(.string(text)) == nil) }

    @Test func resourceNames() {
        for name in ["a", "web-01", "A_b.c-9", ".", String(repeating: "x", count: 64)] {
            #expect(Rule.resourceName.parse(.string(name)) == name)
        }
        for name in ["", " ", "a b", "a/b", "ä", "a\n", "a:b", "a@b", String(repeating: "x", count: 65)] {
            #expect(Rule.resourceName.parse(.string(name)) == nil, "\(name)")
        }
    }

    @Test func displayNames() {
        for name in ["J", "Jürgen Müller", "名前", "👨‍👩‍👧", String(repeating: "é", count: 100)] {
            #expect(Rule.displayName.parse(.string(name)) == name)
        }
        for name in ["", " ", "\t", "a\nb", "a\u{7}", "a\u{7F}", "a\u{85}", String(repeating: "x", count: 101)] {
            #expect(Rule.displayName.parse(.string(name)) == nil, "\(name.debugDescription)")
        }
    }

    @Test func numbersListsAndChoices() {
        #expect(Rule.integer(1...3).parse(3) == 3 && Rule.integer(1...3).parse(4) == nil && Rule.integer(1...3).parse("2") == nil)
        #expect(Rule.integer(1...3).parse(.double(2.5)) == nil && Rule.integer(0...1).parse(true) == nil)
        #expect(Rule.list(1...2, of: .resourceName).parse(["a", "b"]) == ["a", "b"])
        for json in [[], ["a", "b", "c"], ["a", 1], "a"] as [JSON] { #expect(Rule.list(1...2, of: .resourceName).parse(json) == nil) }
        #expect(Rule.oneOf(["A"]).parse("A") == "A" && Rule.oneOf(["A"]).parse("a") == nil && Rule.oneOf(["1"]).parse(1) == nil)
    }

    @Test func fieldsNameAllThatIsBad() throws {
        var fields = try Fields(["a": nil, "b": 1, "c": "ok", "d": "no"])
        #expect(fields.required("a", .resourceName) == nil && fields.required("b", .resourceName) == nil)
        #expect(fields.required("c", .resourceName) == "ok" && fields.optional("missing", .resourceName) == nil)
        #expect(fields.optional("d", .integer(0...1)) == nil && !fields.has("a") && fields.has("b"))
        guard case .invalid(let errors)? = fields.problems else {
            Issue.record("no problems")
            return
        }
        #expect(errors.map(\.field) == ["a", "b", "d"] && errors[0].message == "is required")
        #expect(throws: APIError.malformedBody("The body must be a JSON object")) { try Fields([1]) }
    }
}

struct ValueTests {
    @Test func ids() throws {
        let id = try #require(ID("01890A5D-AC96-774B-BCCE-B302099A8057"))
        #expect(id.description == "01890a5d-ac96-774b-bcce-b302099a8057")
        for text in [
            "", "x", "01890a5dac96774bbcceb302099a8057", "{01890a5d-ac96-774b-bcce-b302099a8057}", "01890a5d-ac96-774b-bcce-b302099a805g",
        ] {
            #expect(ID(text) == nil)
        }
        #expect(ID(high: 0x0189_0a5d_ac96_774b, low: 0xbcce_b302_099a_8057) == id)
        let (early, late) = (ID(at: Timestamp(microseconds: 1_700_000_000_000_999)), ID(at: Timestamp(microseconds: 1_700_000_000_001_000)))
        #expect(early < late && early.description.hasPrefix("018bcfe5-6800-7"))
        #expect(early.description.wholeMatch(of: /[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/) != nil)
        #expect(Set((0..<1000).map { _ in ID(at: Timestamp(microseconds: 0)) }).count == 1000)
    }

    @Test(arguments: [
        ("2026-01-05T23:00:00Z", "2026-01-05T23:00:00.000000Z"), ("2026-01-05T23:00:00.5+01:00", "2026-01-05T22:00:00.500000Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z"), ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000000Z"),
    ])
    func times(text: String, expected: String) { #expect(Timestamp(rfc3339: text)?.description == expected) }

    @Test(arguments: [
        "", "now", "2026-01-05", "2026-01-05 23:00:00", "2026-13-05T23:00:00Z", "2026-02-30T00:00:00Z", "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59-01:00", "2026-01-05T25:00:00Z", "2026-01-05T23:00:00", "2026-01-05T23:00:00Zx", "infinity",
    ])
    func timesThatAreNone(text: String) { #expect(Timestamp(rfc3339: text) == nil) }

    /// The calendar is our own, so it is held against another one: every day of 400 years and some.
    @Test func theCalendar() {
        #expect(Timestamp(microseconds: 951_827_696_000_001).description == "2000-02-29T12:34:56.000001Z")
        let days = stride(from: 0, to: 180_000, by: 1).filter { day in
            let date = Date(timeIntervalSince1970: Double(day) * 86400).formatted(.iso8601.year().month().day())
            return Timestamp(microseconds: day * 86_400_000_000).description != date + "T00:00:00.000000Z"
        }
        #expect(days == [])
        #expect(Timestamp(microseconds: 1) < Timestamp(microseconds: 2))
    }

    @Test func blocks() throws {
        for (text, shown) in ["10.0.0.0/8": "10.0.0.0/8", "192.0.2.7": "192.0.2.7/32", "::/0": "::/0", "2001:DB8:0::/32": "2001:db8::/32"] {
            #expect(CIDR(text)?.description == shown)
        }
        for text in [
            "", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0/8", "10.0.0.0/8/8", "2001:db8::1/32", "x", "10.0.0.0/", "010.0.0.0/8",
            "1/8",
        ] {
            #expect(CIDR(text) == nil, "\(text)")
        }
        let block = try #require(CIDR("10.1.128.0/17"))
        for (text, isInside) in ["10.1.128.0/17": true, "10.1.255.255": true, "10.1.0.0/16": false, "10.1.127.0/24": false, "::/0": false] {
            #expect(block.contains(try #require(CIDR(text))) == isInside, "\(text)")
        }
    }

    @Test func queries() {
        let query = Query("a=1&b=x%20y+z&a=2&c&=e&d=%zz%4&e=%C3%A9&&f=a=b")
        #expect(query["a"] == "1" && query["b"] == "x y z" && query["c"] == "" && query[""] == "e" && query["d"] == "%zz%4")
        #expect(query["e"] == "é" && query["f"] == "a=b" && query["nothing"] == nil && Query("")["a"] == nil)
        #expect(Query("a=%+1")["a"] == "% 1" && Query("a=%FF")["a"] == "\u{FFFD}")
    }

    @Test func pages() throws {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057"
        #expect(try Page(Query("")).limit == 50 && Page(Query("limit=100")).limit == 100)
        #expect(try Page(Query("cursor=c_\(id)")).after?.description == id)
        #expect(throws: APIError.self) { try Page(Query("cursor=\(id)")) }
    }

    @Test func headersAreFoundByLowerCaseNames() {
        let headers = Headers(["X-API-Key": "a", "x-api-key": "b"])
        #expect(headers["x-api-key"] == "a" && headers["other"] == nil)
    }
}
