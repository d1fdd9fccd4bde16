// Looks at what a peer sent before libfcgi does: a connection is handed on only when its parameters have arrived whole and make sense.
// libfcgi's FCGX_Accept_r ends the process on absurd lengths and waits for ever on a peer that dribbles; behind this it does neither.
import CFastCGI
import Glibc

/// How a connection began.
enum Opening: Equatable {
    /// One responder request's parameters are there, to the last byte.
    case complete
    /// The peer left without a word.
    case abandoned
    /// The peer is there and has said nothing yet.
    case silent
    /// Some of it is there.
    case begun
    case malformed(String)

    /// Longest parameters of one request, their framing included; nginx's header limit is far below.
    static let limit = 64 * 1024
    /// Milliseconds from the first look to the last byte.
    static let patience = 10_000

    /// Judges what has arrived; takes nothing off the connection, and waits for nothing.
    /// - Parameter scratch: more than `limit` bytes, overwritten.
    static func look(at connection: Int32, scratch: UnsafeMutableRawBufferPointer) -> Opening {
        let first = peek(connection, scratch)
        guard first == .begun else { return first }
        var polled = pollfd(fd: connection, events: cloud_peer_closed, revents: 0)
        guard poll(&polled, 1, 0) > 0 else { return .begun }
        // The rest may have come between the two.
        let last = peek(connection, scratch)
        return last == .begun ? .malformed("the peer left within its parameters") : last
    }

    private static func peek(_ connection: Int32, _ scratch: UnsafeMutableRawBufferPointer) -> Opening {
        let count = recv(connection, scratch.baseAddress, scratch.count, Int32(MSG_PEEK | MSG_DONTWAIT))
        if count > 0 { return judge(UnsafeRawBufferPointer(rebasing: scratch[..<count])) ?? .begun }
        // A reset without a word: the peer left and did not read our last answer to its end.
        if count == 0 || errno == ECONNRESET { return .abandoned }
        return errno == EAGAIN ? .silent : .malformed("the connection broke: \(describe(errno: errno))")
    }

    /// Waits until the whole opening has arrived, and judges it; takes nothing off the connection.
    /// - Parameter patience: milliseconds from now to the last byte.
    static func await(on connection: Int32, scratch: UnsafeMutableRawBufferPointer, patience: Int = Self.patience) -> Opening {
        let deadline = ContinuousClock.now + .milliseconds(patience)
        var nap: Int32 = 1
        while true {
            let opening = look(at: connection, scratch: scratch)
            guard opening == .silent || opening == .begun else { return opening }
            let left = milliseconds(deadline - .now)
            guard left > 0 else { return .tooSlow(patience) }
            // Half an opening keeps the descriptor readable, so more of it has to be awaited by time.
            let hasBegun = opening == .begun
            var polled = pollfd(fd: connection, events: cloud_peer_closed | (hasBegun ? 0 : Int16(POLLIN)), revents: 0)
            _ = poll(&polled, 1, hasBegun ? min(Int32(left), nap) : Int32(left))
            if hasBegun { nap = min(nap * 2, 64) }
        }
    }

    static func tooSlow(_ patience: Int = Self.patience) -> Opening { .malformed("no whole request within \(patience) ms") }

    /// - Returns: `nil` when more bytes are needed.
    static func judge(_ bytes: UnsafeRawBufferPointer) -> Opening? {
        guard let begin = Record(at: 0, of: bytes) else {
            return bytes.first.map { $0 == Record.version } ?? true ? nil : .malformed("not FastCGI version 1")
        }
        guard begin.isSupported else { return .malformed("not FastCGI version 1") }
        guard begin.kind == Record.beginRequest, begin.id != 0, begin.length == 8 else { return .malformed("no BEGIN_REQUEST record") }
        guard bytes.count >= begin.end else { return nil }
        guard bytes[Record.headerLength] == 0, bytes[Record.headerLength + 1] == Record.responder else {
            return .malformed("not the responder role")
        }

        var offset = begin.end
        var pairs = PairScanner()
        while let record = Record(at: offset, of: bytes) {
            guard record.isSupported, record.kind == Record.params, record.id == begin.id else { return .malformed("no PARAMS record") }
            if record.length == 0 { return pairs.isBetweenPairs ? .complete : .malformed("a parameter is cut off") }
            guard record.end <= limit else { return .malformed("parameters longer than \(limit) bytes") }
            guard bytes.count >= record.end else { return nil }
            let content = UnsafeRawBufferPointer(rebasing: bytes[(offset + Record.headerLength)...].prefix(record.length))
            guard pairs.scan(content) else { return .malformed("a parameter longer than \(limit) bytes") }
            offset = record.end
        }
        return nil
    }
}

/// The header of one FastCGI record.
private struct Record {
    static let headerLength = 8
    static let version: UInt8 = 1
    static let beginRequest: UInt8 = 1
    static let params: UInt8 = 4
    static let responder: UInt8 = 1

    let isSupported: Bool
    let kind: UInt8
    let id: Int
    let length: Int
    /// The offset behind the content and its padding.
    let end: Int

    init?(at offset: Int, of bytes: UnsafeRawBufferPointer) {
        guard bytes.count - offset >= Self.headerLength else { return nil }
        isSupported = bytes[offset] == Self.version
        kind = bytes[offset + 1]
        id = Int(bytes[offset + 2]) << 8 | Int(bytes[offset + 3])
        length = Int(bytes[offset + 4]) << 8 | Int(bytes[offset + 5])
        end = offset + Self.headerLength + length + Int(bytes[offset + 6])
    }
}

/// Follows name-value pairs through records, which may split them anywhere.
private struct PairScanner {
    /// Bytes of names and values still to pass.
    private var text = 0
    private var length = 0
    private var lengthBytesLeft = 0
    private var nameLength: Int?

    var isBetweenPairs: Bool { text == 0 && lengthBytesLeft == 0 && nameLength == nil }

    /// - Returns: `false` when a pair claims more than an opening can hold.
    mutating func scan(_ content: UnsafeRawBufferPointer) -> Bool {
        var offset = 0
        while offset < content.count {
            if text > 0 {
                let step = min(text, content.count - offset)
                text -= step
                offset += step
                continue
            }
            let byte = content[offset]
            offset += 1
            if lengthBytesLeft > 0 {
                length = length << 8 | Int(byte)
                lengthBytesLeft -= 1
            } else if byte & 0x80 != 0 {
                length = Int(byte & 0x7f)
                lengthBytesLeft = 3
            } else {
                length = Int(byte)
            }
            guard lengthBytesLeft == 0 else { continue }
            guard length <= Opening.limit else { return false }
            if let name = nameLength {
                text = name + length
                nameLength = nil
            } else {
                nameLength = length
            }
        }
        return true
    }
}
