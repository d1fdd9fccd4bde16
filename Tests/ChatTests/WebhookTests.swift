// Webhooks through the door: bodies, what is refused, whose they are; and which events become which deliveries.
import API
import Crypto
import HTTP
import Postgres
import TestSupport
import Testing

struct WebhookTests {
    let cloud: TestCloud

    init() throws { cloud = try TestCloud() }

    private static let shape = """
        {"id": "$id", "name": NAME, "url": "https://hooks.example/in?a=b", "events": EVENTS, "is_active": true, "disabled_reason": null,
        "created_at": "$time", "updated_at": "$time"SECRET}
        """

    private func shape(_ name: String = "null", _ events: String = "[]", secret: Bool = false) -> String {
        Self.shape.replacing("NAME", with: name).replacing("EVENTS", with: events).replacing(
            "SECRET", with: secret ? #", "secret": "$text""# : "")
    }

    private func create(_ owner: Owner, _ members: KeyValuePairs<String, JSON> = [:]) throws -> (id: String, secret: String) {
        let body: JSON = ["url": "https://hooks.example/in?a=b"]
        let answer = cloud.call(.post, "/api/v1/webhooks", key: owner.key, json: body.adding(members))
        return (try #require(answer["id"]?.string, "\(answer)"), try #require(answer["secret"]?.string))
    }

    @Test func theLifeOfAWebhook() throws {
        let owner = try cloud.newOwner()
        let made = cloud.call(
            .post, "/api/v1/webhooks", key: owner.key,
            json: ["name": "My hook", "url": "https://hooks.example/in?a=b", "events": ["run.completed", "message.*"]])
        expect(made, 201, shape(#""My hook""#, #"["run.completed", "message.*"]"#, secret: true))
        #expect(made.header("Cache-Control") == "no-store")
        let id = try #require(made["id"]?.string)
        let secret = try #require(made["secret"]?.string.flatMap(WebhookSecret.init))
        let stored = try cloud.admin("select secret_sealed from webhooks where id = \(id)::uuid").scalar([UInt8].self) ?? []
        #expect(try cloud.config.keyring.open(stored, .webhookSecret, of: try #require(ID(id))) == secret.bytes)
        expect(cloud.call(.get, "/api/v1/webhooks/\(id)", key: owner.key), 200, shape(#""My hook""#, #"["run.completed", "message.*"]"#))
        expect(
            cloud.call(.get, "/api/v1/webhooks", key: owner.key), 200,
            #"{"data": [\#(shape(#""My hook""#, #"["run.completed", "message.*"]"#))], "meta": {"next_cursor": null}}"#)
        expect(cloud.call(.put, "/api/v1/webhooks/\(id)", key: owner.key, json: ["events": []]), 200, shape(#""My hook""#, "[]"))
        let rotated = cloud.call(.post, "/api/v1/webhooks/\(id)/rotate", key: owner.key)
        expect(rotated, 200, shape(#""My hook""#, "[]", secret: true))
        #expect(rotated["secret"] != made["secret"] && rotated.header("Cache-Control") == "no-store")
        expect(cloud.call(.delete, "/api/v1/webhooks/\(id)", key: owner.key), 200, #"{"message": "Webhook deleted"}"#)
        #expect(cloud.call(.get, "/api/v1/webhooks/\(id)", key: owner.key).status == 404)
        let actions = try cloud.admin(
            "select array_agg(action order by id) from audit_log where owner_id = \(owner.id)::uuid and resource_id = \(id)::uuid")
        #expect(actions.scalar([String].self) == ["webhook.created", "webhook.updated", "webhook.rotated", "webhook.deleted"])
        let audit = try cloud.admin("select string_agg(detail::text, '') from audit_log where resource_id = \(id)::uuid")
        #expect(audit.scalar(String.self)?.contains("hooks.example") == false, "a URL may hold a secret")
    }

    @Test func badBodiesAreRefused() throws {
        let owner = try cloud.newOwner()
        let answer = cloud.call(
            .post, "/api/v1/webhooks", key: owner.key, json: ["name": "", "url": "ftp://x/", "events": ["run"], "is_active": 1])
        #expect(answer.status == 400 && answer.code == "VALIDATION_FAILED" && answer.badFields == ["name", "url", "events"], "\(answer)")
        for events in [["*"], ["Run.x"], ["run."], [".x"], ["run.*.x"], [1], [.string("a." + String(repeating: "x", count: 100))]] as [JSON]
        {
            let answer = cloud.call(.post, "/api/v1/webhooks", key: owner.key, json: ["url": "https://x/", "events": events])
            #expect(answer.badFields == ["events"], "\(events.text): \(answer)")
        }
        let id = try create(owner).id
        expect(
            cloud.call(.put, "/api/v1/webhooks/\(id)", key: owner.key, json: [:]), 400, error: "bad_request", "VALIDATION_FAILED",
            "url or name, events or is_active is required", fields: ["url": "or name, events or is_active is required"])
        #expect(cloud.call(.post, "/api/v1/webhooks", key: owner.key, json: [:]).badFields == ["url"])
    }

    @Test(arguments: ["http://127.0.0.1/", "http://[::1]:80/", "http://169.254.169.254/", "http://10.1.2.3/x", "http://[::ffff:7f00:1]/"])
    func forbiddenTargetsAreToldApart(url: String) throws {
        let owner = try cloud.newOwner()
        let why = "must not lead to a loopback, private, link-local, multicast or otherwise reserved address"
        let id = try create(owner).id
        for answer in [
            cloud.call(.post, "/api/v1/webhooks", key: owner.key, json: ["url": .string(url)]),
            cloud.call(.put, "/api/v1/webhooks/\(id)", key: owner.key, json: ["url": .string(url)]),
        ] { expect(answer, 400, error: "bad_request", "TARGET_FORBIDDEN", "url \(why)", fields: ["url": why]) }
        let open = try TestCloud(["THECLOUD_EGRESS_ALLOW": "127.0.0.0/8, ::1/128,10.0.0.0/8,169.254.0.0/16"])
        #expect(open.call(.post, "/api/v1/webhooks", key: owner.key, json: ["url": .string(url)]).status == 201)
    }

    @Test func badSettingsAreReported() {
        for (name, value) in [
            ("THECLOUD_EGRESS_ALLOW", "10.0.0.1/8"), ("THECLOUD_RETENTION_DELIVERIES", "0"), ("THECLOUD_QUOTA_WEBHOOKS", "x"),
        ] {
            let error = #expect(throws: Config.Problems.self) { try TestCloud.config([name: value], url: "postgresql:///x") }
            #expect(error?.lines.count == 1 && error?.description.contains(name) == true)
        }
    }

    /// The usual quota, not a setting of this test.
    @Test func fiftyWebhooksAreEnough() throws {
        let owner = try cloud.newOwner()
        try cloud.admin(
            "insert into webhooks (id, owner_id, url, secret_sealed) select new_id(), \(owner.id)::uuid, 'http://x/', '' from generate_series(1, 49)"
        )
        _ = try create(owner)
        expect(
            cloud.call(.post, "/api/v1/webhooks", key: owner.key, json: ["url": "https://x/"]), 403, error: "forbidden", "QUOTA_EXCEEDED",
            "Quota exceeded: at most 50 webhooks")
        _ = try create(try cloud.newOwner())
    }

    /// A client with its master key has webhooks of its own; a member's key has none.
    @Test func masterKeysMayAndScopedKeysMayNot() throws {
        let (client, member) = (ID(at: .now()), ID(at: .now()))
        let (master, scoped) = (KeyText.make(prefix: "ck_live_"), KeyText.make(prefix: "sk_user_"))
        try cloud.admin("insert into users (id, name, role) values (\(client), 'Client', 'client')")
        try cloud.admin("insert into members (id, owner_id, email, email_key, username) values (\(member), \(client), 'a@b', 'a@b', 'a')")
        try cloud.admin(
            """
            insert into api_keys (id, owner_id, kind, name, prefix, key_hash, member_id) values
            (new_id(), \(client), 'master', 'm', 'x', \(KeyText.digest(master)), null),
            (new_id(), \(client), 'scoped', 's', 'x', \(KeyText.digest(scoped)), \(member))
            """)
        func call(_ method: HTTP.Method, _ path: String, _ key: String, json: JSON? = nil) -> Answer {
            cloud.call(method, path, json: json, headers: ["Authorization": "Bearer \(key)"])
        }
        let made = call(.post, "/api/v1/webhooks", master, json: ["url": "https://hooks.example/in?a=b"])
        expect(made, 201, shape(secret: true))
        let id = try #require(made["id"]?.string)
        #expect(call(.get, "/api/v1/webhooks/\(id)/deliveries", master).text == #"{"data":[],"meta":{"next_cursor":null}}"#)
        for (method, path) in [(HTTP.Method.get, ""), (.post, ""), (.get, "/\(id)"), (.delete, "/\(id)"), (.post, "/\(id)/test")] {
            let refused = call(method, "/api/v1/webhooks" + path, scoped, json: method == .post ? ["url": "https://x/"] : nil)
            expect(
                refused, 403, error: "forbidden", "INSUFFICIENT_PERMISSIONS", "Insufficient permissions for this operation")
        }
        #expect(cloud.call(.get, "/api/v1/webhooks/\(id)", key: try cloud.newOwner().key).status == 404)
        #expect(call(.delete, "/api/v1/webhooks/\(id)", master).status == 200)
    }

    // MARK: - Deliveries

    private func event(_ owner: Owner, _ type: String, _ data: JSON = [:]) throws -> String {
        let id = ID(at: .now())
        try cloud.admin(
            "insert into events (id, owner_id, type, data) values (\(id), \(owner.id)::uuid, \(type), \(data)::jsonb)")
        return id.description
    }

    /// As the publisher does it: by the role of thecloud-cron.
    private func fanOut(_ ids: [String]) throws -> Int {
        try Connection(url: cloud.database.cron).begin().commit("select fan_out_webhooks(\(ids)::uuid[])").scalar() ?? -1
    }

    @Test func eventsReachTheWebhooksThatWantThem() throws {
        let (owner, other) = (try cloud.newOwner(), try cloud.newOwner())
        let all = try create(owner).id
        let exact = try create(owner, ["events": ["run.completed", "run.failed"]]).id
        let kind = try create(owner, ["events": ["run.*"]]).id
        let unrelated = try create(owner, ["events": ["running.*", "run.complete"]]).id
        let off = try create(owner).id
        #expect(cloud.call(.put, "/api/v1/webhooks/\(off)", key: owner.key, json: ["is_active": false]).status == 200)
        let foreign = try create(other).id
        let events = [
            try event(owner, "run.completed", ["name": "a b"]), try event(owner, "run.created"), try event(owner, "message.created"),
        ]
        #expect(try fanOut(events) == 3 + 1 + 2)
        #expect(try fanOut(events + events) == 0, "again makes nothing new")
        #expect(try fanOut([]) == 0)
        for (webhook, count) in [(all, 3), (exact, 1), (kind, 2), (unrelated, 0), (off, 0), (foreign, 0)] {
            let made = try cloud.admin(
                """
                select count(*) from webhook_deliveries d join jobs j on j.kind = 'webhook_delivery' and j.subject = d.id::text
                where d.webhook_id = \(webhook)::uuid
                """)
            #expect(made.scalar(Int.self) == count)
        }
        expect(
            cloud.call(.get, "/api/v1/webhooks/\(exact)/deliveries", key: owner.key), 200,
            """
            {"data": [{"id": "$id", "webhook_id": "\(exact)", "event_id": "\(events[0])", "event_type": "run.completed", "status": "PENDING",
            "attempts": 0, "next_attempt_at": "$time", "response_status": null, "response_excerpt": null, "error": null, "duration_ms": null,
            "payload": {"id": "\(events[0])", "type": "run.completed", "timestamp": "$time", "data": {"name": "a b"}},
            "created_at": "$time", "finished_at": null}], "meta": {"next_cursor": null}}
            """)
        let body = try cloud.admin("select body from webhook_deliveries where webhook_id = \(exact)::uuid").scalar(String.self) ?? ""
        #expect(
            body.wholeMatch(
                of: /\{"id":"[0-9a-f-]{36}","type":"run\.completed","timestamp":"[0-9T:.-]{26}Z","data":\{"name":"a b"\}\}/) != nil,
            "\(body)")
        let first = cloud.call(.get, "/api/v1/webhooks/\(all)/deliveries?limit=2", key: owner.key)
        let cursor = try #require(first["meta"]?["next_cursor"]?.string)
        let second = cloud.call(.get, "/api/v1/webhooks/\(all)/deliveries?limit=2&cursor=\(cursor)", key: owner.key)
        #expect(first["data"]?.array?.count == 2 && second["data"]?.array?.count == 1)
        #expect(cloud.call(.get, "/api/v1/webhooks/\(all)/deliveries", key: other.key).status == 404)
    }

    @Test func dataArrivesAsItWasWhateverStandsInIt() throws {
        let owner = try cloud.newOwner()
        _ = try create(owner)
        let data: JSON = ["a \"b\" \\": "x\n\t, : { } é", "n": [1, 2, [:], nil], "": "  "]
        #expect(try fanOut([try event(owner, "a.b", data)]) == 1)
        let body = try cloud.admin("select body from webhook_deliveries where owner_id = \(owner.id)::uuid").scalar(String.self) ?? ""
        let arrived = try JSON(parsing: Array(body.utf8))
        for name in ["a \"b\" \\", "n", ""] { #expect(arrived["data"]?[name] == data[name], "\(body)") }
    }

    @Test func aTestAndAReplay() throws {
        let owner = try cloud.newOwner()
        let webhook = try create(owner, ["events": ["run.completed"]]).id
        let answer = cloud.call(.post, "/api/v1/webhooks/\(webhook)/test", key: owner.key)
        let delivery = """
            {"id": "$id", "webhook_id": "\(webhook)", "event_id": "$id", "event_type": "webhook.test", "status": "PENDING", "attempts": 0,
            "next_attempt_at": "$time", "response_status": null, "response_excerpt": null, "error": null, "duration_ms": null,
            "payload": {"id": "$id", "type": "webhook.test", "timestamp": "$time", "data": {"webhook_id": "\(webhook)"}},
            "created_at": "$time", "finished_at": null}
            """
        expect(answer, 200, #"{"message": "A test message goes out", "delivery": \#(delivery)}"#)
        let id = try #require(answer["delivery"]?["id"]?.string)
        try cloud.admin(
            """
            update webhook_deliveries set status = 'FAILED', attempts = 10, next_attempt_at = null, finished_at = now() where id = \(id)::uuid
            """)
        try cloud.admin("delete from jobs where subject = \(id)")
        let path = "/api/v1/webhooks/\(webhook)/deliveries/\(id)/replay"
        let replayed = cloud.call(.post, path, key: owner.key)
        expect(replayed, 200, #"{"message": "The message goes out again", "delivery": \#(delivery)}"#)
        #expect(replayed["delivery"]?["id"]?.string == id)
        #expect(try cloud.admin("select count(*) from jobs where subject = \(id)").scalar(Int.self) == 1)
        let other = try create(owner).id
        #expect(cloud.call(.post, "/api/v1/webhooks/\(other)/deliveries/\(id)/replay", key: owner.key).status == 404)
        #expect(cloud.call(.put, "/api/v1/webhooks/\(webhook)", key: owner.key, json: ["is_active": false]).status == 200)
        for path in [path, "/api/v1/webhooks/\(webhook)/test"] { #expect(cloud.call(.post, path, key: owner.key).code == "CONFLICT") }
    }

    @Test func goingOnClearsTheReason() throws {
        let owner = try cloud.newOwner()
        let id = try create(owner).id
        try cloud.admin("update webhooks set is_active = false, disabled_reason = 'gone' where id = \(id)::uuid")
        #expect(cloud.call(.put, "/api/v1/webhooks/\(id)", key: owner.key, json: ["name": "x"])["disabled_reason"] == "gone")
        expect(cloud.call(.put, "/api/v1/webhooks/\(id)", key: owner.key, json: ["is_active": true]), 200, shape(#""x""#))
    }
}
