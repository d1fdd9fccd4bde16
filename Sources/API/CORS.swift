// Cross-origin requests (WHATWG Fetch §3.2) from the origins in THECLOUD_CORS_ORIGINS. No cookies, so no credentials mode.
import HTTP

enum CORS {
    static func isPreflight(_ request: Request) -> Bool {
        request.method == .options && request.headers["origin"] != nil && request.headers["access-control-request-method"] != nil
    }

    static let preflight = Response(
        status: 204,
        headers: [
            ("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE"),
            ("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, X-API-Key, X-Request-ID"),
            ("Access-Control-Max-Age", "600"),
        ])

    /// Lets a listed origin read the answer; any other gets an answer that its browser hides.
    static func decorate(_ response: inout Response, for request: Request, origins: Set<String>) {
        guard !origins.isEmpty else { return }
        response.headers.append(("Vary", "Origin"))
        guard let origin = request.headers["origin"], origins.contains(origin) else { return }
        response.headers.append(("Access-Control-Allow-Origin", origin))
        response.headers.append(("Access-Control-Expose-Headers", "Idempotency-Replayed, Retry-After, X-Request-ID"))
    }
}
