// A raw FastCGI client: it can say what nginx says, and what nginx never would.
import Glibc
import Testing

/// What came back on a connection until it closed.
struct Answer: Equatable {
    var status = 0
    var headers: [String: String] = [:]
    var body: [UInt8] = []
    /// An END_REQUEST record closed the answer.
    var isComplete = false

    var text: String { String(decoding: body, as: UTF8.self) }
}

/// Nobody accepts connections there.
struct Refused: Error, Equatable {
    let code: Int32
}

struct Client: ~Copyable {
    let descriptor: Int32

    /// Connects to a unix socket, or to a port of 127.0.0.1 with `":port"`.
    init(_ socket: String) throws {
        let isTCP = socket.hasPrefix(":")
        let opened = Glibc.socket(isTCP ? AF_INET : AF_UNIX, 1, 0)
        try #require(opened >= 0)
        var limit = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(opened, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        let connected: Int32
        if isTCP {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = try #require(UInt16(socket.dropFirst())).bigEndian
            address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
            connected = Self.connect(opened, &address)
        } else {
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: socket.utf8) }
            connected = Self.connect(opened, &address)
        }
        guard connected == 0 else {
            let code = errno
            close(opened)
            throw Refused(code: code)
        }
        descriptor = opened
    }

    deinit { close(descriptor) }

    private static func connect<Address>(_ descriptor: Int32, _ address: inout Address) -> Int32 {
        withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<Address>.size)) }
        }
    }

    /// - Returns: whether all could be sent.
    @discardableResult
    func send(_ bytes: [UInt8]) -> Bool {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, 0x4000) }
            guard count > 0 else { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }

    func finishSending() { shutdown(descriptor, Int32(SHUT_WR)) }

    /// Reads until the peer closes.
    func receive() -> Answer {
        var bytes: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 65536)
        while case let count = recv(descriptor, &part, part.count, 0), count > 0 { bytes += part[..<count] }
        return Answer(records: bytes)
    }

    /// Reads one answer, until its END_REQUEST record or the peer closes.
    func receiveOne() -> Answer {
        var bytes: [UInt8] = []
        while readExactly(8, onto: &bytes) {
            let header = bytes.suffix(8)
            let (kind, rest) = (header[header.startIndex + 1], header.dropFirst(4))
            let length = Int(rest[rest.startIndex]) << 8 | Int(rest[rest.startIndex + 1])
            guard readExactly(length + Int(rest[rest.startIndex + 2]), onto: &bytes), kind != 3 else { break }
        }
        return Answer(records: bytes)
    }

    private func readExactly(_ count: Int, onto bytes: inout [UInt8]) -> Bool {
        var part = [UInt8](repeating: 0, count: count)
        guard count == 0 || recv(descriptor, &part, count, Int32(MSG_WAITALL)) == count else { return false }
        bytes += part
        return true
    }

    /// Asks on this connection and keeps it.
    func ask(_ parameters: KeyValuePairs<String, String>, body: [UInt8] = []) -> Answer {
        send(Records.request(parameters, body: body, keeps: true))
        return receiveOne()
    }

    func get(_ path: String, query: String = "") -> Answer {
        ask(["REQUEST_METHOD": "GET", "DOCUMENT_URI": path, "QUERY_STRING": query])
    }

    /// Whether there is something to read.
    var hasAnswer: Bool {
        var polled = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&polled, 1, 0) > 0
    }

    /// Waits until the peer has closed; false when it says something instead.
    func closes() -> Bool {
        var byte: UInt8 = 0
        let count = recv(descriptor, &byte, 1, 0)
        return count == 0 || count < 0 && errno == ECONNRESET
    }

    static func ask(_ socket: String, _ parameters: KeyValuePairs<String, String>, body: [UInt8] = []) throws -> Answer {
        let client = try Client(socket)
        client.send(Records.request(parameters, body: body))
        return client.receive()
    }

    static func get(_ socket: String, _ path: String, query: String = "") throws -> Answer {
        try ask(socket, ["REQUEST_METHOD": "GET", "DOCUMENT_URI": path, "QUERY_STRING": query])
    }
}

/// Bytes of FastCGI records, request id 1.
enum Records {
    static let begin = record(1, [0, 1, 0, 0, 0, 0, 0, 0])
    /// With FCGI_KEEP_CONN.
    static let keepingBegin = record(1, [0, 1, 1, 0, 0, 0, 0, 0])

    static func record(_ kind: UInt8, _ content: [UInt8], version: UInt8 = 1) -> [UInt8] {
        [version, kind, 0, 1, UInt8(content.count >> 8), UInt8(content.count & 0xFF), 0, 0] + content
    }

    static func pairs(_ parameters: KeyValuePairs<String, String>) -> [UInt8] {
        parameters.flatMap { length($0.utf8.count) + length($1.utf8.count) + Array($0.utf8) + Array($1.utf8) }
    }

    static func length(_ count: Int) -> [UInt8] {
        count < 128
            ? [UInt8(count)] : [UInt8(count >> 24) | 0x80, UInt8(count >> 16 & 0xFF), UInt8(count >> 8 & 0xFF), UInt8(count & 0xFF)]
    }

    static func request(_ parameters: KeyValuePairs<String, String>, body: [UInt8] = [], keeps: Bool = false) -> [UInt8] {
        (keeps ? keepingBegin : begin) + record(4, pairs(parameters)) + record(4, []) + input(body) + record(5, [])
    }

    static func input(_ body: [UInt8]) -> [UInt8] {
        stride(from: 0, to: body.count, by: 60_000).flatMap { record(5, Array(body[$0..<min(body.count, $0 + 60_000)])) }
    }
}

extension Answer {
    fileprivate init(records bytes: [UInt8]) {
        var output: [UInt8] = []
        var offset = 0
        while offset + 8 <= bytes.count {
            let length = Int(bytes[offset + 4]) << 8 | Int(bytes[offset + 5])
            let end = offset + 8 + length
            guard end <= bytes.count else { break }
            if bytes[offset + 1] == 6 { output += bytes[offset + 8..<end] }
            if bytes[offset + 1] == 3 { isComplete = true }
            offset = end + Int(bytes[offset + 6])
        }
        let blank = output.indices.first { output[$0...].starts(with: [13, 10, 13, 10]) } ?? output.endIndex
        for line in String(decoding: output[..<blank], as: UTF8.self).split(separator: "\r\n") {
            guard let colon = line.firstIndex(of: ":") else { continue }
            headers[line[..<colon].lowercased()] = String(line[colon...].dropFirst(2))
        }
        body = Array(output[blank...].dropFirst(4))
        status = headers["status"].flatMap { Int($0.prefix(3)) } ?? 0
    }
}
