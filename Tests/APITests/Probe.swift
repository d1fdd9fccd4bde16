// All routes of the product, as arguments of the sweeps.
import API
import HTTP
import Identity
import TestSupport
import Testing

/// A route as an argument of tests.
struct Probe: Sendable, CustomTestStringConvertible {
    let route: Route

    var name: String { "\(route.method.rawValue) \(route.path)" }
    var testDescription: String { name }

    var takesBody: Bool { if case .none = route.input { false } else { true } }
    var needsBody: Bool { if case .json = route.input { true } else { false } }

    /// The path with its parameters filled in.
    /// - Parameter id: for all of them; or several with blanks between, each for the next one.
    func path(_ id: String) -> String {
        var ids = id.split(separator: " ", omittingEmptySubsequences: false)
        return route.path.split(separator: "/", omittingEmptySubsequences: false).map { segment in
            guard segment.hasPrefix(":") else { return segment }
            return ids.count > 1 ? ids.removeFirst() : ids[0]
        }.joined(separator: "/")
    }

    /// What its surface says to a bad credential, and to a key that has expired.
    var refusal: (code: String, message: String) {
        switch route.surface {
        case .cloud: ("INVALID_CREDENTIALS", "Invalid authentication credentials")
        case .sessions: ("INVALID_TOKEN", "Invalid or expired token")
        }
    }
    var denial: String {
        switch route.surface {
        case .cloud: "Insufficient permissions for this operation"
        case .sessions: "Insufficient permissions"
        }
    }
    var expiry: (code: String, message: String) {
        switch route.surface {
        case .cloud: ("KEY_EXPIRED", "API key has expired")
        case .sessions: refusal
        }
    }

    /// All routes of the product.
    static let all = (try? TestCloud().dispatcher.routes.map(Probe.init)) ?? []
    static let chat = all.filter { $0.route.source.hasPrefix("Chat/") }
    static let closed = all.filter { !$0.route.access.isOpen }
    static let permitted = all.filter { $0.route.access.permission != nil }
    static let withID = all.filter { $0.route.path.contains("/:") }
    static let withBody = all.filter(\.takesBody)
    static let readable = all.filter { $0.route.method == .get }
}
