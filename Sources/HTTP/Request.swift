// One HTTP request as a handler's world sees it: values only, no I/O.
// The path is the one nginx matched its locations on: decoded and normalised ($document_uri), so both sides always judge the same path.

/// An HTTP method (RFC 9110 §9); anything that nginx lets through can stand here.
package struct Method: RawRepresentable, Hashable, Sendable, Comparable {
    package let rawValue: String

    package init(rawValue: String) { self.rawValue = rawValue }

    package static let get = Method(rawValue: "GET")
    package static let head = Method(rawValue: "HEAD")
    package static let post = Method(rawValue: "POST")
    package static let put = Method(rawValue: "PUT")
    package static let delete = Method(rawValue: "DELETE")
    package static let options = Method(rawValue: "OPTIONS")

    package static func < (left: Method, right: Method) -> Bool { left.rawValue < right.rawValue }
}

/// Header fields; names are kept in lower case, a repeated one as it came, first wins.
package struct Headers: Sendable {
    private var fields: [(name: String, value: String)] = []

    package init() {}

    package init(_ fields: KeyValuePairs<String, String>) {
        for (name, value) in fields { append(name.lowercased(), value) }
    }

    /// - Parameter name: must be lower case already.
    package mutating func append(_ name: String, _ value: String) { fields.append((name, value)) }

    /// The first value of a header whose lower-case name is given, `nil` without one.
    package subscript(name: String) -> String? {
        for field in fields where field.name == name { return field.value }
        return nil
    }

    /// All values of a header whose lower-case name is given.
    package func values(_ name: String) -> [String] { fields.filter { $0.name == name }.map(\.value) }
}

/// What came of the request's body.
package enum Body: Sendable {
    case bytes([UInt8])
    /// `Content-Length` is over the pool's limit, or not a number: nothing was read.
    case tooLarge
    /// The client went away before the announced length.
    case truncated
}

package struct Request: Sendable {
    package var method: Method
    /// Decoded and normalised, starting with `/`.
    package var path: String
    package var query: Query
    package var headers: Headers
    package var body: Body
    /// The client's address as nginx judged it (trusted proxies resolved); text form, IPv4 or IPv6.
    package var remoteAddress: String
    /// Made or sanitised by nginx: 1–64 characters of letters, digits and `-_.`.
    package var requestID: String
    /// What nginx itself asks about, by its internal locations only: the id of a WebSocket, the path of a request to the gateway;
    /// `nil` for requests of clients.
    package var internalSubject: String?

    package init(
        method: Method, path: String, query: String = "", headers: Headers = Headers(), body: Body = .bytes([]),
        remoteAddress: String = "127.0.0.1", requestID: String = "", internalSubject: String? = nil
    ) {
        self.method = method
        self.path = path
        self.query = Query(query)
        self.headers = headers
        self.body = body
        self.remoteAddress = remoteAddress
        self.requestID = requestID
        self.internalSubject = internalSubject
    }
}

/// A query string (`application/x-www-form-urlencoded`, WHATWG URL §5); parsed on use. Of a repeated name the first wins.
package struct Query: Sendable {
    private let text: String

    package init(_ text: String) { self.text = text }

    package subscript(name: String) -> String? { pairs.first { $0.name == name }?.value }

    package var pairs: [(name: String, value: String)] {
        text.utf8.split(separator: UInt8(ascii: "&")).map { pair in
            let halves = pair.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            return (Self.decode(halves[0]), halves.count > 1 ? Self.decode(halves[1]) : "")
        }
    }

    private static func decode(_ text: Substring.UTF8View) -> String {
        var bytes: [UInt8] = []
        var rest = text[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "+") {
                bytes.append(UInt8(ascii: " "))
            } else if byte == UInt8(ascii: "%"), rest.first != UInt8(ascii: "+"), let code = UInt8(Substring(rest.prefix(2)), radix: 16),
                rest.count >= 2
            {
                bytes.append(code)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
