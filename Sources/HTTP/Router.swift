// Paths to endpoints: a tree of segments, a literal one before a parameter (`:id`). Two routes that could answer the same request are refused.

package struct Router<Endpoint>: Sendable where Endpoint: Sendable {
    package enum Match {
        case found(Endpoint, [String: String])
        /// The path exists, the method doesn't; what does.
        case methodNotAllowed([Method])
        case notFound
    }

    private final class Node {
        var literals: [String: Node] = [:]
        var parameter: Node?
        var endpoints: [Method: (endpoint: Endpoint, names: [String])] = [:]
    }

    /// Frozen after `init`, so sharing it is safe.
    private nonisolated(unsafe) let root = Node()
    /// Paths without parameters, found in one look.
    private nonisolated(unsafe) var literals: [String: Node] = [:]

    /// - Throws: `RouteClash` for two entries with one method and the same shape of path.
    package init(_ entries: [(method: Method, path: String, endpoint: Endpoint)]) throws(RouteClash) {
        for entry in entries {
            var node = root
            var names: [String] = []
            for segment in Self.segments(entry.path) {
                if segment.hasPrefix(":") {
                    names.append(String(segment.dropFirst()))
                    let next = node.parameter ?? Node()
                    node.parameter = next
                    node = next
                } else {
                    let next = node.literals[String(segment)] ?? Node()
                    node.literals[String(segment)] = next
                    node = next
                }
            }
            guard node.endpoints[entry.method] == nil else { throw RouteClash(method: entry.method, path: entry.path) }
            node.endpoints[entry.method] = (entry.endpoint, names)
            if names.isEmpty { literals[entry.path] = node }
        }
    }

    package func match(_ method: Method, _ path: String) -> Match {
        var values: [String] = []
        guard let node = literals[path] ?? Self.find(Self.segments(path)[...], from: root, values: &values) else { return .notFound }
        let wanted = method == .head && node.endpoints[.head] == nil ? .get : method
        guard let (endpoint, names) = node.endpoints[wanted] else { return .methodNotAllowed(node.endpoints.keys.sorted()) }
        return .found(endpoint, names.isEmpty ? [:] : Dictionary(uniqueKeysWithValues: zip(names, values)))
    }

    private static func find(_ segments: ArraySlice<Substring>, from node: Node, values: inout [String]) -> Node? {
        guard let segment = segments.first else { return node.endpoints.isEmpty ? nil : node }
        if let next = node.literals[String(segment)], let found = find(segments.dropFirst(), from: next, values: &values) { return found }
        guard let next = node.parameter, !segment.isEmpty else { return nil }
        values.append(String(segment))
        if let found = find(segments.dropFirst(), from: next, values: &values) { return found }
        values.removeLast()
        return nil
    }

    private static func segments(_ path: String) -> [Substring] {
        path.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
    }
}

package struct RouteClash: Error, CustomStringConvertible {
    let method: Method
    let path: String
    package var description: String { "two routes answer \(method.rawValue) \(path)" }
}
