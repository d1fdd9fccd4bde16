// /gw/<gateway>/…: what nginx asks about each request there before it sends it on (nginx/snippets/gateway.conf): the target, or why there is none.
// A request's body and its answer never come here. Tables routes, gateways, by find_route() of sql/0014_gateway.sql: there is no principal.
import API
import Crypto
import HTTP
import Identity
import Outbound
import Postgres

enum GatewayTraffic {
    static let routes: [Route] = [.question("/_gateway", judge)]

    /// Nothing is sent on: the status and, for 405, what is allowed. nginx makes the error body.
    private struct Refusal: Error {
        let status: Int
        var allowed: [String] = []
    }

    /// Bytes; nginx reads our headers into 16 KiB.
    private static let targetLimit = 8192
    private static let viaLimit = 1024

    private static func judge(_ context: Context) throws -> Response {
        do {
            return Response(status: 204, headers: try destination(context))
        } catch let refusal as Refusal {
            var headers = [(name: "X-Gateway-Verdict", value: String(refusal.status))]
            if !refusal.allowed.isEmpty { headers.append(("X-Gateway-Allow", refusal.allowed.joined(separator: ", "))) }
            return Response(status: 403, headers: headers)
        }
    }

    private static func destination(_ context: Context) throws -> [(name: String, value: String)] {
        guard let request = context.request.internalSubject.flatMap(GatewayRequest.init) else { throw Refusal(status: 404) }
        guard request.isPlain, namesNoOthers(context.request.headers) else { throw Refusal(status: 400) }
        let rows = try context.commit("select * from find_route(\(request.gateway), \(request.prefixes)::text[])")
        guard let route = rows.first.map(Found.init) else { throw Refusal(status: 404) }
        let via = try self.via(context.request.headers, pseudonym: "thecloud-\(route.stack.description.suffix(12))")
        try route.check(method: context.request.query["method"] ?? "")
        guard let target = try? Target(route.target), let address = route.address.flatMap({ CIDR($0) }),
            context.config.egress.admits(address)
        else { throw Refusal(status: 502) }
        let stripped = route.stripsPrefix && route.prefix != "/" ? route.prefix : ""
        let folder = target.rest.hasSuffix("/") ? String(target.rest.dropLast()) : target.rest
        let scheme = target.isSecure ? "https" : "http"
        let host = address.isIPv4 ? address.addressText : "[\(address.addressText)]"
        let path = GatewayRequest.join(target.rest, request.encoded(without: stripped))
        guard path.utf8.count <= targetLimit else { throw Refusal(status: 414) }
        let authorization = context.request.headers.values("authorization").joined(separator: ",")
        return [
            ("X-Gateway-Target", "\(scheme)://\(host):\(target.port)\(path)"),
            ("X-Gateway-Host", target.authority),
            ("X-Gateway-Name", target.hostText.hasSuffix(".") ? String(target.hostText.dropLast()) : target.hostText),
            ("X-Gateway-Prefix", GatewayRequest.path + request.gateway + stripped),
            ("X-Gateway-Base", "\(scheme)://\(target.authority)\(folder)"),
            ("X-Gateway-Folder", folder),
            ("X-Gateway-Via", via),
            ("X-Gateway-Credential", Credential.isOurs(authorization, context.config.keyring) ? "ours" : ""),
        ].filter { !$0.1.isEmpty }
    }

    /// Whether `Connection` names no header but those that nginx drops by itself: others it would send on (RFC 9110 §7.6.1).
    private static func namesNoOthers(_ headers: Headers) -> Bool {
        headers.values("connection").joined(separator: ",").split(separator: ",").allSatisfy { word in
            hopByHop.contains(word.lowercased().filter { !$0.isWhitespace })
        }
    }

    private static let hopByHop: Set = [
        "", "close", "keep-alive", "upgrade", "te", "trailer", "transfer-encoding", "proxy-connection", "http2-settings",
    ]

    /// What goes on as `Via`.
    /// - Throws: 508 for a request that we have sent on before.
    private static func via(_ headers: Headers, pseudonym: String) throws(Refusal) -> String {
        let before = headers.values("via").joined(separator: ", ")
        guard !before.contains(pseudonym) else { throw Refusal(status: 508) }
        let isSane = !before.isEmpty && before.utf8.count <= viaLimit
        return (isSane ? before + ", " : "") + "1.1 " + pseudonym
    }

