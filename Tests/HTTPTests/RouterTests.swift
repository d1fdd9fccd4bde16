// The tree of paths: what matches, what is offered where, and that no two routes can answer the same request.
import HTTP
import Testing

struct RouterTests {
    private static let entries: [(method: HTTP.Method, path: String, endpoint: String)] = [
        (.get, "/things", "list"), (.post, "/things", "create"), (.get, "/things/:id", "get"), (.delete, "/things/:id", "delete"),
        (.get, "/things/new", "form"), (.get, "/things/:id/parts/:part", "part"), (.get, "/things/new/parts", "form parts"),
        (.get, "/", "root"),
    ]
    private let router: Router

    init() throws { router = try Self.router(Self.entries) }

    private static func router(_ entries: [(method: HTTP.Method, path: String, endpoint: String)]) throws -> Router {
        try Router(entries.map { ($0.method, $0.path) })
    }

    private func found(_ method: HTTP.Method, _ path: String) -> String {
        switch router.match(method, path) {
        case .found(let place, let values):
            ([Self.entries[place].endpoint] + values.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }).joined(separator: " ")
        case .methodNotAllowed(let methods): "405 " + methods.map(\.rawValue).joined(separator: ",")
        case .notFound: "404"
        }
    }

    @Test(arguments: [
        ("GET", "/", "root"), ("GET", "/things", "list"), ("POST", "/things", "create"), ("GET", "/things/7", "get id=7"),
        ("GET", "/things/new", "form"), ("GET", "/things/new/parts", "form parts"), ("GET", "/things/7/parts/8", "part id=7 part=8"),
        ("GET", "/things/new/parts/8", "part id=new part=8"), ("HEAD", "/things", "list"), ("PUT", "/things", "405 GET,POST"),
        ("POST", "/things/7", "405 DELETE,GET"), ("DELETE", "/things/new", "405 GET"), ("GET", "/things/", "404"),
        ("GET", "//things", "404"),
        ("GET", "/things/7/", "404"), ("GET", "/things/7/parts", "404"), ("GET", "/Things", "404"), ("GET", "", "root"),
        ("GET", "/:id", "404"),
    ])
    func matches(method: String, path: String, expected: String) {
        #expect(found(.init(rawValue: method), path) == expected)
    }

    @Test(arguments: ["/things/:other", "/things/new"])
    func clashesAreRefused(path: String) {
        #expect(throws: RouteClash.self) { try Self.router(Self.entries + [(.get, path, "clash")]) }
    }

    @Test func theSameShapeUnderAnotherMethodIsNoClash() throws {
        let more = try Self.router(Self.entries + [(.put, "/things/:key", "put")])
        guard case .found(Self.entries.count, let values) = more.match(.put, "/things/7") else {
            Issue.record("no match")
            return
        }
        #expect(values == ["key": "7"])
    }
}
