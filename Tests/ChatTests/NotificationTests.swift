// Notifications from the wish to the mail in the folder and the row in the events table; the jobs are run by hand.
import API
import Crypto
import Docker
import Foundation
import HTTP
import Postgres
import TestSupport
import Testing

@testable import Jobs

struct NotificationTests {
    let cloud: TestCloud
    let member: Owner
    let folder = TestCloud.scratch + "/mail-chat-" + ID(at: .now()).description

    init() throws {
        cloud = try TestCloud()
        member = try cloud.newMember()
    }

    private func wish(_ body: JSON) throws -> String {
        let answer = cloud.call(.post, "/api/v1/notifications", key: member.master, json: body)
        #expect(answer["status"] == "pending", "\(answer)")
        return try #require(answer["id"]?.string)
    }

    private func look(_ id: String) -> Answer { cloud.call(.get, "/api/v1/notifications/\(id)", key: member.master) }

    @discardableResult
    private func deliver(_ id: String, _ settings: [String: String] = [:]) throws -> Job.Outcome {
        let config = try TestCloud.config(["THECLOUD_MAIL": folder].merging(settings) { $1 }, url: cloud.database.cron)
        let names = EngineNames(stack: ID(high: 0, low: 0))
        let engine = try #require(TestCloud.deadEngine())
        let bench = Workbench(config: config, connection: Connection(url: config.databaseURL), engine: engine, names: names)
        return try NotificationJob.job.run(bench, id)
    }

    private func mails() throws -> [String] {
        guard FileManager.default.fileExists(atPath: folder) else { return [] }
        return try FileManager.default.contentsOfDirectory(atPath: folder).sorted().map {
            try String(contentsOfFile: folder + "/" + $0, encoding: .utf8)
        }
    }

    private func events(_ id: String) throws -> [JSON] {
        try cloud.admin(
            "select data::text from events where owner_id = \(member.id)::uuid and type = 'notification.created' and resource_id = \(id)::uuid"
        ).map { row in
            var row = row
            return try JSON(parsing: Array(row.next(String.self).utf8))
        }
    }