    private struct Found {
        let prefix: String
        let target: String
        let stripsPrefix: Bool
        let methods: [String]
        let address: String?
        let stack: ID

        init(_ row: Row) {
            var row = row
            prefix = row.next()
            target = row.next()
            stripsPrefix = row.next()
            methods = row.next()
            address = row.next()
            stack = row.next()
        }

        func check(method: String) throws(Refusal) {
            let allowed = methods.contains("GET") && !methods.contains("HEAD") ? methods + ["HEAD"] : methods
            guard allowed.isEmpty || allowed.contains(method) else { throw Refusal(status: 405, allowed: allowed) }
        }
    }
}

/// The path of a request to a gateway, as nginx decoded and normalised it. What is matched is what is sent on, encoded anew.
struct GatewayRequest {
    let gateway: String
    /// Behind the gateway's id; starts with `/`.
    private let path: [UInt8]

    /// How URLs of gateways begin.
    static let path = "/gw/"
    private static let letters = Array("abcdefghijklmnopqrstuvwxyz234567".utf8)
    private static let idLength = 12
    private static let prefixLimit = 256

    /// `nil` for a path without a gateway's id.
    init?(_ text: String) {
        let bytes = Array(text.utf8)
        let start = Self.path.utf8.count
        guard bytes.starts(with: Self.path.utf8), bytes.count >= start + Self.idLength else { return nil }
        let id = bytes[start..<(start + Self.idLength)]
        let rest = bytes[id.endIndex...]
        guard id.allSatisfy(Self.letters.contains), rest.isEmpty || rest.first == UInt8(ascii: "/") else { return nil }
        gateway = String(decoding: id, as: UTF8.self)
        path = rest.isEmpty ? [UInt8(ascii: "/")] : Array(rest)
    }

    /// Twelve random letters.
    static func newID() -> String { String(decoding: Random.bytes(idLength).map { letters[Int($0 % 32)] }, as: UTF8.self) }

    /// False for what readers behind us could take for another path: bytes that were no UTF-8, and dot segments in the disguise of
    /// `..;` or `\..`, which some servers see through.
    var isPlain: Bool {
        guard !String(decoding: path, as: UTF8.self).unicodeScalars.contains("\u{FFFD}") else { return false }
        return path.split(whereSeparator: { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "\\") }).allSatisfy { segment in
            !["..", "."].contains(String(decoding: segment.prefix { $0 != UInt8(ascii: ";") }, as: UTF8.self))
        }
    }

    /// All prefixes of the path that end where a segment ends.
    var prefixes: [String] {
        let ends = path.indices.dropFirst().prefix(Self.prefixLimit).filter { path[$0] == UInt8(ascii: "/") }
        let whole = path.count <= Self.prefixLimit ? [path.count] : []
        return ["/"] + (ends + whole).map { String(decoding: path[..<$0], as: UTF8.self) }
    }

    /// The path behind a prefix, percent-encoded.
    func encoded(without prefix: String) -> String {
        var text: [UInt8] = []
        for byte in path.dropFirst(prefix.utf8.count) {
            if Self.isUnreserved(byte) || Self.delimiters.contains(byte) {
                text.append(byte)
            } else {
                text += [UInt8(ascii: "%"), Self.digits[Int(byte >> 4)], Self.digits[Int(byte & 15)]]
            }
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// A target's own path, and behind it a request's.
    static func join(_ folder: String, _ path: String) -> String {
        if path.isEmpty { return folder.isEmpty ? "/" : folder }
        return (folder.hasSuffix("/") ? String(folder.dropLast()) : folder) + path
    }

    /// Whether it may be a target's own path (RFC 3986 §3.3), or is empty.
    static func isPath(_ text: String) -> Bool {
        guard text.isEmpty || text.wholeMatch(of: /\/([A-Za-z0-9\-._~!$&'()*+,;=:@\/]|%[0-9A-Fa-f]{2})*/) != nil else { return false }
        let decoded = text.replacing(/%2[eE]/, with: ".")
        return decoded.split(separator: "/").allSatisfy { $0 != "." && $0 != ".." }
    }

    /// RFC 3986 §2.3.
    static func isUnreserved(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
            true
        default: false
        }
    }

    /// What else stands in a path as it is (RFC 3986 §3.3).
    private static let delimiters = Set("!$&'()*+,;=:@/".utf8)
    private static let digits = Array("0123456789ABCDEF".utf8)
}
