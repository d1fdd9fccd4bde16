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
            for segment in entry.path.dropFirst().split(separator: "/", omittingEmptySubsequences: false) {
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
        guard let node = literals[path] ?? Self.find(path.utf8.dropFirst(), from: root, values: &values) else { return .notFound }
        let wanted = method == .head && node.endpoints[.head] == nil ? .get : method
        guard let (endpoint, names) = node.endpoints[wanted] else { return .methodNotAllowed(node.endpoints.keys.sorted()) }
        return .found(endpoint, names.isEmpty ? [:] : Dictionary(uniqueKeysWithValues: zip(names, values)))
    }

    /// - Parameter rest: of the path, behind the slash that `node` ends with; `nil` behind its end.
    private static func find(_ rest: Substring.UTF8View?, from node: Node, values: inout [String]) -> Node? {
        guard let rest else { return node.endpoints.isEmpty ? nil : node }
        let end = rest.firstIndex(of: UInt8(ascii: "/"))
        let segment = String(Substring(rest[..<(end ?? rest.endIndex)]))
        let further = end.map { rest[rest.index(after: $0)...] }
        if !node.literals.isEmpty, let next = node.literals[segment], let found = find(further, from: next, values: &values) {
            return found
        }
        guard let next = node.parameter, !segment.isEmpty else { return nil }
        values.append(segment)
        if let found = find(further, from: next, values: &values) { return found }
        values.removeLast()
        return nil
    }
}

package struct RouteClash: Error, CustomStringConvertible {
    let method: Method
    let path: String
    package var description: String { "two routes answer \(method.rawValue) \(path)" }
}
