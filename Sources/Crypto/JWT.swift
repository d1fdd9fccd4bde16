// Access tokens: JWTs (RFC 7519) of exactly one form. Header and payload are compared with the text that we would have written ourselves,
// so there is no algorithm to choose, no key to name and no member to add, repeat or spell differently. No JSON is parsed.

/// What an access token says: whose it is, of which session, since when.
package struct JWT: Equatable, Sendable {
    /// Ids in their canonical text.
    package let account: String
    package let session: String
    /// Unix time in seconds.
    package let issuedAt: Int

    /// Seconds from issue to expiry.
    package static let lifetime = 1800
    /// How every header begins, whoever made the token.
    package static let prefix = "eyJ"

    private static let sizeLimit = 4096
    /// Hosts sign by their own clocks: a token may be this many seconds ahead. Expiry has no leeway.
    private static let skew = 60
    private static let header = Base64.url.encode(Array(#"{"alg":"HS256","typ":"JWT"}"#.utf8))

    package init(account: String, session: String, issuedAt: Int) {
        self.account = account
        self.session = session
        self.issuedAt = issuedAt
    }

    /// The compact serialisation (RFC 7515 §7.1).
    package func signed(by key: MACKey) -> String {
        let payload = """
            {"iss":"thecloud","aud":"thecloud-api","sub":"\(account)","sid":"\(session)","typ":"access",\
            "iat":\(issuedAt),"nbf":\(issuedAt),"exp":\(issuedAt + Self.lifetime)}
            """
        let message = Self.header + "." + Base64.url.encode(Array(payload.utf8))
        return message + "." + Base64.url.encode(key.sign(Array(message.utf8)))
    }

    /// Reads a token that `signed(by:)` made and that is good at the time given; `nil` for any other text.
    /// - Parameter now: Unix time in seconds.
    package init?(_ text: String, signedBy key: MACKey, now: Int) {
        guard let payload = Self.payload(of: text, signedBy: key) else { return nil }
        var claims = Claims(rest: payload[...])
        guard claims.skip(#"{"iss":"thecloud","aud":"thecloud-api","sub":""#), let account = claims.id(),
            claims.skip(#"","sid":""#), let session = claims.id(), claims.skip(#"","typ":"access","iat":"#), let issuedAt = claims.number(),
            claims.skip(#","nbf":"#), let notBefore = claims.number(), claims.skip(#","exp":"#), let expiry = claims.number(),
            claims.skip("}"), claims.rest.isEmpty
        else { return nil }
        guard issuedAt == notBefore, expiry == issuedAt + Self.lifetime, issuedAt <= now + Self.skew, now < expiry else { return nil }
        self.init(account: account, session: session, issuedAt: issuedAt)
    }

    /// Whether the key has signed it, whatever it says and however old it is.
    package static func isSigned(_ text: String, by key: MACKey) -> Bool { payload(of: text, signedBy: key) != nil }

    private static func payload(of text: String, signedBy key: MACKey) -> [UInt8]? {
        guard text.utf8.count <= sizeLimit else { return nil }
        let segments = text.utf8.split(separator: UInt8(ascii: "."), maxSplits: 3, omittingEmptySubsequences: false)
        guard segments.count == 3, segments[0].elementsEqual(header.utf8) else { return nil }
        guard let mac = Base64.url.decode(Substring(segments[2])), let payload = Base64.url.decode(Substring(segments[1])) else {
            return nil
        }
        return key.verify(mac, of: Array(text.utf8.prefix(header.utf8.count + 1 + segments[1].count))) ? payload : nil
    }

    /// A payload, read from left to right.
    private struct Claims {
        var rest: ArraySlice<UInt8>

        mutating func skip(_ text: StaticString) -> Bool {
            let wanted = UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
            guard rest.starts(with: wanted) else { return false }
            rest = rest.dropFirst(wanted.count)
            return true
        }

        /// A UUID as we write it: 36 characters, lower case.
        mutating func id() -> String? {
            let text = rest.prefix(36)
            let isID = text.enumerated().allSatisfy { index, byte in
                switch byte {
                case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"): ![8, 13, 18, 23].contains(index)
                default: byte == UInt8(ascii: "-") && [8, 13, 18, 23].contains(index)
                }
            }
            guard text.count == 36, isID else { return nil }
            rest = rest.dropFirst(36)
            return String(decoding: text, as: UTF8.self)
        }

        /// A whole number of at most 12 digits, none of them a leading zero.
        mutating func number() -> Int? {
            let digits = rest.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
            guard (1...12).contains(digits.count), digits.first != UInt8(ascii: "0") else { return nil }
            rest = rest.dropFirst(digits.count)
            return Int(String(decoding: digits, as: UTF8.self))
        }
    }
}
