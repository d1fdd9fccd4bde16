// Deliveries to a real receiver: what it sees, what its answers mean, and the schedule under a clock that the test turns.
import API
import Crypto
import HTTP
import Outbound
import Postgres
import Synchronization
import TestSupport
import Testing

@testable import Jobs

struct WebhookDeliveryTests {
    let cloud: TestCloud
    let owner: Owner
    private let clock = Clock()

    init() throws {
        cloud = try TestCloud(Self.settings)
        owner = try cloud.newOwner()
    }

    private static let settings = ["THECLOUD_EGRESS_ALLOW": "127.0.0.0/8"]

    private final class Clock: Sendable {
        /// Ahead of the database's, so that what is due now is due by this one.
        private let time = Mutex(Timestamp.now().microseconds + 60_000_000)
        var now: Timestamp { Timestamp(microseconds: time.withLock { $0 }) }
        func advance(_ seconds: Double) { time.withLock { $0 += Int(seconds * 1_000_000) } }
    }

    /// What one thread of thecloud-cron has; no engine is asked.
    private func workbench(_ settings: [String: String] = settings) throws -> Workbench {
        var bench = Workbench(
            config: try TestCloud.config(settings, url: cloud.database.cron), connection: Connection(url: cloud.database.cron),
            engine: try #require(TestCloud.deadEngine()), names: EngineNames(stack: ID(at: .now())))
        bench.now = { [clock] in clock.now }
        return bench
    }

    private func webhook(_ url: String) throws -> (id: String, secret: WebhookSecret) {
        let answer = cloud.call(.post, "/api/v1/webhooks", key: owner.key, json: ["url": .string(url)])
        return (try #require(answer["id"]?.string, "\(answer)"), try #require(answer["secret"]?.string.flatMap(WebhookSecret.init)))
    }

    private func webhook(_ server: LocalServer) throws -> (id: String, secret: WebhookSecret) {
        try webhook("http://127.0.0.1:\(server.port)/hook?x=1")
    }

    /// An event as a handler emits it, fanned out as the publisher does; the delivery's id.
    private func emit(to webhook: String, _ type: String = "run.completed") throws -> ID {
        let event = ID(at: .now())
        try cloud.admin("insert into events (id, owner_id, type, data) values (\(event), \(owner.id)::uuid, \(type), '{\"n\": 1}')")
        let made = try Connection(url: cloud.database.cron).begin().commit("select fan_out_webhooks(\([event.description])::uuid[])")
        #expect((made.scalar(Int.self) ?? 0) >= 1)
        let id = try cloud.admin("select id from webhook_deliveries where webhook_id = \(webhook)::uuid and event_id = \(event)")
        return try #require(id.scalar(ID.self))
    }

    private func run(_ id: ID, _ bench: Workbench? = nil) throws -> Job.Outcome {
        try DeliveryRound(bench: try bench ?? workbench(), source: WebhookDelivery.source, id: id, timeout: 2000).run()
    }

    private func log(_ webhook: String) -> [JSON] {
        cloud.call(.get, "/api/v1/webhooks/\(webhook)/deliveries", key: owner.key)["data"]?.array ?? []
    }

    private func seconds(_ outcome: Job.Outcome) -> Double? { if case .again(let seconds) = outcome { seconds } else { nil } }

    @Test func theReceiverSeesASignedMessage() throws {
        let seen = Recorder<LocalServer.Received>()
        let server = LocalServer.http { request in
            seen.add(request)
            return ok("thanks", status: "202 Accepted")
        }
        let (webhook, secret) = try webhook(server)
        let id = try emit(to: webhook)
        #expect(try run(id) == .done)
        let request = try #require(seen.values.first)
        #expect(request.line == "POST /hook?x=1 HTTP/1.1" && request.header("content-type") == "application/json")
        #expect(request.header("webhook-id") == id.description)
        let timestamp = try #require(request.header("webhook-timestamp").flatMap { Int($0) })
        #expect(timestamp == clock.now.microseconds / 1_000_000)
        let mac = HMAC.sha256(key: secret.bytes, Array("\(id).\(timestamp).".utf8) + request.body)
        #expect(request.header("webhook-signature") == "v1," + Base64.standard.padded(mac))
        let entry = try #require(log(webhook).first)
        #expect(try JSON(parsing: request.body)["id"] == entry["event_id"])
        #expect(entry["status"] == "DELIVERED" && entry["attempts"] == 1 && entry["response_status"] == 202, "\(entry.text)")
        #expect(entry["response_excerpt"] == "thanks" && entry["error"] == .null && entry["next_attempt_at"] == .null)
        #expect(entry["finished_at"] != .null && entry["duration_ms"]?.int != nil)
        // Another wish, or a job that a killed process left behind, sends nothing again.
        for _ in 0..<3 { #expect(try run(id) == .done) }
        #expect(seen.values.count == 1)
    }

    @Test func aFailureIsTriedAgainWithTheSameID() throws {
        let seen = Recorder<LocalServer.Received>()
        let server = LocalServer.http { request in
            seen.add(request)
            return seen.values.count == 1 ? ok("no\u{0}pe", status: "500 Internal Server Error") : ok("")
        }
        let webhook = try webhook(server).id
        let id = try emit(to: webhook)
        let pause = try #require(seconds(try run(id)))
        #expect((4.5...5.5).contains(pause))
        let entry = try #require(log(webhook).first)
        #expect(entry["status"] == "PENDING" && entry["attempts"] == 1 && entry["response_status"] == 500)
        #expect(entry["error"] == "the receiver answered 500" && entry["response_excerpt"] == "nope")
        // Early, whoever wishes it: it waits for its time, and the schedule goes on where it was.
        try cloud.admin("select enqueue('webhook_delivery', \(id.description), null)")
        let rest = try #require(seconds(try run(id)))
        #expect(rest > 0 && rest <= pause && seen.values.count == 1)
        clock.advance(pause + 0.001)
        #expect(try run(id) == .done)
        #expect(seen.values.map { $0.header("webhook-id") } == [id.description, id.description])
        #expect(seen.values[0].body == seen.values[1].body)
        #expect(seen.values[0].header("webhook-signature") != seen.values[1].header("webhook-signature"))
        #expect(log(webhook).first?["status"] == "DELIVERED" && log(webhook).first?["attempts"] == 2)
    }

    @Test func theWholeSchedule() throws {
        let seen = Recorder<String>()
        let server = LocalServer.http { request in
            seen.add(request.header("webhook-id") ?? "")
            return ok("", status: "503 Service Unavailable")
        }
        let webhook = try webhook(server).id
        let id = try emit(to: webhook)
        let bench = try workbench()
        var pauses: [Double] = []
        while let pause = seconds(try run(id, bench)) {
            pauses.append(pause)
            clock.advance(pause - 0.01)
            #expect(try #require(seconds(try run(id, bench))) < 0.02, "not a moment too early")
            clock.advance(0.02)
        }
        let expected: [Double] = [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
        #expect(pauses.count == 9 && zip(pauses, expected).allSatisfy { ($1 * 0.9...$1 * 1.1).contains($0) }, "\(pauses)")
        #expect(Set(seen.values) == [id.description] && seen.values.count == 10)
        #expect(log(webhook).first?["status"] == "FAILED" && log(webhook).first?["attempts"] == 10)
        // A replay begins anew, with the same id.
        #expect(cloud.call(.post, "/api/v1/webhooks/\(webhook)/deliveries/\(id)/replay", key: owner.key).status == 200)
        #expect((4.5...5.5).contains(try #require(seconds(try run(id, bench)))))
        #expect(Set(seen.values) == [id.description] && seen.values.count == 11)
    }

    @Test func redirectsAreFailures() throws {
        let inner = LocalServer.http { _ in ok("") }
        let server = LocalServer.http { _ in ok("", status: "301 Moved Permanently", "Location: http://127.0.0.1:\(inner.port)/") }
        let webhook = try webhook(server).id
        #expect(seconds(try run(try emit(to: webhook))) != nil)
        #expect(inner.connections == 0)
        #expect(log(webhook).first?["error"] == "the receiver answered 301; redirects are not followed")
    }

    @Test func goneDisablesTheWebhook() throws {
        let server = LocalServer.http { _ in ok("bye", status: "410 Gone") }
        let webhook = try webhook(server).id
        let deliveries = [try emit(to: webhook), try emit(to: webhook)]
        #expect(try run(deliveries[0]) == .done)
        let shown = cloud.call(.get, "/api/v1/webhooks/\(webhook)", key: owner.key)
        #expect(shown["is_active"] == false && shown["disabled_reason"] == "The receiver answered 410 Gone")
        #expect(log(webhook).map { $0["status"] } == ["FAILED", "FAILED"])
        #expect(log(webhook).map { $0["attempts"] } == [0, 1])
        #expect(try run(deliveries[1]) == .done)
        #expect(server.connections == 1)
        let audit = try cloud.admin(
            "select count(*) from audit_log where owner_id = \(owner.id)::uuid and action = 'webhook.disabled' and resource_id = \(webhook)::uuid"
        )
        #expect(audit.scalar(Int.self) == 1)
    }

    @Test func silenceIsAFailure() throws {
        let server = LocalServer { $0.awaitEnd() }
        let webhook = try webhook(server).id
        let id = try emit(to: webhook)
        let start = ContinuousClock.now
        let outcome = try DeliveryRound(bench: try workbench(), source: WebhookDelivery.source, id: id, timeout: 300).run()
        #expect(seconds(outcome) != nil && ContinuousClock.now - start < .seconds(3))
        let entry = try #require(log(webhook).first)
        #expect(entry["error"] == "no complete answer in time" && entry["response_status"] == .null)
    }

    @Test func nobodyThereIsAFailure() throws {
        let webhook = try webhook("http://127.0.0.1:1/").id
        #expect(seconds(try run(try emit(to: webhook))) != nil)
        #expect(log(webhook).first?["error"]?.string?.isEmpty == false)
    }

    @Test func aWishToWaitIsHonoured() throws {
        let wishes = Mutex(["600", "1", "999999"])
        let server = LocalServer.http { _ in
            let wish = wishes.withLock { $0.removeFirst() }
            return ok("", status: "429 Too Many Requests", "Retry-After: \(wish)")
        }
        let id = try emit(to: try webhook(server).id)
        let first = try #require(seconds(try run(id)))
        #expect(first == 600, "longer than the schedule")
        clock.advance(first)
        let second = try #require(seconds(try run(id)))
        #expect((270...330).contains(second), "shorter than the schedule")
        clock.advance(second)
        #expect(try #require(seconds(try run(id))) == 86400, "a day at most")
    }

    @Test func aForbiddenTargetIsNotConnectedTo() throws {
        let server = LocalServer.http { _ in ok("") }
        for url in ["http://127.0.0.1:\(server.port)/", "http://localhost:\(server.port)/"] {
            let webhook = try webhook(url).id
            #expect(seconds(try run(try emit(to: webhook), try workbench([:]))) != nil)
            let error = log(webhook).first?["error"]?.string
            #expect(error?.hasPrefix("TARGET_FORBIDDEN: the URL must not lead to") == true && error?.contains("127.0") == false)
        }
        #expect(server.connections == 0)
    }

    @Test func whatIsSwitchedOffOrDeletedEndsQuietly() throws {
        let server = LocalServer.http { _ in ok("") }
        let (off, deleted) = (try webhook(server).id, try webhook(server).id)
        let stopped = try emit(to: off)
        let orphan = try emit(to: deleted)
        #expect(cloud.call(.put, "/api/v1/webhooks/\(off)", key: owner.key, json: ["is_active": false]).status == 200)
        #expect(cloud.call(.delete, "/api/v1/webhooks/\(deleted)", key: owner.key).status == 200)
        for id in [stopped, orphan, ID(at: .now())] { #expect(try run(id) == .done) }
        #expect(try WebhookDelivery.job.run(try workbench(), "no id") == .done)
        #expect(server.connections == 0)
        #expect(log(off).first { $0["id"]?.string == stopped.description }?["error"] == "the webhook is not active")
    }

    /// A long answer is cut, and what is kept of it stays readable.
    @Test func aLongAnswerCountsByItsStatus() throws {
        let server = LocalServer.http { _ in ok(String(repeating: "é", count: 200_000)) }
        let webhook = try webhook(server).id
        #expect(try run(try emit(to: webhook)) == .done)
        let excerpt = try #require(log(webhook).first?["response_excerpt"]?.string)
        #expect(excerpt == String(repeating: "é", count: 512))
    }

    @Test func aRotatedSecretSignsTheNextAttempt() throws {
        let seen = Recorder<LocalServer.Received>()
        let server = LocalServer.http { request in
            seen.add(request)
            return ok("")
        }
        let webhook = try webhook(server).id
        let id = try emit(to: webhook)
        let rotated = cloud.call(.post, "/api/v1/webhooks/\(webhook)/rotate", key: owner.key)
        let secret = try #require(rotated["secret"]?.string.flatMap(WebhookSecret.init))
        #expect(try run(id) == .done)
        let request = try #require(seen.values.first)
        let timestamp = try #require(request.header("webhook-timestamp").flatMap { Int($0) })
        #expect(
            request.header("webhook-signature")
                == secret.headers(id: id.description, timestamp: timestamp, body: request.body).last?.value)
    }

    @Test func oldOnesAreThrownAway() throws {
        let server = LocalServer.http { _ in ok("") }
        let webhook = try webhook(server).id
        let (old, young) = (try emit(to: webhook), try emit(to: webhook))
        try cloud.admin("update webhook_deliveries set created_at = now() - interval '31 days' where id = \(old)")
        try cloud.admin(
            """
            update events set is_published = event.is_old, is_fanned_out = true, created_at = now() - interval '8 days'
            from (select event_id, id = \(old) as is_old from webhook_deliveries where webhook_id = \(webhook)::uuid) event
            where events.id = event.event_id
            """)
        try Housekeeping(bench: try workbench()).run()
        #expect(log(webhook).map { $0["id"]?.string } == [young.description])
        let left = try cloud.admin("select count(*) from events where owner_id = \(owner.id)::uuid")
        #expect(left.scalar(Int.self) == 1, "what is not published yet is kept")
        #expect(try run(old) == .done)
    }
}
