// A WebSocket client for tests (RFC 6455), over plain TCP: text messages, pings answered, closing told. Debian's libcurl speaks none.
import FoundationEssentials
import Glibc
import HTTP
import Testing

final class WebSocket {
    enum Received: Equatable {
        case message(String)
        /// With the peer's status code; 1006 where it gave none.
        case closed(Int)
        /// Nothing came in time.
        case silence
    }

    struct Refused: Error, CustomStringConvertible {
        let status: Int
        let body: String
        var description: String { "the upgrade is answered \(status): \(body)" }
    }

    private let descriptor: Int32
    private var buffer: [UInt8] = []

    /// Connects to the stack under test and upgrades.
    /// - Throws: `Refused` where the server answers otherwise.
    init(_ path: String, headers: [(name: String, value: String)] = []) throws {
        let url = try #require(Stack.url.wholeMatch(of: /http:\/\/([0-9.]+):([0-9]+)/))
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = try #require(UInt16(url.2)).bigEndian
        inet_pton(AF_INET, String(url.1), &address.sin_addr)
        let connected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        try #require(connected == 0)
        let lines =
            [
                "GET \(path) HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            ] + headers.map { "\($0.name): \($0.value)" } + ["", ""]
        put(Array(lines.joined(separator: "\r\n").utf8))
        let end = Array("\r\n\r\n".utf8)
        var head: [UInt8] = []
        while !head.suffix(4).elementsEqual(end), let byte = take(1, within: 10)?.first { head.append(byte) }
        let status = Int(String(decoding: head.dropFirst(9).prefix(3), as: UTF8.self)) ?? 0
        guard status == 101 else {
            let length = String(decoding: head, as: UTF8.self).lowercased().firstMatch(of: /content-length: ([0-9]+)/).flatMap { Int($0.1) }
            let body = take(length ?? 0, within: 5) ?? []
            throw Refused(status: status, body: String(decoding: body, as: UTF8.self))
        }
        try #require(String(decoding: head, as: UTF8.self).contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "RFC 6455 §4.2.2")
    }

    deinit { close(descriptor) }

    func send(_ message: JSON) { frame(0x81, message.bytes) }

    /// The next message, with pings answered on the way.
    func receive(within seconds: Double = 20) -> Received {
        guard let head = take(2, within: seconds) else { return buffer.isEmpty ? .silence : .closed(1006) }
        guard head.count == 2 else { return .closed(1006) }
        var length = Int(head[1] & 0x7F)
        if length > 125 { length = (take(length == 126 ? 2 : 8, within: 5) ?? []).reduce(0) { $0 << 8 | Int($1) } }
        guard let payload = length == 0 ? [] : take(length, within: 5), payload.count == length else { return .closed(1006) }
        switch head[0] & 0x0F {
        case 0x8:
            frame(0x88, Array(payload.prefix(2)))
            return .closed(payload.count >= 2 ? Int(payload[0]) << 8 | Int(payload[1]) : 1006)
        case 0x9:
            frame(0x8A, payload)
            return receive(within: seconds)
        case 0xA: return receive(within: seconds)
        default: return .message(String(decoding: payload, as: UTF8.self))
        }
    }

    /// The next message as it came.
    func text(sourceLocation: SourceLocation = #_sourceLocation) -> String {
        let received = receive()
        guard case .message(let text) = received else {
            Issue.record("\(received) instead of a message", sourceLocation: sourceLocation)
            return ""
        }
        return text
    }

    /// The next message's object.
    func message(sourceLocation: SourceLocation = #_sourceLocation) throws -> JSON {
        try JSON(parsing: Array(text(sourceLocation: sourceLocation).utf8))
    }

    /// A final frame; clients mask (RFC 6455 §5.3), with zeros here.
    private func frame(_ opcode: UInt8, _ payload: [UInt8]) {
        var bytes = [opcode]
        switch payload.count {
        case ...125: bytes.append(0x80 | UInt8(payload.count))
        case ...0xFFFF: bytes += [0x80 | 126, UInt8(payload.count >> 8), UInt8(payload.count & 0xFF)]
        default: bytes += [0x80 | 127] + (0..<8).map { UInt8(truncatingIfNeeded: payload.count >> (56 - 8 * $0)) }
        }
        put(bytes + [0, 0, 0, 0] + payload)
    }

    private func put(_ bytes: [UInt8]) {
        _ = bytes.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    }

    /// So many bytes; fewer where the peer has gone, `nil` where none came in time.
    private func take(_ count: Int, within seconds: Double) -> [UInt8]? {
        let deadline = ContinuousClock.now + .seconds(seconds)
        while buffer.count < count {
            let left = ContinuousClock.now.duration(to: deadline)
            guard left > .zero else { return nil }
            var event = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&event, 1, Int32(left / .milliseconds(1)) + 1) > 0 else { continue }
            var room = [UInt8](repeating: 0, count: 1 << 16)
            let got = recv(descriptor, &room, room.count, 0)
            if got <= 0 { break }
            buffer += room.prefix(got)
        }
        defer { buffer.removeFirst(min(count, buffer.count)) }
        return Array(buffer.prefix(count))
    }
}
