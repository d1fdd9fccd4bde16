// What the engine can answer that its callers treat differently. Docker has no codes finer than its statuses, so sentences are read where it must be.
// Messages are the engine's own: for logs and status reasons of ours, never for strangers.

package enum EngineError: Error, Equatable, Sendable {
    /// No such container, network or volume.
    case notFound
    /// The name is taken, or the object is in a state (or in use) that does not allow this.
    case conflict(String)
    /// It already is as wanted: started, stopped.
    case notModified
    /// The image is neither here nor to be pulled.
    case imageMissing(String)
    /// A host port is held by another container or process.
    case portTaken(String)
    /// A fixed address on a network is held by another container.
    case addressTaken(String)
    /// The start of the container was interrupted by the engine's end; it must be removed and made anew.
    case halfStarted(String)
    /// The address block overlaps one that the engine uses.
    case poolOverlap(String)
    /// No whole answer: the engine is down, silent, or broke off. What was asked may have been done.
    case unreachable(String)
    /// The caller's `isCancelled` said so.
    case cancelled
    case other(status: Int, message: String)

    /// Reads a failure of the engine.
    init(status: Int, message: String) {
        let text = message.lowercased()
        self =
            switch status {
            case 304: .notModified
            case 404 where ["no such image", "manifest for ", "manifest unknown", "pull access"].contains { text.contains($0) }:
                .imageMissing(message)
            case 404: .notFound
            case _ where text.contains("task") && text.contains("already exists"): .halfStarted(message)
            case _ where text.contains("port is already allocated"): .portTaken(message)
            case _ where text.contains("address already in use"):
                text.contains("listen") || text.contains("bind") ? .portTaken(message) : .addressTaken(message)
            case _ where text.contains("pool overlaps") || text.contains("overlapping ip"): .poolOverlap(message)
            case 409: .conflict(message)
            case _ where text.contains("active endpoints") || text.contains("is not paused"): .conflict(message)
            default: .other(status: status, message: message)
            }
    }
}

extension EngineError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .notFound: "the engine knows no such object"
        case .notModified: "the object already is as wanted"
        case .cancelled: "cancelled"
        case .unreachable(let why): "the engine does not answer: \(why)"
        case .conflict(let message), .imageMissing(let message), .portTaken(let message), .addressTaken(let message),
            .halfStarted(let message), .poolOverlap(let message):
            message
        case .other(let status, let message): "the engine answered \(status): \(message)"
        }
    }
}
