// One mailbox, `anna@example.org` or `The Cloud <cloud@example.org>` (RFC 5322 §3.4), legal by construction.
// Only ASCII dot-atoms at host names are taken: what else the RFCs allow needs extensions that relays rarely offer.

package struct MailAddress: Sendable, Hashable {
    /// What a mail program shows; any printable text.
    package let name: String?
    /// `local@domain`, at most 254 bytes.
    package let address: String

    /// `nil` for anything that is not exactly one mailbox, and for control characters anywhere.
    package init?(_ text: String) {
        guard text.unicodeScalars.allSatisfy({ $0.properties.generalCategory != .control }) else { return nil }
        if text.hasSuffix(">"), let open = text.lastIndex(of: "<") {
            var name = text[..<open].drop { $0 == " " }
            while name.last == " " { name.removeLast() }
            if name.count >= 2, name.hasPrefix("\""), name.hasSuffix("\"") { name = name.dropFirst().dropLast() }
            self.name = name.isEmpty ? nil : String(name)
            address = String(text[text.index(after: open)...].dropLast())
        } else {
            name = nil
            address = text
        }
        let halves = address.utf8.split(separator: UInt8(ascii: "@"), omittingEmptySubsequences: false)
        guard halves.count == 2, address.utf8.count <= 254, halves[0].count <= 64, Self.isDotted(halves[0], Self.isAtom),
            Self.isDotted(halves[1], Self.isHost)
        else { return nil }
    }

    package var domain: String { String(address[address.index(after: address.firstIndex(of: "@") ?? address.startIndex)...]) }

    /// As it stands in a header.
    var field: String { name.map { "\(HeaderText.phrase($0)) <\(address)>" } ?? address }

    private static func isDotted(_ text: Substring.UTF8View, _ isLegal: (UInt8) -> Bool) -> Bool {
        text.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).allSatisfy { !$0.isEmpty && $0.allSatisfy(isLegal) }
    }

    private static func isHost(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"): true
        default: byte == UInt8(ascii: "-")
        }
    }

    private static func isAtom(_ byte: UInt8) -> Bool { isHost(byte) || "!#$%&'*+/=?^_`{|}~".utf8.contains(byte) }
}

/// Text inside header fields (RFC 5322 §3.2, RFC 2047).
enum HeaderText {
    /// Unstructured text: as it is when short ASCII, else encoded words, folded.
    static func unstructured(_ text: String) -> String { needsWords(text) ? encodedWords(text) : text }

    /// A display name: a quoted string or encoded words.
    static func phrase(_ text: String) -> String {
        guard !needsWords(text) else { return encodedWords(text) }
        return "\"\(text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\""))\""
    }

    /// Long ASCII too: encoded words can be folded anywhere. Text that looks like an encoded word must not be read as one.
    private static func needsWords(_ text: String) -> Bool {
        !text.utf8.allSatisfy { (0x20...0x7E).contains($0) } || text.utf8.count > 200 || text.contains("=?")
    }

    /// Words of at most 75 characters; none splits a scalar (RFC 2047 §5).
    private static func encodedWords(_ text: String) -> String {
        var words: [[UInt8]] = [[]]
        for scalar in text.unicodeScalars {
            let bytes = Array(String(scalar).utf8)
            if words[words.count - 1].count + bytes.count > 45 { words.append([]) }
            words[words.count - 1].append(contentsOf: bytes)
        }
        return words.map { "=?utf-8?B?\(MailMessage.base64($0))?=" }.joined(separator: "\r\n ")
    }
}
