// A function through nginx, both ways of asking it, with a body that only its location lets through; run by whoever the stack runs them with.
import Crypto
import HTTP
import TestSupport
import Testing

@Suite struct FunctionSessionTests {
    @Test func `a function is deployed with a big archive, asked at once and later, and its logs are there`() throws {
        let visitor = Visitor()
        try visitor.join()
        var zip = ZipMaker(["index.js": "exports.handler = async ({ foo }) => { console.log('got', foo); return { hello: foo }; };"])
        zip.add("data", String(repeating: "0123456789abcdef", count: 100_000))
        let made = try visitor.call(
            "POST", "/functions",
            ["name": "hello", "runtime": "nodejs20", "code_zip": .string(Base64.standard.padded(zip.bytes)), "timeout": 60])
        let id = try #require(made.json["data"]?["id"]?.string, "\(made)")
        let now = try visitor.call("POST", "/functions/\(id)/invoke", ["payload": ["foo": "bar"], "async": false])
        #expect(now.status == 200 && now.json["data"]?["result"] == ["hello": "bar"], "\(now)")
        let later = try visitor.call("POST", "/functions/\(id)/invoke", ["payload": ["foo": "later"], "async": true])
        #expect(later.status == 202, "\(later)")
        let path = "/functions/\(id)/invocations/" + (try #require(later.json["data"]?["id"]?.string))
        let ended = try eventually(within: 60) {
            try visitor.call("GET", path).json["data"]
        } until: {
            $0?["status"] == "SUCCEEDED"
        }
        #expect(ended?["result"] == ["hello": "later"])
        let logs = try visitor.call("GET", "/functions/\(id)/logs").json["data"]?.array?.map { $0["logs"] }
        #expect(logs == ["got later\n", "got bar\n"])
        #expect(try visitor.call("DELETE", "/functions/\(id)").json == ["message": "Function deleted"])
    }
}
