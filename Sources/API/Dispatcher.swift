// From request to answer: route, credential, idempotency, handler, commit; and the one catch that turns every error into the one error body.
// Order of judgement (README, "Errors"): path, method, credential, permission, media type, size, fields, object, state.
import Docker
package import HTTP
package import Identity
import Postgres

package struct Dispatcher: Sendable {
    private let router: Router
    /// By their places, which the router finds.
    private let table: [Route]
    private let resolvers: [Credential.Resolver]
    /// Those that clients may call.
    package let routes: [Route]

    /// - Throws: `RouteClash` for two routes that could answer the same request.
    package init(_ routes: [Route], resolvers: [Credential.Resolver]) throws(RouteClash) {
        router = try Router(routes.map { ($0.method, $0.path) })
        table = routes
        self.resolvers = resolvers
        self.routes = routes.filter { !$0.isInternal }
    }

    /// Answers one request; never throws.
    /// - Parameter log: takes the request's one log line.
    package func respond(to request: Request, with equipment: Equipment, log: (Event) -> Void = { $0.log() }) -> Response {
        let start = ContinuousClock.now
        defer { equipment.source.giveBack() }
        var pattern = "-"
        var surface = Surface.cloud
        var cause: String?
        var response: Response
        do {
            let (route, parameters) = try match(request)
            pattern = route?.path ?? "-"
            surface = route?.surface ?? .cloud
            response = if let route { try answer(route, parameters, request, equipment) } else { CORS.preflight }
        } catch {
            let refusal = surface.words(for: Self.publicError(error))
            cause = refusal.cause
            response = .failure(refusal, requestID: request.requestID)
        }
        CORS.decorate(&response, for: request, origins: equipment.config.corsOrigins)
        let elapsed = start.duration(to: .now)
        let microseconds = Int(elapsed.components.seconds * 1_000_000 + elapsed.components.attoseconds / 1_000_000_000_000)
        log(
            .answered(
                requestID: request.requestID, method: request.method.rawValue, route: pattern, status: response.status,
                microseconds: microseconds, cause: cause))
        return response
    }

    /// - Returns: no route for a CORS preflight on a path that exists.
    private func match(_ request: Request) throws(APIError) -> (Route?, [String: String]) {
        switch router.match(request.method, request.path) {
        case .found(let place, let parameters):
            let route = table[place]
            guard route.isInternal == (request.internalSubject != nil) else { throw .routeNotFound }
            return (route, parameters)
        case .methodNotAllowed(_) where request.path.hasPrefix(Route.internalPrefix): throw .routeNotFound
        case .methodNotAllowed(let allowed):
            if CORS.isPreflight(request) { return (nil, [:]) }
            throw .methodNotAllowed(allowed.contains(.get) ? (allowed + [.head]).sorted() : allowed)
        case .notFound: throw .routeNotFound
        }
    }

    private func answer(_ route: Route, _ parameters: [String: String], _ request: Request, _ equipment: Equipment) throws -> Response {
        let credential = route.access.isOpen ? nil : try Credential.resolve(request.headers, by: resolvers, equipment.bench)
        let context = Context(request: request, route: route, parameters: parameters, credential: credential, equipment: equipment)
        do {
            let response =
                if let idempotency = try Idempotency(context) { try idempotency.answer(route.handler) } else { try route.handler(context) }
            try context.finish()
            return response
        } catch {
            let refusal = Self.publicError(judged(error, context))
            context.abandon()
            if refusal == .insufficientPermissions { try context.recordDenial() }
            // nginx would close the socket on any other status; on trouble of ours it shall.
            if route.isInternal, route.input == .json, refusal.status < 500 {
                return .json(.refusal(of: route.surface.words(for: refusal)))
            }
            throw refusal
        }
    }

    /// A bad body never outranks a bad key: whatever else went wrong, the credential is judged before it is told.
    private func judged(_ error: any Error, _ context: Context) -> any Error {
        do {
            if error is APIError { try context.settle() }
            return error
        } catch let verdict {
            return verdict
        }
    }

    static func publicError(_ error: any Error) -> APIError {
        switch error {
        case let error as APIError: error
        case let error as DatabaseError:
            switch error.state {
            case "TC401": .invalidCredentials
            case "TC402": .keyExpired
            case "TC403": .insufficientPermissions
            case "TC404": .notFound
            case "TC409": .conflict(error.message)
            case "TCQTA": .quotaExceeded(error.message)
            case _ where error.constraint == "idempotency_keys_pkey": .idempotencyKeyInUse
            case _ where error.isTransient: .unavailable(cause: "\(error)")
            default: .internalFailure(cause: "\(error)")
            }
        case EngineError.unreachable(let why): .unavailable(cause: why)
        default: .internalFailure(cause: "\(error)")
        }
    }
}

extension JSON {
    /// How a WebSocket is told that what it said is refused.
    package static func refusal(of error: APIError) -> JSON { ["type": "error", "message": .string(error.message)] }
}
