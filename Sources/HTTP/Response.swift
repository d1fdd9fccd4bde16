// What a handler answers. `Content-Length` is left to nginx and the FastCGI codec.

package struct Response: Sendable {
    package var status: Int
    /// Names in their usual spelling; `Content-Type` included.
    package var headers: [(name: String, value: String)]
    package var body: [UInt8]

    package init(status: Int, headers: [(name: String, value: String)] = [], body: [UInt8] = []) {
        self.status = status
        self.headers = headers
        self.body = body
    }

    /// A JSON answer: `application/json; charset=utf-8`.
    package static func json(_ body: JSON, status: Int = 200) -> Response {
        Response(status: status, headers: [("Content-Type", "application/json; charset=utf-8")], body: body.bytes)
    }

    package static func created(_ body: JSON) -> Response { json(body, status: 201) }

    /// What deletes and actions answer.
    package static func message(_ text: String) -> Response { json(["message": .string(text)]) }

    /// The same answer, marked as carrying a secret: `Cache-Control: no-store`.
    package var withSecret: Response {
        var response = self
        response.headers.append(("Cache-Control", "no-store"))
        return response
    }

    package static func failure(_ error: APIError, requestID: String) -> Response {
        var response = json(error.body(requestID: requestID), status: error.status)
        if error.status == 401 { response.headers.append(("WWW-Authenticate", "Bearer")) }
        if let seconds = error.retryAfter { response.headers.append(("Retry-After", String(seconds))) }
        if case .methodNotAllowed(let allowed) = error {
            response.headers.append(("Allow", allowed.map(\.rawValue).joined(separator: ", ")))
        }
        return response
    }
}
