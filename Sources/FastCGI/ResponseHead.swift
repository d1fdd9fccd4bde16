// Response → the head of a CGI answer (RFC 3875 §6). The body is not copied into it: libfcgi joins both in its own buffer.
// Line breaks and NULs inside a name or value are dropped, so no value can become a header or end the head.
import HTTP

extension [UInt8] {
    /// Makes this the head of `response`: status, its headers, `Content-Length` and `X-Request-ID` unless they are among them, and the empty line.
    mutating func becomeHead(of response: Response, requestID: String) {
        removeAll(keepingCapacity: true)
        append(contentsOf: "Status: ".utf8)
        append(contentsOf: String(response.status).utf8)
        // nginx passes the phrase on, and without one it would send a status line that RFC 9112 §4 forbids.
        append(contentsOf: phrase(of: response.status).utf8)
        appendLineBreak()
        // A 204 or 304 has no length (RFC 9110 §8.6).
        var hasLength = response.status == 204 || response.status == 304
        var hasRequestID = false
        for (name, value) in response.headers {
            appendField(name)
            append(contentsOf: ": ".utf8)
            appendField(value)
            appendLineBreak()
            hasLength = hasLength || name.isHeader("content-length")
            hasRequestID = hasRequestID || name.isHeader("x-request-id")
        }
        if !hasRequestID {
            append(contentsOf: "X-Request-ID: ".utf8)
            append(contentsOf: requestID.utf8)
            appendLineBreak()
        }
        if !hasLength {
            append(contentsOf: "Content-Length: ".utf8)
            append(contentsOf: String(response.body.count).utf8)
            appendLineBreak()
        }
        appendLineBreak()
    }

    private mutating func appendLineBreak() {
        append(0x0D)
        append(0x0A)
    }

    private mutating func appendField(_ text: String) {
        func isForbidden(_ byte: UInt8) -> Bool { byte == 0x0D || byte == 0x0A || byte == 0 }
        let isDone =
            text.utf8.withContiguousStorageIfAvailable { bytes in
                guard !bytes.contains(where: isForbidden) else { return false }
                append(contentsOf: bytes)
                return true
            } ?? false
        if !isDone { append(contentsOf: text.utf8.filter { !isForbidden($0) }) }
    }
}

extension String {
    /// Whether this is the header name that is given in lower case.
    fileprivate func isHeader(_ name: StaticString) -> Bool {
        utf8.count == name.utf8CodeUnitCount && zip(utf8, 0...).allSatisfy { byte, index in byte | 0x20 == name.utf8Start[index] }
    }
}

/// A status's reason phrase (RFC 9110 §15) behind a space.
private func phrase(of status: Int) -> String {
    switch status {
    case 200: " OK"
    case 201: " Created"
    case 202: " Accepted"
    case 204: " No Content"
    case 206: " Partial Content"
    case 301: " Moved Permanently"
    case 302: " Found"
    case 303: " See Other"
    case 304: " Not Modified"
    case 400: " Bad Request"
    case 401: " Unauthorized"
    case 403: " Forbidden"
    case 404: " Not Found"
    case 405: " Method Not Allowed"
    case 409: " Conflict"
    case 410: " Gone"
    case 412: " Precondition Failed"
    case 413: " Content Too Large"
    case 415: " Unsupported Media Type"
    case 422: " Unprocessable Content"
    case 429: " Too Many Requests"
    case 500: " Internal Server Error"
    case 502: " Bad Gateway"
    case 503: " Service Unavailable"
    case 504: " Gateway Timeout"
    default: status < 400 ? " Success" : " Failure"
    }
}
