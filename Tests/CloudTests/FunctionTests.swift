// /functions through the door: the life of a function, what is refused and how it is said, what is kept secret, and what waits to be run.
// What sandboxes do is in JobsTests/InvocationTests.swift.
import Crypto
import HTTP
import Postgres
import TestSupport
import Testing

struct FunctionTests {
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        cloud = try TestCloud(["THECLOUD_QUOTA_FUNCTIONS": "3"], engine: TestCloud.deadEngine())
        owner = try cloud.newOwner()
    }

    private static let zip = ZipMaker(["index.js": "exports.handler = async (payload) => payload;"])

    private static func text(_ zip: ZipMaker) -> JSON { .string(Base64.standard.padded(zip.bytes)) }

    private func post(_ path: String, _ body: JSON? = nil) -> Answer { cloud.call(.post, path, key: owner.key, json: body) }
    private func put(_ path: String, _ body: JSON) -> Answer { cloud.call(.put, path, key: owner.key, json: body) }
    private func get(_ path: String) -> Answer { cloud.call(.get, path, key: owner.key) }

    private func function(_ more: KeyValuePairs<String, JSON> = [:]) -> JSON {
        let body: JSON = ["name": "hello-world", "runtime": "nodejs20", "code_zip": Self.text(Self.zip)]
        guard case .object(let members) = body else { return body }
        return JSON.object(members.filter { member in !more.contains { $0.key == member.name } }).adding(more)
    }

    private func made(_ more: KeyValuePairs<String, JSON> = [:]) throws -> String {
        let answer = post("/functions", function(more))
        return "/functions/" + (try #require(answer["data"]?["id"]?.string, "\(answer)"))
    }

    private func literal(
        _ name: String = "hello-world", runtime: String = "nodejs20", handler: String = "index.handler", timeout: Int = 30,
        memory: Int = 128, env: String = "{}", size: Int = zip.bytes.count
    ) -> String {
        """
        {"id": "$id", "name": "\(name)", "runtime": "\(runtime)", "handler": "\(handler)", "timeout": \(timeout), "memory_mb": \(memory),
        "env": \(env), "code_size": \(size), "code_sha256": "$text", "created_at": "$time", "updated_at": "$time"}
        """
    }

    @Test func theDocumentedFunction() throws {
        let answer = post("/functions", function())
        expect(answer, 201, #"{"data": \#(literal())}"#)
        let digest = SHA256.digest(Self.zip.bytes).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        #expect(answer["data"]?["code_sha256"]?.string == digest)
        let path = "/functions/" + (try #require(answer["data"]?["id"]?.string))
        expect(get(path), 200, answer.text)
        expect(get("/functions"), 200, #"{"data": [\#(literal())], "meta": {"next_cursor": null}}"#)
        expect(post("/functions", function()), 409, error: "conflict", "ALREADY_EXISTS", "You have a function of this name already")
        #expect(cloud.call(.get, path, key: try cloud.newOwner().key).status == 404)
        let python = ZipMaker(["src/app.py": "def main(payload): pass"])
        let change: JSON = [
            "name": "hello-2", "runtime": "python312", "code_zip": Self.text(python), "handler": "src/app.main", "timeout": 900,
            "memory_mb": 64, "env": ["KEY": "geheim", "A": ""],
        ]
        let after = literal(
            "hello-2", runtime: "python312", handler: "src/app.main", timeout: 900, memory: 64,
            env: #"{"A": "********", "KEY": "********"}"#, size: python.bytes.count)
        expect(put(path, change), 200, #"{"data": \#(after)}"#)
        expect(get(path), 200, #"{"data": \#(after)}"#)
        expect(cloud.call(.delete, path, key: owner.key), 200, #"{"message": "Function deleted"}"#)
        #expect(get(path).status == 404 && post(path + "/invoke", [:]).status == 404 && get(path + "/logs").status == 404)
        let told = try cloud.admin("select string_agg(type, ' ' order by id) from events where owner_id = \(owner.id)::uuid")
        #expect(told.scalar(String.self) == "function.created function.updated function.deleted")
        let audit = try cloud.admin(
            "select string_agg(action, ' ' order by id) from audit_log where owner_id = \(owner.id)::uuid and resource_type = 'function'")
        #expect(audit.scalar(String.self) == "function.created function.updated function.deleted")
    }

    @Test func theEnvironmentIsSealed() throws {
        let path = try made(["env": ["PASSWORD": "geheim"]])
        let rows = try cloud.admin(
            "select (f.*)::text || c.code::text from functions f join function_code c on c.function_id = f.id where f.owner_id = \(owner.id)::uuid"
        )
        #expect(try #require(rows.scalar(String.self)).contains("geheim") == false && !get(path).text.contains("geheim"))
        #expect(put(path, ["env": ["PASSWORD": "********"]]).badFields == ["env"])
        expect(put(path, ["env": [:]]), 200, #"{"data": \#(literal())}"#)
    }

    @Test func everyBadFieldIsNamed() {
        let bad: JSON = [
            "name": "a b", "runtime": "cobol85", "code_zip": "<base64>", "handler": "../index.handler", "timeout": 901, "memory_mb": 63,
            "env": ["A=B": "x"],
        ]
        #expect(post("/functions", bad).badFields == ["name", "runtime", "code_zip", "handler", "timeout", "memory_mb", "env"])
        #expect(post("/functions", [:]).badFields == ["name", "runtime", "code_zip"])
    }

    @Test(arguments: [
        "index", "index.", ".handler", "/index.handler", "a//b.handler", "../a.handler", "index.handler.x", "index.1", "a b.c", "",
    ])
    func handlersThatNameNothing(handler: String) {
        #expect(post("/functions", function(["handler": .string(handler)])).badFields == ["handler"])
    }

    @Test func zipFilesThatAreRefused() {
        func refusal(_ zip: ZipMaker) -> String? {
            post("/functions", function(["code_zip": Self.text(zip)]))["errors"]?[0]?["message"]?.string
        }
        var slip = Self.zip
        slip.add("../evil.js", "1")
        #expect(refusal(slip) == "has an entry with a forbidden path: ../evil.js")
        var link = Self.zip
        link.add("evil.js", "/etc/passwd") { $0.mode = 0o120777 }
        #expect(refusal(link) == "has an entry that is neither file nor folder: evil.js")
        var bomb = Self.zip
        bomb.addZeros("zeros", count: 8 << 20)
        #expect(refusal(bomb) == "unpacks to more than \(bomb.bytes.count * 100) bytes")
        #expect(refusal(ZipMaker(["main.js": "1"])) == "must have index.js or index.mjs or index.cjs for the handler index.handler")
        for text in ["bm90IGEgemlw", "bm90IGEgemlwIQ==", "bm90IGEgemk="] {
            expect(
                post("/functions", function(["code_zip": .string(text)])), 400, error: "bad_request", "VALIDATION_FAILED",
                "code_zip is no zip file", fields: ["code_zip": "is no zip file"])
        }
        for text in ["=", "====", "bm90IGEgemlwI===", "bm90IGEgemlwI=Q=", "bm 90", ""] {
            expect(
                post("/functions", function(["code_zip": .string(text)])), 400, error: "bad_request", "VALIDATION_FAILED",
                "code_zip must be a zip file of at most 33554432 bytes in base64",
                fields: ["code_zip": "must be a zip file of at most 33554432 bytes in base64"])
        }
    }

    @Test func base64MayHaveLines() {
        let text = Base64.standard.padded(Self.zip.bytes)
        let lines = stride(from: 0, to: text.count, by: 76).map { text.dropFirst($0).prefix(76) }.joined(separator: "\n") + "\n"
        #expect(post("/functions", function(["code_zip": .string(lines)])).status == 201)
    }

    @Test func theHandlerMustBeInTheCode() throws {
        let path = try made()
        #expect(put(path, ["handler": "main.handler"]).badFields == ["handler"])
        #expect(put(path, ["runtime": "python312"]).badFields == ["runtime"])
        #expect(put(path, ["code_zip": Self.text(ZipMaker(["main.js": "1"]))]).badFields == ["code_zip"])
        #expect(put(path, ["code_zip": Self.text(ZipMaker(["main.js": "1"])), "handler": "main.handler"]).status == 200)
        #expect(put(path, [:]).badFields == ["code_zip"])
    }

    /// A sandbox is made of all but name and timeout.
    @Test func whatNeedsNewSandboxes() throws {
        let path = try made()
        func version() throws -> ID {
            try #require(try cloud.admin("select version from functions where owner_id = \(owner.id)::uuid").scalar(ID.self))
        }
        let first = try version()
        #expect(put(path, ["name": "other", "timeout": 5]).status == 200)
        #expect(try version() == first)
        var last = first
        let changes: [JSON] = [["env": ["A": "1"]], ["memory_mb": 256], ["handler": "index.other"], ["code_zip": Self.text(Self.zip)]]
        for change in changes {
            #expect(put(path, change).status == 200)
            #expect(try version() != last)
            last = try version()
        }
    }

    @Test func theQuotaHolds() throws {
        for number in 1...3 { _ = try made(["name": .string("f\(number)")]) }
        expect(
            post("/functions", function(["name": "f4"])), 403, error: "forbidden", "QUOTA_EXCEEDED", "Quota exceeded: at most 3 functions")
    }

    @Test func anAsynchronousInvocationIsStoredAndWished() throws {
        let path = try made()
        let pending = """
            {"id": "$id", "function_id": "\(path.dropFirst(11))", "status": "PENDING", "async": true, "attempt": 0, "result": null, "error": null,
            "logs": "", "is_truncated": false, "duration_ms": null, "cold_start": null, "created_at": "$time", "started_at": null,
            "finished_at": null}
            """
        let answer = cloud.call(
            .post, path + "/invoke", key: owner.key, text: #"{"payload": {"foo": "bar"}, "async": true}"#,
            headers: ["Idempotency-Key": "once"])
        expect(answer, 202, #"{"data": \#(pending)}"#)
        let id = try #require(answer["data"]?["id"]?.string)
        let again = cloud.call(
            .post, path + "/invoke", key: owner.key, text: #"{"payload": {"foo": "bar"}, "async": true}"#,
            headers: ["Idempotency-Key": "once"])
        #expect(again.status == 202 && again.text == answer.text)
        expect(get("\(path)/invocations/\(id)"), 200, answer.text)
        let entry = """
            {"id": "\(id)", "function_id": "\(path.dropFirst(11))", "status": "PENDING", "async": true, "attempt": 0, "error": null,
            "duration_ms": null, "cold_start": null, "created_at": "$time", "started_at": null, "finished_at": null}
            """
        expect(get("\(path)/invocations"), 200, #"{"data": [\#(entry)], "meta": {"next_cursor": null}}"#)
        let log = """
            {"invocation_id": "\(id)", "status": "PENDING", "async": true, "logs": "", "is_truncated": false, "error": null,
            "duration_ms": null, "cold_start": null, "created_at": "$time", "started_at": null, "finished_at": null}
            """
        expect(get("\(path)/logs?limit=1"), 200, #"{"data": [\#(log)], "meta": {"next_cursor": null}}"#)
        #expect(try cloud.admin("select payload from invocations where id = \(id)::uuid").scalar(String.self) == #"{"foo":"bar"}"#)
        #expect(try cloud.admin("select count(*)::int from jobs where kind = 'invocation' and subject = \(id)").scalar(Int.self) == 1)
        let other = try made(["name": "other"])
        #expect(get("\(other)/invocations/\(id)").status == 404)
    }

    @Test func tooManyMayNotWait() throws {
        let path = try made()
        try cloud.admin(
            """
            insert into invocations (id, owner_id, function_id, is_async) select new_id(), owner_id, id, true from functions,
            generate_series(1, 1000) where owner_id = \(owner.id)::uuid
            """)
        expect(
            post(path + "/invoke", ["async": true]), 403, error: "forbidden", "QUOTA_EXCEEDED",
            "Quota exceeded: at most 1000 invocations that wait")
    }

    @Test func withoutAnEngineItIsUnavailableAndTheHistorySaysSo() throws {
        let path = try made()
        #expect(post(path + "/invoke").code == "UNAVAILABLE")
        let found = get(path + "/invocations")["data"]?[0]
        #expect(found?["status"] == "FAILED" && found?["error"] == "the function could not be run: the service was briefly unavailable")
        #expect(post(path + "/invoke", ["async": "yes"]).badFields == ["async"])
    }
}
