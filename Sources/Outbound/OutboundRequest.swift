// What goes out and what comes back over HTTP, as values. Nothing is added behind the caller's back: no redirects, no cookies, no proxy,
// no `User-Agent`, no decompression. All sizes are bytes, all times milliseconds.
import CCurl

package struct OutboundRequest: Sendable {
    /// A token in upper case (RFC 9110 §9.1).
    package var method: String
    /// Absolute, `http` or `https`, at most 64 KiB.
    package var url: String
    /// Anything but `Content-Length` and `Transfer-Encoding`.
    package var headers: [(name: String, value: String)]
    /// `nil` sends none; for POST, PUT and PATCH that is an empty one.
    package var body: [UInt8]?
    /// The whole exchange, connecting included; 0 means no limit, for streams only.
    package var timeout: Int
    /// 0 is libcurl's own, five minutes.
    package var connectTimeout: Int
    /// The longest body that is taken; a longer one ends the exchange.
    package var responseLimit: Int
    /// Whether a longer body is simply cut off there, and no failure.
    package var isCut: Bool
    /// Connect to this socket instead of the URL's host.
    package var unixSocket: String?

    package init(
        method: String = "GET", url: String, headers: [(name: String, value: String)] = [], body: [UInt8]? = nil, timeout: Int = 30_000,
        connectTimeout: Int = 5_000, responseLimit: Int = 1 << 20, isCut: Bool = false, unixSocket: String? = nil
    ) {
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.timeout = timeout
        self.connectTimeout = connectTimeout
        self.responseLimit = responseLimit
        self.isCut = isCut
        self.unixSocket = unixSocket
    }
}

package struct OutboundResponse: Sendable {
    /// Three digits; of several answers (100, then 200) the last.
    package let status: Int
    /// Names in lower case, as they came otherwise.
    package let headers: [(name: String, value: String)]
    package let body: [UInt8]

    /// The first value of a header whose lower-case name is given.
    package func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }

    /// Seconds from `now` (Unix time) that the other side asks us to wait (`Retry-After`, RFC 9110 §10.2.3): a number or a date.
    package func retryAfter(now: Int) -> Int? {
        guard let text = header("retry-after") else { return nil }
        if !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) { return Int(text) ?? .max }
        let date = curl_getdate(text, nil)
        return date < 0 ? nil : max(Int(date) - now, 0)
    }
}

/// Why there is no answer. The texts name hosts and causes, never credentials, headers or bodies.
package enum OutboundError: Error, Equatable, Sendable {
    /// The request itself can't be sent as it is.
    case invalidRequest(String)
    /// The egress rule allows no connection to where the URL leads. Nothing was sent.
    case forbidden
    /// No connection: the name does not resolve, nobody listens, the socket is missing. Nothing was sent.
    case unreachable(String)
    /// The other side could not prove who it is, or TLS failed otherwise. Nothing was sent.
    case untrusted(String)
    case timedOut
    /// The answer's body or headers are longer than allowed.
    case tooLarge(limit: Int)
    /// `isCancelled` said so.
    case cancelled
    /// The connection broke or spoke something else than HTTP; the request may have been carried out.
    case broken(String)
}

extension OutboundError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .invalidRequest(let why): "the request can't be sent: \(why)"
        case .forbidden: "the URL \(EgressRule.refusal)"
        case .unreachable(let why), .untrusted(let why), .broken(let why): why
        case .timedOut: "no complete answer in time"
        case .tooLarge(let limit): "the answer is larger than \(limit) bytes"
        case .cancelled: "cancelled"
        }
    }
}
