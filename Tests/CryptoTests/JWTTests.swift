// Access tokens: the one form that is accepted, and everything that has been tried on other people's JWTs.
import Crypto
import Testing

struct JWTTests {
    private static let secret = [UInt8](repeating: 7, count: 32)
    private static let keyring = Keyring(secret: secret, previous: nil)
    private static let now = 1_800_000_000
    private static let account = "01890000-0000-7000-8000-000000000001"
    private static let session = "01890000-0000-7000-8000-000000000002"
    private static let token = JWT(account: account, session: session, issuedAt: now).signed(by: keyring.jwt)
    private static let parts = token.split(separator: ".").map(String.init)
    private static let header = #"{"alg":"HS256","typ":"JWT"}"#

    private static func base64(_ text: String) -> String { Base64.url.encode(Array(text.utf8)) }

    /// A token with a right MAC over whatever stands in it.
    private static func forged(header: String = header, _ payload: String) -> String {
        let message = base64(header) + "." + base64(payload)
        return message + "." + Base64.url.encode(keyring.jwt.sign(Array(message.utf8)))
    }

    private static func payload(
        iss: String = #""thecloud""#, aud: String = #""thecloud-api""#, sub: String = "\"\(account)\"", sid: String = "\"\(session)\"",
        typ: String = #""access""#, iat: String = "\(now)", nbf: String = "\(now)", exp: String = "\(now + 1800)"
    ) -> String {
        #"{"iss":\#(iss),"aud":\#(aud),"sub":\#(sub),"sid":\#(sid),"typ":\#(typ),"iat":\#(iat),"nbf":\#(nbf),"exp":\#(exp)}"#
    }

    @Test func aTokenOfOursIsGoodForHalfAnHour() {
        let expected = JWT(account: Self.account, session: Self.session, issuedAt: Self.now)
        for time in [Self.now, Self.now + 1799, Self.now - 60] {
            #expect(JWT(Self.token, signedBy: Self.keyring.jwt, now: time) == expected)
        }
        for time in [Self.now + 1800, Self.now + 100_000, Self.now - 61, 0] {
            #expect(JWT(Self.token, signedBy: Self.keyring.jwt, now: time) == nil)
        }
        #expect(Self.forged(Self.payload()) == Self.token, "the forger's tools are right, or the attacks would prove nothing")
        #expect(Self.parts[0] == "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9")
    }

    @Test func thePreviousSecretIsGoodForReadingOnly() {
        let renewed = Keyring(secret: [UInt8](repeating: 8, count: 32), previous: Self.secret)
        #expect(JWT(Self.token, signedBy: renewed.jwt, now: Self.now) != nil)
        let later = JWT(account: Self.account, session: Self.session, issuedAt: Self.now).signed(by: renewed.jwt)
        #expect(later != Self.token && JWT(later, signedBy: Self.keyring.jwt, now: Self.now) == nil)
    }

