// Paths to places in a table of routes: a tree of segments, a literal one before a parameter (`:id`). Two routes that could answer the same
// request are refused.

package struct Router: Sendable {
    package enum Match {
        /// The route's place in the table, and the values of its path's `:names`.
        case found(Int, [String: String])
        /// The path exists, the method doesn't; what does.
        case methodNotAllowed([Method])
        case notFound
    }

    private final class Node {
        var literals: [String: Node] = [:]
        var parameter: Node?
        var ends: [(method: Method, place: Int, names: [String])] = []

        func end(_ method: Method) -> (method: Method, place: Int, names: [String])? { ends.first { $0.method == method } }
    }

    /// Frozen after `init`, so sharing it is safe.
    private nonisolated(unsafe) let root = Node()
    /// Paths without parameters, found in one look.
    private nonisolated(unsafe) var literals: [String: Node] = [:]

    /// - Throws: `RouteClash` for two entries with one method and the same shape of path.
    package init(_ table: [(method: Method, path: String)]) throws(RouteClash) {
        for (place, entry) in table.enumerated() {
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
            guard node.end(entry.method) == nil else { throw RouteClash(method: entry.method, path: entry.path) }
            node.ends.append((entry.method, place, names))
            if names.isEmpty { literals[entry.path] = node }
        }
    }

    package func match(_ method: Method, _ path: String) -> Match {
        var values: [String] = []
        guard let node = literals[path] ?? Self.find(path.utf8.dropFirst(), from: root, values: &values) else { return .notFound }
        guard let end = node.end(method) ?? (method == .head ? node.end(.get) : nil) else {
            return .methodNotAllowed(node.ends.map(\.method).sorted())
        }
        return .found(end.place, end.names.isEmpty ? [:] : Dictionary(uniqueKeysWithValues: zip(end.names, values)))
    }

    /// - Parameter rest: of the path, behind the slash that `node` ends with; `nil` behind its end.
    private static func find(_ rest: Substring.UTF8View?, from node: Node, values: inout [String]) -> Node? {
        guard let rest else { return node.ends.isEmpty ? nil : node }
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
