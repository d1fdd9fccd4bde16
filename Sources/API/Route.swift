// A route: method, path, who may, and the function that answers. A resource's file opens with its table of them.
package import HTTP
package import Identity

/// Who may call a route. There is no default: `.anyone` must be typed out.
package enum Access: Sendable {
    case anyone
    /// Any living credential of a person.
    case authenticated
    case permission(Permission)

    package var permission: Permission? { if case .permission(let permission) = self { permission } else { nil } }

    package var isOpen: Bool { if case .anyone = self { true } else { false } }
}

extension Access: CustomStringConvertible {
    package var description: String {
        switch self {
        case .anyone: "anyone"
        case .authenticated: "authenticated"
        case .permission(let permission): permission.rawValue
        }
    }
}

/// A part of the API with words of its own for a refused credential.
package enum Surface: Sendable {
    case cloud
    case sessions

    /// The same refusal as this surface says it.
    package func words(for error: APIError) -> APIError {
        switch (self, error) {
        case (.sessions, .invalidCredentials), (.sessions, .keyExpired): .invalidToken
        case (.sessions, .insufficientPermissions): .insufficientRights
        default: error
        }
    }
}

package struct Route: Sendable {
    /// The workers that serve it; nginx maps its location likewise (nginx/snippets).
    package enum Pool: String, Sendable, CaseIterable {
        /// Short work.
        case api
        /// Password hashing.
        case auth
        /// Whatever waits for something else; only these workers may talk to the engine.
        case long
    }

    /// What a request's body is.
    package enum Input: Sendable {
        case none
        /// A JSON object; an empty body is malformed.
        case json
        /// A JSON object or nothing.
        case optionalJSON
        /// A JSON object, or the same as form data.
        case jsonOrForm
    }

    package typealias Handler = @Sendable (Context) throws -> Response

    package let method: Method
    package let path: String
    package let access: Access
    package let pool: Pool
    package let input: Input
    package let isIdempotent: Bool
    /// Bytes.
    package let bodyLimit: Int
    package let handler: Handler
    package let source: String
    /// Only for what nginx itself asks (nginx/snippets/sockets.conf, gateway.conf); for clients there is no such path.
    package private(set) var isInternal = false
    /// Whose words its refusals use.
    package var surface = Surface.cloud

    package static let usualBodyLimit = 1 << 20
    /// How the paths of internal routes begin.
    package static let internalPrefix = "/_"

    private init(
        _ method: Method, _ path: String, _ access: Access, _ pool: Pool, _ input: Input, isIdempotent: Bool,
        bodyLimit: Int = usualBodyLimit,
        _ handler: @escaping Handler, _ source: String
    ) {
        self.method = method
        self.path = path
        self.access = access
        self.pool = pool
        self.input = input
        self.isIdempotent = isIdempotent
        self.handler = handler
        self.source = source
        self.bodyLimit = bodyLimit
    }

    package static func get(
        _ path: String, _ access: Access, pool: Pool = .api, _ handler: @escaping Handler, file: String = #fileID, line: Int = #line
    ) -> Route {
        Route(.get, path, access, pool, .none, isIdempotent: false, handler, "\(file):\(line)")
    }

    /// A POST that creates, publishes, sends or invokes; `Idempotency-Key` is honoured for authenticated callers.
    /// - Parameter bodyLimit: in bytes; nginx needs a location that lets as much through.
    package static func create(
        _ path: String, _ access: Access, pool: Pool = .api, bodyLimit: Int = usualBodyLimit, _ handler: @escaping Handler,
        file: String = #fileID, line: Int = #line
    ) -> Route {
        Route(.post, path, access, pool, .json, isIdempotent: !access.isOpen, bodyLimit: bodyLimit, handler, "\(file):\(line)")
    }

    /// A POST that acts on what is there; its body may be empty.
    /// - Parameter isIdempotent: false where the work is no one transaction (`Context.release`), which a stored answer would have to be part of.
    package static func action(
        _ path: String, _ access: Access, pool: Pool = .api, input: Input = .optionalJSON, isIdempotent: Bool = true,
        _ handler: @escaping Handler, file: String = #fileID, line: Int = #line
    ) -> Route {
        Route(.post, path, access, pool, input, isIdempotent: isIdempotent && !access.isOpen, handler, "\(file):\(line)")
    }

    /// - Parameter bodyLimit: as for `create`.
    package static func put(
        _ path: String, _ access: Access, pool: Pool = .api, bodyLimit: Int = usualBodyLimit, _ handler: @escaping Handler,
        file: String = #fileID, line: Int = #line
    ) -> Route {
        Route(.put, path, access, pool, .json, isIdempotent: false, bodyLimit: bodyLimit, handler, "\(file):\(line)")
    }

    package static func delete(
        _ path: String, _ access: Access, pool: Pool = .api, _ handler: @escaping Handler, file: String = #fileID, line: Int = #line
    ) -> Route {
        Route(.delete, path, access, pool, .none, isIdempotent: false, handler, "\(file):\(line)")
    }

    /// What nginx asks when a WebSocket opens: 2xx lets it, 401 and 403 refuse it before the upgrade.
    package static func opening(_ path: String, _ handler: @escaping Handler, file: String = #fileID, line: Int = #line) -> Route {
        question(path, handler, file: file, line: line)
    }

    /// What nginx asks about a request before it goes on with it: 2xx lets it, 401 and 403 refuse it. `Request.internalSubject` tells which.
    package static func question(_ path: String, _ handler: @escaping Handler, file: String = #fileID, line: Int = #line) -> Route {
        var route = Route(.post, path, .anyone, .api, .none, isIdempotent: false, handler, "\(file):\(line)")
        route.isInternal = true
        return route
    }

    /// What a WebSocket says. The answer goes back to it alone: what the handler returns, `nil` for silence, a refusal as
    /// `{"type":"error","message":…}`.
    package static func message(
        _ path: String, _ handler: @escaping @Sendable (Context) throws -> JSON?, file: String = #fileID, line: Int = #line
    ) -> Route {
        var route = Route(
            .post, path, .anyone, .api, .json, isIdempotent: false,
            { try handler($0).map { Response.json($0) } ?? Response(status: 204) }, "\(file):\(line)")
        route.isInternal = true
        return route
    }

    /// One line of `thecloud-worker --routes`.
    package var line: String {
        func padded(_ text: String, _ width: Int) -> String { text + String(repeating: " ", count: max(width - text.count, 1)) }
        return padded(method.rawValue, 7) + padded(path, 36) + padded(access.description, 18) + padded(pool.rawValue, 6) + source
    }
}
