// An HTTP client over one libcurl handle: synchronous, for one thread at a time, connections are kept and reused.
// The process must ignore SIGPIPE: a peer that goes away while TLS is written would end it.
// A request on a kept connection that turns out to be dead is sent again by libcurl, as long as no byte of an answer came.
import CCurl
import HTTP

package final class HTTPClient {
    private let handle = EasyHandle()
    private let caFile: String?
    private let egress: EgressRule?

    /// - Parameters:
    ///   - caFile: trust this PEM file instead of the system's authorities.
    ///   - egress: the rule for URLs that users chose; each request then gets a connection of its own, to an address that was judged for it.
    ///     Without one (our own engine) any place is good.
    package init(caFile: String? = nil, egress: EgressRule? = nil) {
        self.caFile = caFile
        self.egress = egress
    }

    /// One exchange; every status is an answer, redirects too.
    /// - Parameter isCancelled: asked at least once a second, also while nothing comes; `true` ends the exchange.
    /// - Throws: why there is no complete answer.
    package func send(_ request: OutboundRequest, isCancelled: (() -> Bool)? = nil) throws(OutboundError) -> OutboundResponse {
        guard request.timeout > 0 else { throw .invalidRequest("it has no timeout") }
        return try run(request, onBytes: nil, isCancelled: isCancelled)
    }

    /// Like `send`, but the body of a 2xx goes to `onBytes` as it comes, without a limit; the body of any other status is in the answer.
    /// - Parameter onBytes: gets 1–16384 bytes; `false` ends the exchange, which is then no failure. It must not use this client.
    package func stream(
        _ request: OutboundRequest, isCancelled: (() -> Bool)? = nil, onBytes: @escaping ([UInt8]) -> Bool
    ) throws(OutboundError) -> OutboundResponse {
        try run(request, onBytes: onBytes, isCancelled: isCancelled)
    }

    private func run(
        _ request: OutboundRequest, onBytes: (([UInt8]) -> Bool)?, isCancelled: (() -> Bool)?
    ) throws(OutboundError) -> OutboundResponse {
        try check(request)
        let start = ContinuousClock.now
        let route = try route(to: request)
        // Resolving takes of the time that the whole exchange has.
        let timeout = request.timeout - (route == nil ? 0 : Int((ContinuousClock.now - start) / .milliseconds(1)))
        guard timeout > 0 || request.timeout == 0 else { throw .timedOut }
        handle.reset(protocols: "http,https", timeout: timeout, connectTimeout: request.connectTimeout, caFile: caFile)
        handle.set(CURLOPT_URL, request.url)
        handle.set(CURLOPT_FOLLOWLOCATION, 0)
        if let socket = request.unixSocket { handle.set(CURLOPT_UNIX_SOCKET_PATH, socket) }
        let pins = TextList(route?.pins ?? [])
        if route != nil {
            thecloud_set_list(handle.curl, CURLOPT_RESOLVE, pins.list)
            handle.set(CURLOPT_FRESH_CONNECT, 1)
            handle.set(CURLOPT_FORBID_REUSE, 1)
        }
        let lines = TextList(headerLines(request))
        thecloud_set_list(handle.curl, CURLOPT_HTTPHEADER, lines.list)
        let exchange = Exchange(
            handle, limit: request.responseLimit, isCut: request.isCut, admitted: route?.addresses, onBytes: onBytes,
            isCancelled: isCancelled)
        exchange.attach()
        let body = request.body ?? (["POST", "PUT", "PATCH"].contains(request.method) ? [] : nil)
        let code = withExtendedLifetime((lines, pins, exchange)) { perform(method: request.method, body: body) }
        // The next exchange must not find pointers of this one.
        defer { curl_easy_reset(handle.curl) }
        guard code == CURLE_OK || exchange.isEnded else { throw failure(code, exchange) }
        return OutboundResponse(status: handle.status, headers: exchange.headers, body: exchange.body)
    }

    /// Where a request may connect to.
    private struct Route {
        let addresses: [CIDR]
        /// For `CURLOPT_RESOLVE`: the name is not looked up again.
        let pins: [String]
    }

    private func route(to request: OutboundRequest) throws(OutboundError) -> Route? {
        guard let egress else { return nil }
        let target: Target
        do {
            target = try Target(request.url)
        } catch {
            throw .invalidRequest("the URL \(error)")
        }
        guard request.unixSocket == nil else { throw .forbidden }
        let addresses = try egress.addresses(of: target)
        guard case .name = target.host else { return Route(addresses: addresses, pins: []) }
        let list = addresses.map { $0.isIPv4 ? $0.addressText : "[\($0.addressText)]" }.joined(separator: ",")
        return Route(addresses: addresses.map(EgressRule.canonical), pins: ["\(target.hostText):\(target.port):\(list)"])
    }

    private func perform(method: String, body: [UInt8]?) -> CURLcode {
        guard let body else {
            if method == "HEAD" { handle.set(CURLOPT_NOBODY, 1) } else { handle.set(CURLOPT_CUSTOMREQUEST, method) }
            return handle.perform()
        }
        handle.set(CURLOPT_POST, 1)
        handle.set(CURLOPT_CUSTOMREQUEST, method)
        thecloud_set_size(handle.curl, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(body.count))
        return body.withUnsafeBytes { bytes in
            // A null pointer would make libcurl read the body from standard input.
            withUnsafeBytes(of: UInt8(0)) { nothing in
                thecloud_set_pointer(handle.curl, CURLOPT_POSTFIELDS, bytes.baseAddress ?? nothing.baseAddress)
                return handle.perform()
            }
        }
    }

    /// libcurl's own additions (`Expect`, a form's `Content-Type`) are taken away; `Name;` is how it wants an empty or blank value.
    private func headerLines(_ request: OutboundRequest) -> [String] {
        var lines = request.headers.map { $0.value.allSatisfy(\.isWhitespace) ? "\($0.name);" : "\($0.name): \($0.value)" }
        for name in ["expect", "content-type"] where !request.headers.contains(where: { $0.name.lowercased() == name }) {
            lines.append("\(name):")
        }
        return lines
    }

    private func check(_ request: OutboundRequest) throws(OutboundError) {
        let url = request.url.utf8
        guard request.url.lowercased().hasPrefix("http://") || request.url.lowercased().hasPrefix("https://"),
            url.allSatisfy({ $0 > 0x20 && $0 != 0x7F }), url.count <= 1 << 16
        else { throw .invalidRequest("the URL is not absolute http or https") }
        guard isToken(request.method) else { throw .invalidRequest("the method is no token") }
        let times = 0...Int(Int32.max)
        guard times.contains(request.timeout), times.contains(request.connectTimeout), request.responseLimit >= 0 else {
            throw .invalidRequest("a limit is out of range")
        }
        if let socket = request.unixSocket {
            guard !socket.isEmpty, socket.utf8.count <= 107, !socket.utf8.contains(0) else {
                throw .invalidRequest("a socket's path has 1 to 107 bytes")
            }
        }
        for (name, value) in request.headers {
            guard isToken(name), value.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 }) else {
                throw .invalidRequest("a header has characters that headers can't have")
            }
            // Another length than the body's would make the next request on the connection part of this one.
            guard !["content-length", "transfer-encoding"].contains(name.lowercased()) else {
                throw .invalidRequest("the body's length is not for the caller to announce")
            }
        }
    }

    private func isToken(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.allSatisfy { (0x21...0x7E).contains($0) && !"\"(),/:;<=>?@[\\]{}".utf8.contains($0) }
    }

    private func failure(_ code: CURLcode, _ exchange: Exchange) -> OutboundError {
        if let limit = exchange.exceeded { return .tooLarge(limit: limit) }
        if exchange.isForbidden { return .forbidden }
        let why = handle.explanation(of: code)
        return switch code {
        case CURLE_ABORTED_BY_CALLBACK: .cancelled
        case CURLE_OPERATION_TIMEDOUT: .timedOut
        case CURLE_URL_MALFORMAT: .invalidRequest(why)
        case CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_CONNECT: .unreachable(why)
        case CURLE_SSL_CONNECT_ERROR, CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CERTPROBLEM, CURLE_SSL_CACERT_BADFILE: .untrusted(why)
        default: .broken(why)
        }
    }
}
