// A connection that speaks something of its own after an HTTP upgrade (RFC 9110 §7.8): libcurl connects, the bytes are the caller's.
// For one thread at a time; whoever holds it may hand it on. Times are instants, so that one deadline may span several calls.
import CCurl
import Glibc

package final class RawConnection {
    private let handle = EasyHandle()
    private let descriptor: Int32
    /// What came behind the answer's head.
    private var held: [UInt8] = []

    /// The longest head that is taken.
    private static let headLimit = 64 << 10

    /// What came of asking for an upgrade.
    package enum Upgrade {
        case switched(RawConnection)
        /// The other side answered instead; of the body, what came at once.
        case refused(OutboundResponse)
    }

    /// Connects and asks for an upgrade.
    /// - Parameters:
    ///   - url: `http://` and a host.
    ///   - path: with its query, as it goes over the wire.
    ///   - unixSocket: connect to it instead of the host.
    package static func upgrade(
        _ method: String, url: String, path: String, unixSocket: String?, deadline: ContinuousClock.Instant
    ) throws(OutboundError) -> Upgrade {
        let connection = try RawConnection(url: url, unixSocket: unixSocket, deadline: deadline)
        let host = url.dropFirst("http://".count)
        let head = "\(method) \(path) HTTP/1.1\r\nHost: \(host)\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
        try connection.send(Array(head.utf8), deadline: deadline)
        return try connection.readHead(deadline).map(Upgrade.refused) ?? .switched(connection)
    }

    private init(url: String, unixSocket: String?, deadline: ContinuousClock.Instant) throws(OutboundError) {
        let left = Self.milliseconds(until: deadline)
        guard left > 0 else { throw .timedOut }
        handle.reset(protocols: "http", timeout: 0, connectTimeout: left, caFile: nil)
        handle.set(CURLOPT_URL, url)
        handle.set(CURLOPT_CONNECT_ONLY, 1)
        if let unixSocket { handle.set(CURLOPT_UNIX_SOCKET_PATH, unixSocket) }
        let code = handle.perform()
        var descriptor: curl_socket_t = -1
        guard code == CURLE_OK, thecloud_get_socket(handle.curl, CURLINFO_ACTIVESOCKET, &descriptor) == CURLE_OK, descriptor >= 0 else {
            throw .unreachable(handle.explanation(of: code))
        }
        self.descriptor = descriptor
    }

    /// Sends all of the bytes.
    /// - Throws: `timedOut`, or `broken` when the other side has gone; part of them may have been sent.
    package func send(_ bytes: [UInt8], deadline: ContinuousClock.Instant) throws(OutboundError) {
        var sent = 0
        while sent < bytes.count {
            var count = 0
            let code = bytes.withUnsafeBytes { curl_easy_send(handle.curl, $0.baseAddress?.advanced(by: sent), $0.count - sent, &count) }
            switch code {
            case CURLE_OK: sent += count
            case CURLE_AGAIN: guard isReady(POLLOUT, until: deadline) else { throw .timedOut }
            default: throw .broken(EasyHandle.name(of: code))
            }
        }
    }

    /// Waits for bytes.
    /// - Returns: at least one; none when the other side has ended; `nil` when the deadline came first.
    /// - Throws: `broken`.
    package func receive(deadline: ContinuousClock.Instant) throws(OutboundError) -> [UInt8]? {
        if !held.isEmpty {
            defer { held = [] }
            return held
        }
        while true {
            var count = 0
            var code = CURLE_OK
            let bytes = [UInt8](unsafeUninitializedCapacity: 64 << 10) { buffer, filled in
                code = curl_easy_recv(handle.curl, buffer.baseAddress, buffer.count, &count)
                filled = code == CURLE_OK ? count : 0
            }
            switch code {
            case CURLE_OK: return bytes
            case CURLE_AGAIN: guard isReady(POLLIN, until: deadline) else { return nil }
            default: throw .broken(EasyHandle.name(of: code))
            }
        }
    }

    /// Whether the socket is ready for it; `false` when the deadline came first.
    private func isReady(_ events: Int32, until deadline: ContinuousClock.Instant) -> Bool {
        var waited = pollfd(fd: descriptor, events: Int16(events), revents: 0)
        while true {
            let left = Self.milliseconds(until: deadline)
            guard left > 0 else { return false }
            if poll(&waited, 1, Int32(min(left, 60_000))) > 0 { return true }
        }
    }

    private static func milliseconds(until deadline: ContinuousClock.Instant) -> Int {
        Int((ContinuousClock.now.duration(to: deadline) / .milliseconds(1)).rounded(.up))
    }

    /// - Returns: `nil` when the protocol is switched.
    private func readHead(_ deadline: ContinuousClock.Instant) throws(OutboundError) -> OutboundResponse? {
        var bytes: [UInt8] = []
        while true {
            if let end = Self.end(ofHead: bytes) {
                let lines = String(decoding: bytes[..<end], as: UTF8.self).split(separator: "\r\n")
                let words = (lines.first ?? "").split(separator: " ")
                guard words.count >= 2, words[0].hasPrefix("HTTP/"), let status = Int(words[1]) else {
                    throw .broken("the answer is no HTTP")
                }
                let rest = Array(bytes[end...])
                if status == 101 {
                    held = rest
                    return nil
                }
                return OutboundResponse(status: status, headers: [], body: try body(rest, deadline))
            }
            guard bytes.count < Self.headLimit else { throw .tooLarge(limit: Self.headLimit) }
            guard let more = try receive(deadline: deadline) else { throw .timedOut }
            guard !more.isEmpty else { throw .broken("the connection ended before an answer") }
            bytes += more
        }
    }

    /// Where the empty line ends.
    private static func end(ofHead bytes: [UInt8]) -> Int? {
        guard bytes.count >= 4 else { return nil }
        return (4...bytes.count).first { bytes[($0 - 4)..<$0].elementsEqual([0x0D, 0x0A, 0x0D, 0x0A]) }
    }

    /// What of a refusal's body comes at once; it only explains.
    private func body(_ rest: [UInt8], _ deadline: ContinuousClock.Instant) throws(OutboundError) -> [UInt8] {
        rest.isEmpty ? try receive(deadline: min(deadline, .now + .milliseconds(500))) ?? [] : rest
    }
}
