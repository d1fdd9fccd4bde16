// Mails through SMTP, to a server that says what the test wants and records what it hears.
import FoundationEssentials
import Outbound
import TestSupport
import Testing

struct RelayTests {
    /// - Parameter answers: replies by the verb that they answer; the usual ones otherwise.
    private func relay(_ recorder: Recorder<String>, features: [String] = [], answers: [String: String] = [:]) -> LocalServer {
        LocalServer { peer in
            peer.write("220 relay\r\n")
            while let line = peer.line() {
                recorder.add(line)
                let verb = String(line.prefix { $0 != " " })
                let lines = ["relay"] + features
                let hello = lines.enumerated().map { "250\($0.offset == lines.count - 1 ? " " : "-")\($0.element)\r\n" }.joined()
                let usual = ["EHLO": hello, "DATA": "354 go on\r\n", "QUIT": "221 bye\r\n", "AUTH": "334 \r\n"]
                peer.write(answers[verb].map { $0 + "\r\n" } ?? usual[verb] ?? "250 fine\r\n")
                guard answers[verb] == nil else { continue }
                if verb == "AUTH", let login = peer.line() {
                    recorder.add(login)
                    peer.write("235 welcome\r\n")
                } else if verb == "DATA" {
                    while let line = peer.line(), line != "." { recorder.add(line) }
                    peer.write("250 taken\r\n")
                }
            }
        }
    }

    @Test func mailArrives() throws {
        let heard = Recorder<String>()
        let server = relay(heard)
        try Mail.send(MailMessageTests.message(text: "one\n.two\n.\nthree"), via: .smtp(url: "smtp://127.0.0.1:\(server.port)"))
        let lines = heard.values
        #expect(lines.contains("MAIL FROM:<cloud@example.org>"))
        #expect(lines.contains("RCPT TO:<anna@example.net>"))
        #expect(lines.contains("Subject: Reset"))
        // Dots are doubled on the wire (RFC 5321 §4.5.2).
        let start = try #require(lines.firstIndex(of: "one"))
        #expect(lines[start...].prefix(4).elementsEqual(["one", "..two", "..", "three"]))
    }

    @Test func login() throws {
        let heard = Recorder<String>()
        let server = relay(heard, features: ["AUTH PLAIN"])
        try Mail.send(MailMessageTests.message(), via: .smtp(url: "smtp://us%40er:pass@127.0.0.1:\(server.port)"))
        let lines = heard.values
        let start = try #require(lines.firstIndex(of: "AUTH PLAIN"))
        #expect(Data(base64Encoded: lines[start + 1]) == Data("\0us@er\0pass".utf8))
    }

    @Test(arguments: [
        (["RCPT": "550 nobody here"], MailError.refused(code: 550), true), (["RCPT": "450 later"], .refused(code: 450), false),
        (["MAIL": "451 later"], .refused(code: 451), false), (["DATA": "554 no"], .refused(code: 554), true),
        (["AUTH": "535 wrong"], .loginRefused, false),
    ])
    func refusals(answers: [String: String], expected: MailError, isPermanent: Bool) throws {
        let server = relay(Recorder(), features: ["AUTH PLAIN"], answers: answers)
        let error = #expect(throws: MailError.self) {
            try Mail.send(MailMessageTests.message(), via: .smtp(url: "smtp://user:hunter2@127.0.0.1:\(server.port)"))
        }
        #expect(error == expected)
        #expect(error?.isPermanent == isPermanent)
    }

    @Test func errorsKeepTheRelaySecret() throws {
        for url in [
            "smtp://user:hunter2@127.0.0.1:1", "smtp://user:hunter2@no-such.invalid", "http://user:hunter2@x", "smtp://user:hunter2@[",
            "user:hunter2",
        ] {
            let error = #expect(throws: MailError.self) { try Mail.send(MailMessageTests.message(), via: .smtp(url: url)) }
            #expect(!String(reflecting: error).contains("hunter2"))
            #expect(error?.isPermanent == false)
        }
    }

    @Test func silentRelayTimesOut() throws {
        let server = LocalServer { $0.awaitEnd() }
        let start = ContinuousClock.now
        #expect(throws: MailError.self) {
            try Mail.send(MailMessageTests.message(), via: .smtp(url: "smtp://127.0.0.1:\(server.port)"), timeout: 300)
        }
        #expect(ContinuousClock.now - start < .seconds(3))
    }
}
