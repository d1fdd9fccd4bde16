// Mails as they are written, saved and relayed.
import FoundationEssentials
import Glibc
import Outbound
import TestSupport
import Testing

struct MailMessageTests {
    static func message(subject: String = "Reset", text: String = "Hello\nhttps://x/reset?token=a=b\n") throws -> MailMessage {
        try MailMessage(
            from: #require(MailAddress("The Cloud <cloud@example.org>")), to: #require(MailAddress("anna@example.net")), subject: subject,
            text: text, date: 1_700_000_000)
    }

    private func wire(_ message: MailMessage) -> String { String(decoding: message.bytes, as: UTF8.self) }

    @Test func plainMessage() throws {
        let lines = wire(try Self.message()).components(separatedBy: "\r\n")
        #expect(lines[0] == "Date: Tue, 14 Nov 2023 22:13:20 +0000")
        #expect(lines[1] == "From: \"The Cloud\" <cloud@example.org>")
        #expect(lines[2] == "To: anna@example.net")
        #expect(lines[3].hasPrefix("Message-ID: <") && lines[3].hasSuffix("@example.org>"))
        #expect(lines[4] == "Subject: Reset")
        #expect(lines[9] == "" && lines[10...].elementsEqual(["Hello", "https://x/reset?token=a=b", ""]))
        #expect(!wire(try Self.message(text: "a\rb\r\nc\n\nd")).replacing("\r\n", with: "").contains { $0 == "\r" || $0 == "\n" })
        #expect(wire(try Self.message(text: "a\rb\r\nc\n\nd")).hasSuffix("\r\n\r\na\r\nb\r\nc\r\n\r\nd\r\n"))
    }

    @Test(arguments: ["Grüße", String(repeating: "long ", count: 300)])
    func otherTextIsBase64(text: String) throws {
        let message = wire(try Self.message(text: text))
        #expect(message.contains("\r\nContent-Transfer-Encoding: base64\r\n"))
        let lines = message.components(separatedBy: "\r\n")
        #expect(lines.allSatisfy { $0.utf8.count <= 76 && $0.utf8.allSatisfy { $0 < 0x80 } })
        let body = lines[(try #require(lines.firstIndex(of: "")))...].joined()
        #expect(Data(base64Encoded: body).map { String(decoding: $0, as: UTF8.self) } == text + "\r\n")
    }

    @Test func subjects() throws {
        #expect(
            wire(try Self.message(subject: "Passwort zurücksetzen")).contains(
                "\r\nSubject: =?utf-8?B?UGFzc3dvcnQgenVyw7xja3NldHplbg==?=\r\n"))
        #expect(wire(try Self.message(subject: "=?utf-8?B?eA==?=")).contains("\r\nSubject: =?utf-8?B?PT91dGYtOD9CP2VBPT0/PQ==?=\r\n"))
        let long = wire(try Self.message(subject: String(repeating: "ü🔑", count: 100)))
        let words = long.components(separatedBy: "Subject: ")[1].components(separatedBy: "\r\nAuto-")[0].components(separatedBy: "\r\n ")
        #expect(words.allSatisfy { $0.hasPrefix("=?utf-8?B?") && $0.hasSuffix("?=") && $0.count <= 75 })
        let decoded = words.compactMap { Data(base64Encoded: String($0.dropFirst(10).dropLast(2))) }
            .map { String(decoding: $0, as: UTF8.self) }.joined()
        #expect(decoded == String(repeating: "ü🔑", count: 100))
    }

    @Test(arguments: ["a\r\nBcc: x@y.z", "a\nb", "a\rb", "a\0b", "a\u{85}b"])
    func headersCantBeInjected(subject: String) {
        #expect(throws: MailError.illegal("the subject has control characters")) { try Self.message(subject: subject) }
    }

    @Test func addresses() throws {
        #expect(try #require(MailAddress("a.b+c@x-1.example.org")).address == "a.b+c@x-1.example.org")
        let named = try #require(MailAddress("\"Die Wolke\" <w@x.org>"))
        #expect(named.name == "Die Wolke" && named.address == "w@x.org" && named.domain == "x.org")
        #expect(MailAddress("<w@x.org>")?.name == nil)
    }

    @Test(arguments: [
        "", "a", "a@", "@b", "a@b@c", "a b@c", "a@b c", "a@b,c@d", "a@b\r\nBcc: c@d", "a@b>", "<a@b", "a..b@c", ".a@c", "a@c.", "ü@c",
        "a@ü",
        "A\r\nBcc: x@y <a@b>", "a@[127.0.0.1]", "\"a\"@b",
    ])
    func badAddresses(text: String) {
        #expect(MailAddress(text) == nil)
    }

    @Test func folder() throws {
        let folder = Folder()
        let path = folder.path + "/mail"
        for subject in ["first", "second"] { try Mail.send(Self.message(subject: subject), via: .directory(path)) }
        let files = try FileManager.default.contentsOfDirectory(atPath: path).sorted()
        #expect(files.count == 2 && files.allSatisfy { $0.hasSuffix(".eml") })
        let texts = try files.map { String(decoding: try #require(FileManager.default.contents(atPath: "\(path)/\($0)")), as: UTF8.self) }
        #expect(texts[0].contains("Subject: first") && texts[1].contains("Subject: second"))
        var status = stat()
        #expect(stat("\(path)/\(files[0])", &status) == 0 && status.st_mode & 0o777 == 0o600)
        for file in files { unlink("\(path)/\(file)") }
        rmdir(path)
        #expect(throws: MailError.self) { try Mail.send(Self.message(), via: .directory(folder.path + "/a/b")) }
    }
}