    @Test(arguments: attacks)
    func isRefused(attack: String) { #expect(JWT(attack, signedBy: Self.keyring.jwt, now: Self.now) == nil) }

    @Test func thereAreManyAttacks() { #expect(Set(Self.attacks).count >= 60 && !Self.attacks.contains(Self.token)) }

    private static let attacks: [String] = headers + shapes + claims + macs

    private static let headers = [
        #"{"alg":"none","typ":"JWT"}"#, #"{"alg":"None","typ":"JWT"}"#, #"{"alg":"NONE","typ":"JWT"}"#, #"{"alg":"nOnE","typ":"JWT"}"#,
        #"{"alg":"","typ":"JWT"}"#, #"{"alg":null,"typ":"JWT"}"#, #"{"typ":"JWT"}"#, #"{"alg":"HS384","typ":"JWT"}"#,
        #"{"alg":"HS512","typ":"JWT"}"#, #"{"alg":"RS256","typ":"JWT"}"#, #"{"alg":"ES256","typ":"JWT"}"#, #"{"alg":"PS256","typ":"JWT"}"#,
        #"{"alg":"EdDSA","typ":"JWT"}"#, #"{"alg":"hs256","typ":"JWT"}"#, #"{"typ":"JWT","alg":"HS256"}"#, #"{"alg": "HS256","typ":"JWT"}"#,
        #"{"alg":"HS256"}"#, #"{"alg":"HS256","typ":"jwt"}"#, #"{"alg":"HS256","typ":"at+jwt"}"#,
        #"{"alg":"HS256","typ":"JWT","kid":"../../dev/null"}"#, #"{"alg":"HS256","typ":"JWT","kid":"' union select 'x"}"#,
        #"{"alg":"HS256","typ":"JWT","jku":"https://evil.example/keys"}"#, #"{"alg":"HS256","typ":"JWT","jwk":{"kty":"oct","k":"AA"}}"#,
        #"{"alg":"HS256","typ":"JWT","x5u":"https://evil.example/x"}"#, #"{"alg":"HS256","typ":"JWT","x5c":["AA"]}"#,
        #"{"alg":"HS256","typ":"JWT","crit":["exp"]}"#, #"{"alg":"HS256","typ":"JWT","b64":false,"crit":["b64"]}"#,
        #"{"alg":"HS256","typ":"JWT","cty":"JWT"}"#, #"{"alg":"HS256","typ":"JWT","zip":"DEF"}"#,
        #"{"alg":"none","alg":"HS256","typ":"JWT"}"#,
        #"{"alg":"HS256","typ":"JWT"} "#, "", "{}", "null",
    ].map { forged(header: $0, payload()) }

    private static let shapes = [
        "", ".", "..", "...", "eyJ", parts[0], parts[0] + "." + parts[1], parts[0] + "." + parts[1] + ".", token + ".", "." + token,
        token + ".x", token + "." + parts[2], parts[0] + ".." + parts[2], parts[0] + "." + parts[1] + ".." + parts[2], token + "=",
        token + "\n", " " + token, token + " ", token + "\u{0}", parts[0] + "=." + parts[1] + "." + parts[2],
        parts[0] + "." + parts[1] + "=." + parts[2], token.uppercased(), String(token.reversed()), "Bearer " + token,
        token.replacing(".", with: ","), token + String(repeating: "A", count: 4096), String(repeating: ".", count: 5000),
        String(repeating: "A", count: 1_000_000),
        #"{"protected":"\#(parts[0])","payload":"\#(parts[1])","signature":"\#(parts[2])"}"#, parts[0] + ".a.b.c." + parts[2],
    ]

    private static let claims = [
        payload(iss: #""other""#), payload(iss: "null"), payload(iss: #"["thecloud"]"#), payload(aud: #""other""#),
        payload(aud: #"["thecloud-api"]"#), payload(aud: #"["thecloud-api","other"]"#), payload(sub: #""""#), payload(sub: "null"),
        payload(sub: #""\#(account.uppercased())X""#), payload(sub: #""\#(account)' or 1=1""#), payload(sub: #""\#(account.dropLast())""#),
        payload(sid: #""""#), payload(sid: #""01890000-0000-7000-8000-00000000000G""#),
        payload(sid: #""018900000000-7000-8000-0000000000020-""#),
        payload(typ: #""refresh""#), payload(typ: #""Access""#), payload(typ: "true"), payload(exp: "\(now)"), payload(exp: "\(now - 1)"),
        payload(exp: "\(now + 1801)"), payload(exp: "99999999999"), payload(exp: "9223372036854775807"),
        payload(exp: "9223372036854775808"),
        payload(exp: "\(now + 1800).0"), payload(exp: "1.8000018e9"), payload(exp: #""\#(now + 1800)""#), payload(exp: "null"),
        payload(exp: "-1"), payload(exp: "+\(now + 1800)"), payload(exp: "0\(now + 1800)"), payload(exp: ""), payload(exp: "true"),
        payload(iat: "\(now + 61)", nbf: "\(now + 61)", exp: "\(now + 1861)"), payload(nbf: "\(now + 1)"), payload(nbf: "0"),
        payload(iat: "\(now - 1800)", nbf: "\(now - 1800)", exp: "\(now)"), payload(iat: #""\#(now)""#), payload(iat: "\(now).5"),
        payload() + " ", payload() + payload(), " " + payload(), "[\(payload())]", "", "{}", "null", #"{"sub":"\#(account)"}"#,
        payload(exp: #"\#(now + 1800),"exp":\#(now + 1800)"#), payload(sub: #""\#(session)","sub":"\#(account)""#),
        payload(exp: #"\#(now + 1800),"role":"owner""#), payload().replacing("iss", with: "i\\u0073s"),
        payload().replacing(",", with: ", "),
    ].map { forged($0) }

    private static let macs: [String] = {
        let message = Array((parts[0] + "." + parts[1]).utf8)
        let other = Keyring(secret: [UInt8](repeating: 9, count: 32), previous: nil)
        let mac = keyring.jwt.sign(message)
        let wrong: [[UInt8]] = [
            other.jwt.sign(message), keyring.token.sign(message), keyring.idempotency.sign(message), HMAC.sha256(key: [], message),
            HMAC.sha256(key: secret, message), SHA256.digest(message), [], Array(mac.dropLast()), mac + [0],
            [UInt8](repeating: 0, count: 32),
            [mac[0] ^ 1] + mac.dropFirst(), mac.dropLast() + [mac[31] ^ 1], Array(mac.reversed()), keyring.jwt.sign(Array(parts[1].utf8)),
        ]
        return wrong.map { parts[0] + "." + parts[1] + "." + Base64.url.encode($0) }
            + [parts[0] + "." + base64(payload(sub: #""\#(session)""#)) + "." + parts[2]]
    }()
}
