// From "forgot" over the real mail to the new password: what the answer tells, what the token is worth, and what ends with it.
import API
import Crypto
import Foundation
import HTTP
import Postgres
import TestSupport
import Testing

@testable import Jobs

struct PasswordResetTests {
    private static let bench: Result<Bench, any Error> = Result { try Bench("mail") }

    let bench: Bench
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        bench = try Self.bench.get()
        cloud = try bench.cloud()
        owner = try cloud.newOwner(name: "Zoë Reset")
    }

    /// Asks for a mail, lets the job send it, and reads it from the folder.
    private func mail() throws -> String {
        #expect(cloud.call(.post, "/auth/forgot-password", json: ["email": .string(owner.email.uppercased())]).status == 200)
        #expect(try PasswordResetMail.job.run(bench.workbench(), owner.id) == .done)
        let folder = bench.config.mailFolder
        for file in try FileManager.default.contentsOfDirectory(atPath: folder).sorted().reversed() {
            let text = try String(contentsOfFile: folder + "/" + file, encoding: .utf8)
            if text.contains("To: <\(owner.email)>") || text.contains("To: \(owner.email)") { return text }
        }
        throw Unexpected(description: "no mail to \(owner.email)")
    }

    private func token(in mail: String) throws -> String {
        let body = text(of: mail)
        return String(try #require(body.firstMatch(of: /#token=(reset_[0-9A-Za-z]{33})/), "\(body)").1)
    }

    /// The readable part of a mail, which is base64 behind the head.
    private func text(of mail: String) -> String {
        let lines = mail.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
        let coded = lines.drop { !$0.isEmpty }.joined()
        return Data(base64Encoded: coded).map { String(decoding: $0, as: UTF8.self) } ?? mail
    }

    private func reset(_ token: String, _ password: String = "a new password") -> Answer {
        cloud.call(.post, "/auth/reset-password", json: ["token": .string(token), "new_password": .string(password)])
    }

    private func expectUnusable(_ answer: Answer, sourceLocation: SourceLocation = #_sourceLocation) {
        expect(
            answer, 400, error: "bad_request", "VALIDATION_FAILED", "token is not valid or has expired; ask for a new one",
            fields: ["token": "is not valid or has expired; ask for a new one"], sourceLocation: sourceLocation)
    }

    @Test func theAnswerIsTheSameForUnknownAddresses() throws {
        for email in [owner.email, TestCloud.newEmail()] {
            expect(
                cloud.call(.post, "/auth/forgot-password", text: #"{"email": "\#(email)"}"#), 200,
                #"{"message": "If the email exists, a reset token has been sent."}"#)
        }
        #expect(try cloud.admin("select count(*) from jobs where subject = \(owner.id)").scalar(Int.self) == 1)
    }

    @Test func theMailLeadsToThePublicAddress() throws {
        let mail = try mail()
        let token = try token(in: mail)
        #expect(mail.contains("Subject: Reset your password"))
        #expect(text(of: mail).hasPrefix("Hello Zoë Reset,"))
        #expect(text(of: mail).contains("https://cloud.example/reset-password.html#token=\(token)"))
        let row = try cloud.admin(
            "select row_to_json(r)::text, token_hash = \(SHA256.digest(token)), expires_at - now() between '59 minutes' and '1 hour' from password_resets r where owner_id = \(owner.id)::uuid"
        )
        var first = try #require(row.first)
        #expect(first.next(String.self).contains(token) == false)
        #expect(first.next(Bool.self) && first.next(Bool.self))
        let job = try cloud.admin("select row_to_json(j)::text from jobs j where subject = \(owner.id)").scalar(String.self) ?? ""
        #expect(!job.contains(token) && !job.contains(owner.email))
    }

    @Test func theTokenWorksOnceAndEndsAllKeys() throws {
        let further = try cloud.newKey(of: owner)
        for _ in 1...5 { _ = cloud.call(.post, "/auth/login", json: ["email": .string(owner.email), "password": "wrong password"]) }
        let token = try token(in: try mail())
        let weak = reset(token, "short")
        #expect(weak.status == 400 && weak.badFields == ["new_password"], "a bad password does not spend the token")
        expect(
            cloud.call(
                .post, "/auth/reset-password",
                text: """
                    {
                      "token": "\(token)",
                      "new_password": "new-secure-password"
                    }
                    """), 200, #"{"message": "password updated successfully"}"#)
        expectUnusable(reset(token))
        for key in [owner.key, further.text] { #expect(cloud.call(.get, "/auth/me", key: key).code == "INVALID_CREDENTIALS") }
        #expect(throws: Unexpected.self) { try cloud.login(owner.email, owner.password) }
        let fresh = try cloud.login(owner.email, "new-secure-password")
        let actions = cloud.call(.get, "/auth/audit?limit=3", key: fresh)["data"]?.array?.map { $0["action"]?.string }
        #expect(actions == ["auth.login", "auth.login_failed", "auth.password_reset"])
    }

    @Test func aNewMailEndsTheTokenBefore() throws {
        let first = try token(in: try mail())
        let second = try token(in: try mail())
        #expect(first != second)
        expectUnusable(reset(first))
        #expect(reset(second).status == 200)
    }

    @Test func anExpiredTokenIsWorthNothing() throws {
        let token = try token(in: try mail())
        try cloud.admin("update password_resets set expires_at = now() where owner_id = \(owner.id)::uuid")
        expectUnusable(reset(token))
        #expect(cloud.call(.get, "/auth/me", key: owner.key).status == 200)
    }

    @Test(arguments: ["x", "reset_", "'; --", "é", String(repeating: "t", count: 200)])
    func otherTextsAreNoTokens(text: String) { expectUnusable(reset(text)) }

    /// The relay is down: the job fails and says nothing that is secret; the next try mints another token.
    @Test func aRelayThatIsDownFailsTheJob() throws {
        let config = try TestCloud.config(["THECLOUD_SMTP_URL": "smtp://user:canary@127.0.0.1:1"], url: bench.database.cron)
        let usual = try bench.workbench()
        let down = Workbench(config: config, connection: usual.connection, engine: usual.engine, names: usual.names)
        do {
            _ = try PasswordResetMail.job.run(down, owner.id)
            Issue.record("the mail went out")
        } catch {
            #expect(!"\(error)".contains("canary") && !"\(error)".contains("reset_"))
        }
        #expect(reset(try token(in: try mail())).status == 200)
    }

    @Test func parallelResetsSpendTheTokenOnce() throws {
        let token = try token(in: try mail())
        let bench = bench
        let statuses = try sideBySide(8, threads: 8) {
            let cloud = try bench.cloud()
            return {
                cloud.call(.post, "/auth/reset-password", json: ["token": .string(token), "new_password": "a new password"]).status
            }
        }
        #expect(statuses.sorted() == [200, 400, 400, 400, 400, 400, 400, 400])
    }
}
