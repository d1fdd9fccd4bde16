// A client of a Redis server that speaks its protocol (RESP2) over a socket: one connection, one command at a time.
import Glibc
import HTTP
import TestSupport

final class Redis {
    private let descriptor: Int32
    private var held: [UInt8] = []

    /// - Parameter url: `redis://:password@host:port/0`.
    /// - Returns: `nil` when nobody takes the connection.
    static func connect(_ url: String) -> (Redis, password: String)? {
        guard let match = url.wholeMatch(of: /redis:\/\/:(.*)@([0-9.]+):([0-9]+)\/0/), let port = UInt16(match.3) else { return nil }
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        inet_pton(AF_INET, String(match.2), &address.sin_addr)
        let status = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard status == 0 else {
            close(descriptor)
            return nil
        }
        var limit = timeval(tv_sec: 30, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        return (Redis(descriptor), String(match.1))
    }

    private init(_ descriptor: Int32) { self.descriptor = descriptor }

    deinit { close(descriptor) }

    /// One command.
    /// - Returns: a text or number as a text, an error with its `-`, lists item by item with blanks between, `nil` for nothing.
    func callAsFunction(_ words: String...) throws -> String? { try self(words) }

    func callAsFunction(_ words: [String]) throws -> String? {
        let request = "*\(words.count)\r\n" + words.map { "$\($0.utf8.count)\r\n\($0)\r\n" }.joined()
        guard send(descriptor, request, request.utf8.count, Int32(MSG_NOSIGNAL)) == request.utf8.count else {
            throw Unexpected(description: "the server has gone")
        }
        return try answer()
    }

    private func answer() throws -> String? {
        let line = try line()
        let rest = String(line.dropFirst())
        switch line.first {
        case "+", ":": return rest
        case "-": return line
        case "$":
            guard let count = Int(rest), count >= 0 else { return nil }
            let bytes = try take(count + 2)
            return String(decoding: bytes.dropLast(2), as: UTF8.self)
        case "*": return try (0..<max(Int(rest) ?? 0, 0)).map { _ in try answer() ?? "" }.joined(separator: " ")
        default: throw Unexpected(description: "not Redis: \(line)")
        }
    }

    private func line() throws -> String {
        while true {
            if let end = held.firstIndex(of: 0x0A) { return String(decoding: try take(end + 1).dropLast(2), as: UTF8.self) }
            try more()
        }
    }

    private func take(_ count: Int) throws -> [UInt8] {
        while held.count < count { try more() }
        defer { held.removeFirst(count) }
        return Array(held.prefix(count))
    }

    private func more() throws {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = recv(descriptor, &buffer, buffer.count, 0)
        guard count > 0 else { throw Unexpected(description: "the server has gone") }
        held += buffer.prefix(count)
    }
}
