// Images: whether one is here, and fetching it.
// A pull that fails half-way still answers 200: the failure stands in the stream.
import HTTP

extension Engine {
    /// Whether the engine has the image locally.
    package func imageExists(_ image: ImageReference) throws(EngineError) -> Bool {
        do {
            try call("GET", "/images/\(image.canonical)/json")
            return true
        } catch .notFound {
            return false
        } catch .imageMissing {
            return false
        }
    }

    /// Fetches the image from its registry; returns when it is here. One tag only, never all of a name.
    /// - Parameter timeout: milliseconds for all of it.
    /// - Throws: `imageMissing` when the registry does not have it or does not show it to us; `other` when it can't be reached.
    package func pull(_ image: ImageReference, timeout: Int = 600_000, isCancelled: (() -> Bool)? = nil) throws(EngineError) {
        let parameters = image.pullParameters
        let query: KeyValuePairs = ["fromImage": parameters.fromImage, "tag": parameters.tag]
        let lines = JSONLines()
        let failure = Failure()
        let take: ([UInt8]) -> Bool = { bytes in
            for line in lines.take(bytes) { failure.message = line["error"]?.string ?? failure.message }
            return true
        }
        try stream("POST", "/images/create", query, timeout: timeout, isCancelled: isCancelled, onBytes: take)
        guard let message = failure.message else { return }
        let text = message.lowercased()
        let isMissing = ["not found", "manifest", "denied", "unauthorized"].contains { text.contains($0) }
        throw isMissing ? .imageMissing(message) : .other(status: 200, message: message)
    }

    private final class Failure {
        var message: String?
    }
}

/// Splits a stream into its lines of JSON; what is no JSON is left out.
final class JSONLines {
    /// The longest line that is kept; Docker's have some hundred bytes.
    private static let limit = 1 << 20
    private var held: [UInt8] = []

    func take(_ bytes: [UInt8]) -> [JSON] {
        held.append(contentsOf: bytes)
        guard let end = held.lastIndex(of: 0x0A) else {
            if held.count > Self.limit { held = [] }
            return []
        }
        defer { held.removeFirst(end + 1) }
        return held[..<end].split(separator: 0x0A).compactMap { try? JSON(parsing: Array($0)) }
    }
}
