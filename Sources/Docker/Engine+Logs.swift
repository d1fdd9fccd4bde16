// What a container wrote. Without a terminal both outputs share one stream of frames: kind, three zeros, length (32 bits, big-endian), bytes.
// A frame is what the engine stored as one line, or up to 16 KiB of a longer one.

package struct LogFrame: Sendable, Equatable {
    package enum Source: UInt8, Sendable {
        case stdout = 1
        case stderr = 2
    }

    package let source: Source
    /// Line ends included.
    package let bytes: [UInt8]
}

package struct ContainerLogs: Sendable, Equatable {
    /// Oldest first.
    package let frames: [LogFrame]
    /// Older frames were left out for the limit.
    package let isTruncated: Bool

    /// Both outputs as they came; bytes that are no UTF-8 are replaced.
    package var text: String { String(decoding: frames.flatMap(\.bytes), as: UTF8.self) }
}

extension Engine {
    /// The newest log lines.
    /// - Parameters:
    ///   - tail: how many lines at most.
    ///   - limit: how many bytes at most; the newest are kept.
    ///   - timestamps: RFC 3339 and a blank before each line.
    /// - Throws: `notFound`.
    package func logs(
        _ container: String, tail: Int = 100, limit: Int = 1 << 20, timestamps: Bool = false
    ) throws(EngineError) -> ContainerLogs {
        let frames = LogFrames(limit: limit)
        let query: KeyValuePairs = ["stdout": "1", "stderr": "1", "tail": String(max(tail, 0)), "timestamps": timestamps ? "1" : "0"]
        try stream("GET", path(container, "logs"), query, timeout: 30_000, isCancelled: nil, onBytes: frames.take)
        return frames.logs
    }
}

/// Takes a stream of frames apart, in pieces of any size.
final class FrameReader {
    /// No frame of the engine is longer; what announces more is something else.
    private static let frameLimit = 1 << 20

    private var held: [UInt8] = []

    /// The frames that are whole by now; `nil` when the bytes are no frames.
    func take(_ bytes: [UInt8]) -> [LogFrame]? {
        held.append(contentsOf: bytes)
        var frames: [LogFrame] = []
        var start = 0
        while held.count - start >= 8 {
            let length = held[(start + 4)..<(start + 8)].reduce(0) { $0 << 8 | Int($1) }
            guard length <= Self.frameLimit else { return nil }
            guard held.count - start - 8 >= length else { break }
            if let source = LogFrame.Source(rawValue: held[start]) {
                frames.append(LogFrame(source: source, bytes: Array(held[(start + 8)..<(start + 8 + length)])))
            }
            start += 8 + length
        }
        held.removeFirst(start)
        return frames
    }
}

/// The newest of many frames.
final class LogFrames {
    private let limit: Int
    private let reader = FrameReader()
    private var frames: [LogFrame] = []
    private var first = 0
    private var count = 0
    private var isTruncated = false

    init(limit: Int) { self.limit = limit }

    /// `false` when the bytes are no frames.
    func take(_ bytes: [UInt8]) -> Bool {
        guard let more = reader.take(bytes) else { return false }
        frames += more
        count += more.reduce(0) { $0 + $1.bytes.count }
        forget()
        return true
    }

    private func forget() {
        while count > limit, first < frames.count {
            count -= frames[first].bytes.count
            first += 1
            isTruncated = true
        }
        guard first > frames.count / 2 else { return }
        frames.removeFirst(first)
        first = 0
    }

    var logs: ContainerLogs { ContainerLogs(frames: Array(frames[first...]), isTruncated: isTruncated) }
}