    @Test func aMailGoesOutOnce() throws {
        let answer = cloud.call(
            .post, "/api/v1/notifications", key: member.master,
            json: ["type": "email", "to_email": "jane@example.com", "subject": "News", "content": "There are some."])
        let shape = """
            {"id": "$id", "type": "email", "status": "STATUS", "user_id": null, "to_email": "jane@example.com", "url": null,
            "subject": "News", "content": "There are some.", "attempts": ATTEMPTS, "error": null, "created_at": "$time", "sent_at": SENT}
            """
        func literal(_ status: String, _ attempts: String, _ sent: String) -> String {
            shape.replacing("STATUS", with: status).replacing("ATTEMPTS", with: attempts).replacing("SENT", with: sent)
        }
        expect(answer, 201, literal("pending", "0", "null"))
        let id = try #require(answer["id"]?.string)
        #expect(try cloud.admin("select count(*) from jobs where kind = 'notification' and subject = \(id)").scalar(Int.self) == 1)
        for _ in 1...2 { #expect(try deliver(id) == .done) }
        expect(look(id), 200, literal("sent", "1", #""$time""#))
        let mails = try mails()
        #expect(mails.count == 1)
        #expect(mails[0].contains("To: jane@example.com") && mails[0].contains("Subject: News"))
        #expect(mails[0].contains("\r\n\r\nThere are some."))
    }

    @Test func aUserGetsItAtItsAddress() throws {
        let id = try wish(["type": "email", "user_id": .string(member.memberID ?? ""), "content": "Hello"])
        try deliver(id)
        #expect(look(id)["status"] == "sent")
        let mail = try #require(try mails().first)
        #expect(mail.contains("To: \(member.email)") && mail.contains("Subject: Notification from Test Client"))
    }

    @Test func aRelayThatIsDownIsTriedAgainAndThenGivenUp() throws {
        let id = try wish(["type": "email", "to_email": "jane@example.com", "content": "Hello"])
        let down = ["THECLOUD_SMTP_URL": "smtp://user:canary@127.0.0.1:1"]
        #expect(throws: (any Error).self) { try deliver(id, down) }
        #expect(look(id)["status"] == "pending" && look(id)["attempts"] == 1)
        #expect(look(id)["error"] == "the mail relay could not be used" && !look(id).text.contains("canary"))
        try cloud.admin("update notifications set attempts = 9 where id = \(id)::uuid")
        #expect(try deliver(id, down) == .done)
        #expect(look(id)["status"] == "failed" && look(id)["attempts"] == 10 && look(id)["sent_at"] == .null)
        #expect(try mails().isEmpty)
    }

    /// The publisher finds whose sockets it is for in the event.
    @Test func aWebSocketNotificationBecomesAnEvent() throws {
        let id = try wish(["type": "websocket", "user_id": .string(member.memberID ?? ""), "subject": "s", "content": "c"])
        for _ in 1...2 { try deliver(id) }
        #expect(look(id)["status"] == "sent" && look(id)["sent_at"]?.string != nil)
        let told = try events(id)
        #expect(told.count == 1)
        #expect(told[0]["user_id"]?.string == member.memberID && told[0]["content"] == "c" && told[0]["id"]?.string == id)
        let late = try wish(["type": "websocket", "user_id": .string(member.memberID ?? ""), "content": "c"])
        #expect(cloud.call(.delete, "/api/v1/users/\(member.memberID ?? "")", key: member.master).status == 200)
        try deliver(late)
        #expect(look(late)["status"] == "failed" && look(late)["error"] == "the user is gone")
    }

    @Test func aWebhookWithoutAURLGoesToTheRegisteredOnes() throws {
        let id = try wish(["type": "webhook", "content": "c"])
        try deliver(id)
        let told = try events(id)
        #expect(look(id)["status"] == "sent" && told.first?["user_id"] == .null)
    }

    /// Signed with the client's secret; what is not taken says why, and comes again under the same id.
    @Test func aWebhookToAURLIsPostedAndSigned() throws {
        let cloud = try TestCloud(["THECLOUD_EGRESS_ALLOW": "127.0.0.0/8"])
        let secret = cloud.call(.post, "/api/v1/clients/me/webhook-secret", key: member.master, json: [:])
        let signer = try #require(secret["secret"]?.string.flatMap(WebhookSecret.init))
        let (requests, answers) = (Recorder<LocalServer.Received>(), Recorder<Int>())
        let receiver = LocalServer.http { request in
            requests.add(request)
            answers.add(1)
            return ok("", status: answers.values.count == 1 ? "500 Internal Server Error" : "204 No Content")
        }
        let body: JSON = ["type": "webhook", "url": .string("http://127.0.0.1:\(receiver.port)/in"), "content": "News"]
        let made = cloud.call(.post, "/api/v1/notifications", key: member.master, json: body)
        let id = try #require(made["id"]?.string, "\(made)")
        let settings = ["THECLOUD_EGRESS_ALLOW": "127.0.0.0/8"]
        #expect(throws: (any Error).self) { try deliver(id, settings) }
        #expect(look(id)["status"] == "pending" && look(id)["error"]?.string != nil)
        #expect(try deliver(id, settings) == .done)
        #expect(look(id)["status"] == "sent" && look(id)["attempts"] == 2)
        #expect(requests.values.map { $0.header("webhook-id") } == [id, id])
        let sent = try #require(requests.values.last)
        let timestamp = try #require(sent.header("webhook-timestamp").flatMap(Int.init))
        let headers = signer.headers(id: id, timestamp: timestamp, body: sent.body)
        #expect(headers.contains { $0.name == "webhook-signature" && $0.value == sent.header("webhook-signature") })
        #expect(try JSON(parsing: sent.body)["data"]?["content"] == "News")
    }

    @Test func aWebhookLeadsToNoForbiddenAddress() throws {
        let body: JSON = ["type": "webhook", "url": "http://127.0.0.1:9/in", "content": "News"]
        let answer = cloud.call(.post, "/api/v1/notifications", key: member.master, json: body)
        #expect(answer.status == 400 && answer.code == "TARGET_FORBIDDEN" && answer.badFields == ["url"], "\(answer)")
    }

    /// In a database of its own: old notifications go, and secrets follow a new key of the installation.
    @Test func housekeeping() throws {
        let database = try TestDatabase.fresh("chat")
        let cloud = try TestCloud(database: database)
        let member = try cloud.newMember()
        let body: JSON = ["type": "email", "to_email": "jane@example.com", "content": "c"]
        for _ in 1...2 { #expect(cloud.call(.post, "/api/v1/notifications", key: member.master, json: body).status == 201) }
        try cloud.admin(
            "update notifications set created_at = now() - interval '31 days' where id = (select id from notifications order by id limit 1)"
        )
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try FileManager.default.copyItem(atPath: TestCloud.scratch + "/secret", toPath: folder + "/secret.previous")
        let config = try TestCloud.config(["THECLOUD_SECRET_FILE": folder + "/secret"], url: database.cron)
        let names = EngineNames(stack: ID(high: 0, low: 0))
        let engine = try #require(TestCloud.deadEngine())
        try Housekeeping(
            bench: Workbench(config: config, connection: Connection(url: config.databaseURL), engine: engine, names: names)
        ).run()
        #expect(try cloud.admin("select count(*) from notifications").scalar(Int.self) == 1)
        let sealed = try #require(try cloud.admin("select webhook_secret_sealed from clients").scalar([UInt8].self))
        #expect(!config.keyring.needsReseal(sealed))
        let opened = try config.keyring.open(sealed, .clientSecret, of: try #require(ID(member.id)))
        #expect(opened.count == 24)
    }

    @Test func badWishesAreNamed() throws {
        func bad(_ body: JSON) -> [String] { cloud.call(.post, "/api/v1/notifications", key: member.master, json: body).badFields }
        #expect(bad(["type": "pigeon", "content": "c"]) == ["type"])
        #expect(bad(["type": "email", "content": "c"]) == ["to_email"])
        #expect(bad(["type": "websocket"]) == ["content", "user_id"])
        #expect(bad(["type": "email", "to_email": "a@example.com", "subject": "a\r\nBcc: b@example.com", "content": "c"]) == ["subject"])
        for url in ["ftp://example.com", "example.com", "http://", "https://a:b@example.com/", "http://exa mple.com/"] {
            #expect(bad(["type": "webhook", "url": .string(url), "content": "c"]) == ["url"], "\(url)")
        }
        let foreign = try cloud.newMember()
        #expect(bad(["type": "websocket", "user_id": .string(foreign.memberID ?? ""), "content": "c"]) == ["user_id"])
    }
}
