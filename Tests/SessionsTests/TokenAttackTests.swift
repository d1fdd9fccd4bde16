// What has been tried on other people's access tokens, through the door: each attack gets the same refusal, to the letter.
// The tokens are forged with the installation's own key wherever that makes the attack stronger.
import API
import Crypto
import HTTP
import Postgres
import TestSupport
import Testing

struct TokenAttackTests {
    let cloud: TestCloud
    let owner: Owner
    let login: Answer
    let account: String
    let session: String
    let token: String
    let parts: [String]
    let now = Timestamp.now().microseconds / 1_000_000

    init() throws {
        cloud = try TestCloud()
        owner = try cloud.newOwner()
        login = cloud.call(
            .post, "/api/v1/auth/login", json: ["email": .string(owner.email), "password": .string(owner.password)])
        account = owner.id
        session = try #require(
            try cloud.admin("select id::text from sessions where owner_id = \(owner.id)::uuid").scalar(String.self))
        token = JWT(account: account, session: session, issuedAt: now).signed(by: cloud.config.keyring.jwt)
        parts = token.split(separator: ".").map(String.init)
    }

    private static let header = #"{"alg":"HS256","typ":"JWT"}"#

    private func base64(_ text: String) -> String { Base64.url.encode(Array(text.utf8)) }

    /// Rightly signed, whatever it says.
    private func signed(header: String = header, _ payload: String) -> String {
        let message = base64(header) + "." + base64(payload)
        return message + "." + Base64.url.encode(cloud.config.keyring.jwt.sign(Array(message.utf8)))
    }

    private func payload(_ changes: KeyValuePairs<String, String> = [:]) -> String {
        var claims: [(name: String, value: String)] = [
            ("iss", #""thecloud""#), ("aud", #""thecloud-api""#), ("sub", "\"\(account)\""), ("sid", "\"\(session)\""),
            ("typ", #""access""#), ("iat", "\(now)"), ("nbf", "\(now)"), ("exp", "\(now + 1800)"),
        ]
        for (name, value) in changes {
            if let index = claims.firstIndex(where: { $0.name == name }) {
                claims[index].value = value
            } else {
                claims.append((name, value))
            }
        }
        return "{" + claims.map { "\"\($0.name)\":\($0.value)" }.joined(separator: ",") + "}"
    }

    /// - Parameter span: seconds from its issue to its expiry.
    private func payload(issuedAt: Int, notBefore: Int? = nil, span: Int = 1800) -> String {
        payload(["iat": "\(issuedAt)", "nbf": "\(notBefore ?? issuedAt)", "exp": "\(issuedAt + span)"])
    }

    private func me(_ authorization: String) -> Answer {
        cloud.call(.get, "/api/v1/auth/me", headers: ["Authorization": authorization])
    }

    @Test func everyAttackGetsTheSameAnswer() throws {
        #expect(me("Bearer " + token).status == 200, "or the attacks below would prove nothing")
        #expect(signed(payload()) == token, "the forger's tools are right")
        let attacks = headers + shapes + claims + (try macs()) + (try strangers())
        #expect(attacks.count >= 100)
        let twice = Dictionary(grouping: attacks, by: \.token).values.filter { $0.count > 1 }.map { $0.map(\.name) }
        #expect(twice.isEmpty)
        for attack in attacks {
            let answer = me("Bearer " + attack.token)
            guard answer.status == 401, answer.text == refusal(answer.requestID) else {
                Issue.record("\(attack.name): \(answer)")
                continue
            }
            #expect(answer.header("WWW-Authenticate") == "Bearer" && answer.response.headers.count == 2)
        }
        #expect(me("Bearer " + token).status == 200, "none of them did harm")
    }

    /// The token as it is, but not where it belongs.
    @Test func aTokenIsTakenFromItsHeaderOnly() {
        for header in [
            "", token, "Bearer", "Bearer ", "Bearer  " + token, "Bearer\t" + token, "Basic " + token, "JWT " + token, "Token " + token,
            "Bearer Bearer " + token, "Bearer \"\(token)\"", "Bearer token=" + token,
        ] {
            let answer = me(header)
            #expect(answer.status == 401 && answer.text == refusal(answer.requestID), "\(header.prefix(12)): \(answer)")
        }
        for target in ["?token=", "?access_token=", "?api_key=", "?jwt="] {
            #expect(cloud.call(.get, "/api/v1/auth/me" + target + token).status == 401)
        }
        #expect(cloud.call(.get, "/api/v1/auth/me", headers: ["Cookie": "token=\(token)"]).status == 401)
        #expect(cloud.call(.get, "/api/v1/auth/me", key: token).status == 401)
        #expect(me("bearer " + token).status == 200, "the scheme has no case")
    }

    private func refusal(_ requestID: String) -> String {
        """
        {"error":"unauthorized","message":"Invalid or expired token","code":401,"detail":"Invalid or expired token",\
        "error_code":"INVALID_TOKEN","status_code":401,"request_id":"\(requestID)","errors":[]}
        """
    }

    private typealias Attack = (name: String, token: String)

    private var headers: [Attack] {
        let spellings = [
            #""none""#, #""None""#, #""NONE""#, #""nOnE""#, #""none ""#, #""n\u006fne""#, #""""#, "null", "false", "0", "[]", #"["HS256"]"#,
            #""HS384""#, #""HS512""#, #""RS256""#, #""ES256""#, #""PS256""#, #""EdDSA""#, #""hs256""#, #""HS256 ""#, #""H\u0053256""#,
            #""dir""#,
        ]
        let algorithms = spellings.map { (name: "alg \($0)", header: #"{"alg":\#($0),"typ":"JWT"}"#) }
        let others = [
            #"{"typ":"JWT"}"#, #"{"typ":"JWT","alg":"HS256"}"#, #"{"alg": "HS256","typ":"JWT"}"#, #"{"alg":"HS256"}"#,
            #"{"alg":"HS256","typ":"jwt"}"#, #"{"alg":"HS256","typ":"at+jwt"}"#, #"{"alg":"HS256","typ":"JWS"}"#,
            #"{"alg":"HS256","typ":null}"#, #"{"alg":"HS256","typ":"JWT","kid":"1"}"#, #"{"alg":"HS256","typ":"JWT","kid":"/dev/null"}"#,
            #"{"alg":"HS256","typ":"JWT","kid":"../../secret"}"#, #"{"alg":"HS256","typ":"JWT","kid":"x' union select 'k"}"#,
            #"{"alg":"HS256","typ":"JWT","kid":"\#(session)"}"#, #"{"alg":"HS256","typ":"JWT","jku":"https://evil.example/keys"}"#,
            #"{"alg":"HS256","typ":"JWT","jwk":{"kty":"oct","k":"AA"}}"#, #"{"alg":"HS256","typ":"JWT","x5u":"https://evil.example/x"}"#,
            #"{"alg":"HS256","typ":"JWT","x5c":["AA"]}"#, #"{"alg":"HS256","typ":"JWT","crit":["exp"]}"#,
            #"{"alg":"HS256","typ":"JWT","crit":[]}"#, #"{"alg":"HS256","typ":"JWT","b64":false,"crit":["b64"]}"#,
            #"{"alg":"HS256","typ":"JWT","cty":"JWT"}"#, #"{"alg":"HS256","typ":"JWT","zip":"DEF"}"#,
            #"{"alg":"none","alg":"HS256","typ":"JWT"}"#, #"{"alg":"HS256","alg":"none","typ":"JWT"}"#, #"{"alg":"HS256","typ":"JWT"}\#n"#,
            "\u{FEFF}" + Self.header, "", "{}", "null", "[]",
        ].map { (name: "header \($0)", header: $0) }
        return (algorithms + others).map { ($0.name, signed(header: $0.header, payload())) }
            + spellings.prefix(7).map { spelling in
                ("alg \(spelling) without a signature", base64(#"{"alg":\#(spelling),"typ":"JWT"}"#) + "." + parts[1] + ".")
            }
    }

    private var shapes: [Attack] {
        let (header, claims, mac) = (parts[0], parts[1], parts[2])
        // The last letter of 43 carries four bits of the MAC; the two below them are nothing, and must be zero.
        let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
        let last = letters.firstIndex(of: mac.last ?? "A") ?? 0
        let (trailing, other) = (String(letters[last | 1]), String(letters[last ^ 32]))
        return [
            ("no signature", "\(header).\(claims)."), ("no dot before the signature", "\(header).\(claims)"), ("one segment", header),
            ("no claims", "\(header)..\(mac)"), ("no header", ".\(claims).\(mac)"), ("dots", ".."), ("eyJ", "eyJ"),
            ("a dot behind", token + "."), ("a dot before", "." + token), ("four segments", token + "." + mac),
            ("five segments", token + "..",), ("five full segments", [header, "a", "b", "c", mac].joined(separator: ".")),
            ("an empty segment inside", "\(header).\(claims)..\(mac)"), ("padding behind", token + "="),
            ("padding of the claims", "\(header).\(claims)=.\(mac)"), ("padding of the header", "\(header)=.\(claims).\(mac)"),
            ("bits behind the MAC", token.dropLast() + trailing), ("a letter more", token + "B"),
            ("a letter less", String(token.dropLast())), ("another last letter", token.dropLast() + other),
            ("base64 of the other alphabet", "\(header).\(claims).\(mac.dropLast(2))+/"), ("blank behind", token + " "),
            ("tab behind", token + "\t"), ("newline behind", token + "\n"), ("NUL behind", token + "\u{0}"),
            ("another behind a comma", "\(token),\(token)"), ("another behind a blank", "\(token) \(token)"),
            ("upper case", token.uppercased()), ("lower case", token.lowercased()), ("backwards", String(token.reversed())),
            ("commas for dots", token.replacing(".", with: ",")), ("unicode dots", token.replacing(".", with: "．")),
            ("a letter that looks alike", token.replacing("e", with: "е")),
            ("a zero-width blank inside", header + "\u{200B}." + claims + "." + mac),
            ("percent", token.replacing(".", with: "%2E")), ("in quotes", "\"\(token)\""),
            ("as JSON", #"{"protected":"\#(header)","payload":"\#(claims)","signature":"\#(mac)"}"#),
            ("one megabyte behind", token + String(repeating: "A", count: 1_000_000)),
            ("one megabyte of claims", "\(header).\(String(repeating: "A", count: 1_000_000)).\(mac)"),
            ("one megabyte of dots", header + String(repeating: ".", count: 1_000_000)),
            ("claims before the header", "\(claims).\(header).\(mac)"), ("the MAC twice", "\(header).\(mac).\(mac)"),
            ("the refresh token", login["refresh_token"]?.string ?? token), ("a refresh token that is none", "refresh_" + token),
        ]
    }

    private var claims: [Attack] {
        let changes: [KeyValuePairs<String, String>] = [
            ["iss": #""other""#], ["iss": "null"], ["iss": #"["thecloud"]"#], ["iss": #""TheCloud""#], ["aud": #""other""#],
            ["aud": #"["thecloud-api"]"#], ["aud": #""thecloud""#], ["aud": #"["thecloud-api","other"]"#], ["sub": #""""#], ["sub": "null"],
            ["sub": #""\#(account.uppercased())""#], ["sub": #""\#(account) ""#], ["sub": #""\#(account)' or '1'='1""#], ["sub": "1"],
            ["sid": #""""#], ["sid": "null"], ["sid": #""\#(session.uppercased())""#], ["sid": #""{\#(session)}""#], ["typ": #""refresh""#],
            ["typ": #""Access""#], ["typ": "null"], ["typ": #""access\u0000""#], ["exp": "null"], ["exp": #""\#(now + 1800)""#],
            ["exp": "\(now + 1800).0"], ["exp": "1e12"], ["exp": "9223372036854775808"], ["exp": "-1"], ["exp": "0"], ["exp": "\(now)"],
            ["exp": "\(now + 1801)"], ["exp": "true"], ["nbf": "\(now + 1)"], ["nbf": "0"], ["iat": "\(now - 1)"], ["iat": "\(now + 1)"],
            ["role": #""owner""#], ["jti": #""1""#], ["scope": #""*""#], ["exp": "\(now + 1800),\"exp\":\(now + 1800)"],
            ["sub": #""\#(session)","sub":"\#(account)""#], ["sid": #""\#(session)","sid":"\#(account)""#],
        ]
        let others = [
            ("expired by a second", payload(issuedAt: now - 1801)), ("expired by a day", payload(issuedAt: now - 86400)),
            ("not yet valid", payload(issuedAt: now + 3600)), ("valid in a while", payload(issuedAt: now + 600)),
            ("good for a year", payload(issuedAt: now, span: 31_536_000)), ("good for a second", payload(issuedAt: now, span: 1)),
            ("of 1970", payload(issuedAt: 0)), ("not before later", payload(issuedAt: now, notBefore: now + 60)),
            ("a blank behind", payload() + " "), ("twice", payload() + payload()), ("in a list", "[\(payload())]"),
            ("spaces", payload().replacing(",", with: ", ")), ("escaped", payload().replacing("iss", with: "i\\u0073s")),
            ("nothing", ""), ("an empty object", "{}"), ("null", "null"), ("only sub", #"{"sub":"\#(account)"}"#),
            (
                "other order",
                payload().replacing(#""iss":"thecloud","aud":"thecloud-api""#, with: #""aud":"thecloud-api","iss":"thecloud""#)
            ),
        ]
        return changes.map { ("claims \($0)", signed(payload($0))) } + others.map { ("claims \($0.0)", signed($0.1)) }
    }

    /// Signatures by whatever else somebody could know or hope for.
    private func macs() throws -> [Attack] {
        let message = Array((parts[0] + "." + parts[1]).utf8)
        let keyring = cloud.config.keyring
        let mac = keyring.jwt.sign(message)
        let wrong: [(String, [UInt8])] = [
            ("none", [UInt8](repeating: 0, count: 32)), ("a short MAC", Array(mac.dropLast())), ("a long MAC", mac + [0]),
            ("half a MAC", Array(mac.prefix(16))), ("a MAC backwards", Array(mac.reversed())),
            ("a flipped bit", [mac[0] ^ 1] + mac.dropFirst()),
            ("another flipped bit", mac.dropLast() + [mac[31] ^ 128]), ("no key", HMAC.sha256(key: [], message)),
            ("the key \"secret\"", HMAC.sha256(key: Array("secret".utf8), message)),
            ("the account as key", HMAC.sha256(key: Array(account.utf8), message)),
            ("the session as key", HMAC.sha256(key: Array(session.utf8), message)),
            ("the header as key", HMAC.sha256(key: Array(parts[0].utf8), message)),
            ("the address as key", HMAC.sha256(key: Array(owner.email.utf8), message)), ("a plain digest", SHA256.digest(message)),
            ("the key for idempotency", keyring.idempotency.sign(message)),
            ("a MAC of the claims alone", keyring.jwt.sign(Array(parts[1].utf8))),
            ("a MAC of the decoded text", keyring.jwt.sign(Array((Self.header + "." + payload()).utf8))),
            ("another installation's key", Keyring(secret: [UInt8](repeating: 9, count: 32), previous: nil).jwt.sign(message)),
        ]
        let later = payload(issuedAt: now + 30)
        return wrong.map { ("MAC: \($0.0)", parts[0] + "." + parts[1] + "." + Base64.url.encode($0.1)) }
            + [("other claims under the same MAC", [parts[0], base64(later), parts[2]].joined(separator: "."))]
    }

    /// Well made, of sessions that are not there or not theirs.
    private func strangers() throws -> [Attack] {
        let other = try cloud.newOwner()
        let ended = cloud.call(
            .post, "/api/v1/auth/login", json: ["email": .string(other.email), "password": .string(other.password)])
        let endedToken = try #require(ended["token"]?.string)
        let foreign = try #require(
            try cloud.admin("select id::text from sessions where owner_id = \(other.id)::uuid").scalar(String.self))
        #expect(cloud.call(.post, "/api/v1/auth/logout", headers: ["Authorization": "Bearer \(endedToken)"]).status == 200)
        let nobody = "01890000-0000-7000-8000-000000000000"
        let key = try cloud.keyID(owner.key)
        return [
            ("an ended session", endedToken), ("another's session", signed(payload(["sid": "\"\(foreign)\""]))),
            ("another's account", signed(payload(["sub": "\"\(other.id)\""]))), ("no account", signed(payload(["sub": "\"\(nobody)\""]))),
            ("no session", signed(payload(["sid": "\"\(nobody)\""]))), ("a key as session", signed(payload(["sid": "\"\(key)\""]))),
            ("the account as session", signed(payload(["sid": "\"\(account)\""]))),
            ("swapped", signed(payload(["sub": "\"\(session)\"", "sid": "\"\(account)\""]))),
        ]
    }
}
