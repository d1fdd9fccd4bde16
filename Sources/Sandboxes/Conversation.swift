// What is said to a runner (Runner.swift) and what comes back: records in, and out of the two streams of output the log and the reply.

enum Record {
    case settings([UInt8])
    case file(path: String, isExecutable: Bool)
    case data(UnsafeRawBufferPointer)
    case go
    case invocation(nonce: String, payload: [UInt8])

    var bytes: [UInt8] {
        switch self {
        case .settings(let json): Self.record("S", json)
        case .file(let path, let isExecutable): Self.record("F", [isExecutable ? 1 : 0] + Array(path.utf8))
        case .data(let bytes): Self.record("D", Array(bytes))
        case .go: Self.record("G", [])
        case .invocation(let nonce, let payload): Self.record("I", Array(nonce.utf8) + payload)
        }
    }

    private static func record(_ kind: Unicode.Scalar, _ bytes: [UInt8]) -> [UInt8] {
        [UInt8(ascii: kind)] + withUnsafeBytes(of: UInt32(bytes.count).bigEndian, Array.init) + bytes
    }
}

/// What a runner says at the end of an invocation.
struct Reply: Equatable {
    /// `+` and JSON, or `-` and a sentence.
    let body: [UInt8]
    /// Processes that the handler left behind.
    let others: Int
}

/// One stream of output up to the mark that only the runner can make; what comes before is the log.
struct MarkedStream {
    private let mark: [UInt8]
    /// What may still turn out to be the beginning of the mark.
    private var held: [UInt8] = []
    private var isBehindMark = false

    init(nonce: String) { mark = Array("\u{1}\(nonce)".utf8) }

    /// What has come behind the mark so far, its own line included; `nil` before it.
    var tail: [UInt8]? { isBehindMark ? held : nil }

    /// - Returns: those bytes that belong to the log for sure.
    mutating func take(_ bytes: [UInt8]) -> [UInt8] {
        held += bytes
        guard !isBehindMark else { return [] }
        var sure = held.count
        var from = 0
        while let start = held[from...].firstIndex(of: mark[0]) {
            let candidate = held[start...].prefix(mark.count)
            if candidate.elementsEqual(mark.prefix(candidate.count)) {
                isBehindMark = candidate.count == mark.count
                sure = start
                break
            }
            from = start + 1
        }
        defer { held.removeFirst(sure + (isBehindMark ? mark.count : 0)) }
        return Array(held[..<sure])
    }

    /// What is left when no mark will come.
    mutating func rest() -> [UInt8] {
        defer { if !isBehindMark { held = [] } }
        return isBehindMark ? [] : held
    }
}

extension MarkedStream {
    /// Behind the mark of standard output: `" length others\n"` and the body.
    /// - Returns: `nil` as long as it is not all there.
    /// - Throws: when it is nothing that a runner says.
    func reply() throws(Nonsense) -> Reply? {
        guard let tail else { return nil }
        guard let end = tail.firstIndex(of: 0x0A) else {
            guard tail.count < 64 else { throw Nonsense() }
            return nil
        }
        let numbers = String(decoding: tail[..<end], as: UTF8.self).split(separator: " ").compactMap { Int($0) }
        guard numbers.count == 2, (1...Runner.resultLimit).contains(numbers[0]) else { throw Nonsense() }
        let body = tail[(end + 1)...]
        return body.count < numbers[0] ? nil : Reply(body: Array(body.prefix(numbers[0])), others: numbers[1])
    }

    struct Nonsense: Error {}
}

/// The first bytes of what a handler wrote.
struct BoundedLog {
    static let limit = 256 << 10

    private var bytes: [UInt8] = []
    private(set) var isCut = false

    mutating func add(_ more: [UInt8]) {
        let room = Self.limit - bytes.count
        bytes += more.prefix(room)
        if more.count > room { isCut = true }
    }

    /// Text that a database takes: what is no UTF-8, and NUL, is replaced.
    var text: String { String(decoding: bytes.map { $0 == 0 ? 0x3F : $0 }, as: UTF8.self) }
}
