// A text mail (RFC 5322, MIME RFC 2045), legal by construction: no value can add a header or end the message.
// Plain ASCII stays readable as it is; any other text travels as base64, which every relay passes on unchanged.
import FoundationEssentials
import Glibc

package struct MailMessage: Sendable {
    package let from: MailAddress
    package let to: MailAddress
    package let subject: String
    /// Lines end with LF here, with CRLF on the wire.
    package let text: String
    /// Stays the same when the message is sent again, so that receivers can tell.
    let id: String
    private let date: Int

    /// - Parameter date: seconds since 1970.
    /// - Throws: `illegal` when the subject has control characters or the text a NUL.
    package init(from: MailAddress, to: MailAddress, subject: String, text: String, date: Int = time(nil)) throws(MailError) {
        guard subject.unicodeScalars.allSatisfy({ $0.properties.generalCategory != .control }) else {
            throw .illegal("the subject has control characters")
        }
        guard !text.utf8.contains(0) else { throw .illegal("the text has a NUL") }
        (self.from, self.to, self.subject, self.text, self.date) = (from, to, subject, text, date)
        let number = [UInt64.random(in: .min ... .max), .random(in: .min ... .max)].map { String($0, radix: 36) }.joined()
        id = "\(number)@\(from.domain)"
    }

    /// The whole message, CRLF line ends.
    package var bytes: [UInt8] {
        let lines = lines
        let isPlain = lines.allSatisfy { $0.count <= 998 && $0.allSatisfy { $0 < 0x80 } }
        let head = [
            "Date: \(Self.text(of: date))",
            "From: \(from.field)",
            "To: \(to.field)",
            "Message-ID: <\(id)>",
            "Subject: \(HeaderText.unstructured(subject))",
            "Auto-Submitted: auto-generated",
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=utf-8",
            "Content-Transfer-Encoding: \(isPlain ? "7bit" : "base64")",
            "",
        ]
        var body = [UInt8](lines.joined(separator: [0x0D, 0x0A])) + [0x0D, 0x0A]
        if !isPlain {
            let encoded = Array(Self.base64(body).utf8)
            body = stride(from: 0, to: encoded.count, by: 76).flatMap { encoded[$0..<min($0 + 76, encoded.count)] + [0x0D, 0x0A] }
        }
        return Array(head.map { $0 + "\r\n" }.joined().utf8) + body
    }

    /// Lines without their ends: CRLF, LF and a CR alone all end one; the last end is not a further line.
    private var lines: [[UInt8]] {
        var lines: [[UInt8]] = [[]]
        var before: UInt8 = 0
        for byte in text.utf8 {
            switch byte {
            case 0x0A where before == 0x0D: break
            case 0x0A, 0x0D: lines.append([])
            default: lines[lines.count - 1].append(byte)
            }
            before = byte
        }
        if lines.last == [] { lines.removeLast() }
        return lines
    }

    static func base64(_ bytes: [UInt8]) -> String { Data(bytes).base64EncodedString() }

    /// RFC 5322 §3.3, in UTC; names are English whatever the locale.
    private static func text(of date: Int) -> String {
        var seconds = date
        var parts = tm()
        gmtime_r(&seconds, &parts)
        let day = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"][Int(parts.tm_wday)]
        let month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][Int(parts.tm_mon)]
        let clock = [parts.tm_hour, parts.tm_min, parts.tm_sec].map { $0 < 10 ? "0\($0)" : "\($0)" }.joined(separator: ":")
        return "\(day), \(parts.tm_mday) \(month) \(parts.tm_year + 1900) \(clock) +0000"
    }
}
