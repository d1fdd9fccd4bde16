// What happens at the engine, as it happens. A stream ends when the engine goes down: whoever listens connects again with the last time it saw,
// and looks at everything once more, because the engine remembers only the newest 256 events.
import HTTP

package struct EngineEvent: Sendable, Equatable {
    /// `container`, `network`, `volume` …
    package let kind: String
    /// `start`, `die`, `oom`, `destroy` …; some carry details, as `exec_create: sh`.
    package let action: String
    /// The object's id, for volumes its name.
    package let id: String
    /// The object's labels, and more: `name`, `image`, `exitCode`.
    package let attributes: [String: String]
    /// Nanoseconds since 1970.
    package let time: Int
}

extension Engine {
    /// Hands over events of objects that carry all of the labels, until `onEvent` answers `false` or the engine ends the stream.
    /// - Parameters:
    ///   - kinds: which kinds of objects; empty for all.
    ///   - since: nanoseconds since 1970: first what happened from then on (that moment included), then what happens.
    ///   - isCancelled: asked at least once a second.
    ///   - onEvent: must not use this engine object.
    /// - Throws: `cancelled`; `unreachable` when there is no engine or the stream breaks off.
    package func events(
        labels: [String: String], kinds: [String] = ["container"], since: Int? = nil, isCancelled: (() -> Bool)? = nil,
        onEvent: @escaping (EngineEvent) -> Bool
    ) throws(EngineError) {
        let lines = JSONLines()
        let filters = Self.filters(labels, ["type": .strings(kinds)])
        let take: ([UInt8]) -> Bool = { bytes in lines.take(bytes).map(EngineEvent.init).allSatisfy(onEvent) }
        if let since {
            let nanoseconds = String(since % 1_000_000_000)
            let moment = "\(since / 1_000_000_000).\(String(repeating: "0", count: 9 - nanoseconds.count))\(nanoseconds)"
            try stream("GET", "/events", ["filters": filters, "since": moment], timeout: 0, isCancelled: isCancelled, onBytes: take)
        } else {
            try stream("GET", "/events", ["filters": filters], timeout: 0, isCancelled: isCancelled, onBytes: take)
        }
    }
}

extension EngineEvent {
    init(_ json: JSON) {
        kind = json["Type"]?.string ?? ""
        action = json["Action"]?.string ?? ""
        id = json["Actor"]?["ID"]?.string ?? ""
        attributes = json["Actor"]?["Attributes"]?.texts ?? [:]
        time = json["timeNano"]?.int ?? 0
    }
}
