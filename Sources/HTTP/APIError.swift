// The one error of the product: one enum, one switch to status, code and sentence. Every answer that is not a success is made of it.

/// One bad member of a body or query.
package struct FieldError: Equatable, Sendable {
    package let field: String
    /// Completes "<field> …": "must be an e-mail address".
    package let message: String

    package init(_ field: String, _ message: String) {
        self.field = field
        self.message = message
    }
}

package enum APIError: Error, Equatable, Sendable {
    case malformedBody(String)
    case invalid([FieldError])
    /// A URL whose host is an address that the egress rule refuses.
    case targetForbidden(FieldError)
    case invalidCredentials
    case loginFailed
    case keyExpired
    /// `invalidCredentials` and `insufficientPermissions` in the words of the sessions' surface.
    case invalidToken
    case insufficientRights
    case insufficientPermissions
    case registrationClosed
    case quotaExceeded(String)
    case notFound
    case routeNotFound
    case methodNotAllowed([Method])
    case conflict(String)
    case alreadyExists(String)
    case idempotencyKeyInUse
    case idempotencyKeyReused
    case bodyTooLarge(limit: Int)
    case unsupportedMediaType(expected: String)
    /// Somebody else did not answer in time.
    case timedOut(String)
    case unavailable(cause: String)
    /// Something of ours is wrong; the cause goes to the log and never to a client.
    case internalFailure(cause: String)

    package static func invalid(_ field: String, _ message: String) -> APIError { .invalid([FieldError(field, message)]) }

    /// Status, class of the status, precise code (the closed list of the README) and the sentence for a person.
    private var face: (status: Int, kind: String, code: String, message: String) {
        switch self {
        case .malformedBody(let why): (400, "bad_request", "MALFORMED_BODY", why)
        case .invalid(let fields):
            (400, "bad_request", "VALIDATION_FAILED", fields.map { "\($0.field) \($0.message)" }.joined(separator: "; "))
        case .targetForbidden(let field): (400, "bad_request", "TARGET_FORBIDDEN", "\(field.field) \(field.message)")
        case .invalidCredentials: (401, "unauthorized", "INVALID_CREDENTIALS", "Invalid authentication credentials")
        case .loginFailed: (401, "unauthorized", "INVALID_CREDENTIALS", "Invalid email or password")
        case .keyExpired: (401, "unauthorized", "KEY_EXPIRED", "API key has expired")
        case .invalidToken: (401, "unauthorized", "INVALID_TOKEN", "Invalid or expired token")
        case .insufficientRights: (403, "forbidden", "INSUFFICIENT_PERMISSIONS", "Insufficient permissions")
        case .insufficientPermissions: (403, "forbidden", "INSUFFICIENT_PERMISSIONS", "Insufficient permissions for this operation")
        case .registrationClosed: (403, "forbidden", "REGISTRATION_CLOSED", "Registration is not open for this e-mail address")
        case .quotaExceeded(let what): (403, "forbidden", "QUOTA_EXCEEDED", "Quota exceeded: \(what)")
        case .notFound: (404, "not_found", "NOT_FOUND", "No such object")
        case .routeNotFound: (404, "not_found", "ROUTE_NOT_FOUND", "No such path; see /openapi.yaml")
        case .methodNotAllowed(let allowed):
            (405, "method_not_allowed", "METHOD_NOT_ALLOWED", "Allowed here: \(allowed.map(\.rawValue).joined(separator: ", "))")
        case .conflict(let why): (409, "conflict", "CONFLICT", why)
        case .alreadyExists(let why): (409, "conflict", "ALREADY_EXISTS", why)
        case .idempotencyKeyInUse: (409, "conflict", "IDEMPOTENCY_KEY_IN_USE", "A request with this Idempotency-Key is still running")
        case .idempotencyKeyReused:
            (422, "unprocessable", "IDEMPOTENCY_KEY_REUSED", "This Idempotency-Key was used with another body")
        case .bodyTooLarge(let limit): (413, "payload_too_large", "BODY_TOO_LARGE", "The body is larger than \(limit) bytes")
        case .unsupportedMediaType(let expected): (415, "unsupported_media_type", "UNSUPPORTED_MEDIA_TYPE", "Send the body as \(expected)")
        case .timedOut(let why): (504, "timed_out", "TIMED_OUT", why)
        case .unavailable: (503, "unavailable", "UNAVAILABLE", "The service is briefly unavailable; try again")
        case .internalFailure: (500, "internal", "INTERNAL", "Something went wrong on our side; the request id finds it in our log")
        }
    }

    package var status: Int { face.status }
    package var code: String { face.code }
    /// The sentence for a person.
    package var message: String { face.message }

    /// What the log may say beyond the public sentence.
    package var cause: String? {
        switch self {
        case .unavailable(let cause), .internalFailure(let cause): cause
        default: nil
        }
    }

    /// Seconds for `Retry-After`.
    package var retryAfter: Int? {
        switch self {
        case .unavailable: 2
        case .idempotencyKeyInUse: 1
        default: nil
        }
    }

    /// The error body that nginx's own errors share; it has the members of all documented shapes at once.
    package func body(requestID: String) -> JSON {
        let (status, kind, code, message) = face
        let fields: [FieldError] =
            switch self {
            case .invalid(let bad): bad
            case .targetForbidden(let bad): [bad]
            default: []
            }
        return [
            "error": .string(kind), "message": .string(message), "code": .int(status), "detail": .string(message),
            "error_code": .string(code), "status_code": .int(status), "request_id": .string(requestID),
            "errors": .array(fields.map { ["field": .string($0.field), "message": .string($0.message)] }),
        ]
    }
}
