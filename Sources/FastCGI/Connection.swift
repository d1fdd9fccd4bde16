// One request on a connection: look at the opening, let libfcgi read it, decode, call the handler, answer; then the connection is kept or closed.
// We accept ourselves and lend libfcgi the descriptor: its own accept would block, and knows nothing of other connections.
// What libfcgi has read beyond the end of a request is lost with it: a peer must have the answer before it asks again, as nginx does.
import CFastCGI
import Glibc
import HTTP

/// What a thread needs to serve connections one after the other; it stays on its thread.
struct Connection: ~Copyable {
    /// What became of a connection.
    enum Outcome {
        /// Answered, and the peer may ask again.
        case kept
        /// No request was there: `begun` says whether a part of one is.
        case unserved(begun: Bool)
        case closed
    }

    private let pool: Pool
    private let log: @Sendable (PoolEvent) -> Void
    private let request: UnsafeMutablePointer<FCGX_Request>
    private let scratch: UnsafeMutableRawBufferPointer
    private var head: [UInt8] = []

    /// Milliseconds that a peer may take to send a body on, or to take an answer.
    private static let readLimit = 10_000
    private static let writeLimit = 30_000

    /// `FCGX_Init` must have been called.
    init(pool: Pool, log: @escaping @Sendable (PoolEvent) -> Void) {
        self.pool = pool
        self.log = log
        request = .allocate(capacity: 1)
        // Without a listening socket libfcgi can't accept another connection in place of a broken one: it returns.
        FCGX_InitRequest(request, -1, FCGI_FAIL_ACCEPT_ON_INTR)
        scratch = .allocate(byteCount: Opening.limit + 256, alignment: 16)
        head.reserveCapacity(1024)
    }

    deinit {
        request.deallocate()
        scratch.deallocate()
    }

    /// Once for each connection, before it is served.
    static func prepare(_ connection: Int32) {
        limit(connection, SO_RCVTIMEO, readLimit)
        limit(connection, SO_SNDTIMEO, writeLimit)
    }

    /// Serves one request of the connection if it is there; survives whatever the peer does.
    /// - Parameters:
    ///   - waits: for an opening that has not arrived.
    ///   - mayStay: asked before the end of the answer, whether a connection that the peer wants to keep may be kept.
    mutating func serve(_ connection: Int32, waits: Bool, mayStay: () -> Bool, _ handler: (Request) -> Response) -> Outcome {
        switch waits ? Opening.await(on: connection, scratch: scratch) : Opening.look(at: connection, scratch: scratch) {
        case .complete: break
        case .silent: return .unserved(begun: false)
        case .begun: return .unserved(begun: true)
        case .abandoned:
            close(connection)
            return .closed
        case .malformed(let reason):
            refuse(connection, reason)
            return .closed
        }
        request.pointee.ipcFd = connection
        // Keeps FCGX_Accept_r from closing it at once; `detached` keeps libfcgi from lingering for 2 s when it closes after an error.
        request.pointee.keepConnection = 1
        request.pointee.detached = 1
        guard FCGX_Accept_r(request) == 0, let parameters = request.pointee.envp else {
            log(.malformedRequest(pool: pool.name, reason: "libfcgi refused the request"))
            return .closed
        }
        let isToBeKept = request.pointee.keepConnection != 0
        let input = answer(Parameters(parameters), handler)
        // The empty record that ends the input must not stand before the next request.
        let isAtEnd = isToBeKept && input == .taken && FCGX_GetChar(request.pointee.in) < 0
        // Decided before the peer has its answer: whoever comes when that has arrived finds the place taken.
        let stays = isAtEnd && mayStay()
        request.pointee.keepConnection = 1
        FCGX_Finish_r(request)
        // libfcgi has closed it after an error.
        guard request.pointee.ipcFd >= 0 else { return .closed }
        request.pointee.ipcFd = -1
        if stays { return .kept }
        // Closing over unread bytes, be it only the empty record that ends the input, would reset the connection under the answer.
        if input == .left { discardRest(of: connection) } else { recv(connection, scratch.baseAddress, scratch.count, Int32(MSG_DONTWAIT)) }
        close(connection)
        return .closed
    }

    /// Closes a connection whose peer makes no sense.
    func refuse(_ connection: Int32, _ reason: String) {
        log(.malformedRequest(pool: pool.name, reason: reason))
        close(connection)
    }

    /// What became of a request's input.
    private enum Input {
        case taken
        /// A body was left unread.
        case left
        case senseless
    }

    private mutating func answer(_ parameters: Parameters, _ handler: (Request) -> Response) -> Input {
        guard parameters.path.utf8.first == 0x2F, !parameters.method.rawValue.isEmpty else {
            log(.malformedRequest(pool: pool.name, reason: "no DOCUMENT_URI or REQUEST_METHOD"))
            return .senseless
        }
        let body = readBody(parameters.contentLength)
        var request = Request(
            method: parameters.method, path: parameters.path, query: parameters.query, headers: parameters.headers,
            remoteAddress: parameters.remoteAddress, requestID: parameters.requestID, internalSubject: parameters.internalSubject)
        request.body = body
        let response = handler(request)

        head.becomeHead(of: response, requestID: request.requestID)
        put(head)
        if request.method != .head { put(response.body) }
        if case .tooLarge = body { return .left }
        return .taken
    }

    private func readBody(_ length: Parameters.ContentLength) -> Body {
        guard case .bytes(let count) = length, count <= pool.bodyLimit else { return .tooLarge }
        guard count > 0 else { return .bytes([]) }
        let stream = request.pointee.in
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            filled = buffer.withMemoryRebound(to: CChar.self) { Int(FCGX_GetStr($0.baseAddress, Int32(count), stream)) }
        }
        return bytes.count == count ? .bytes(bytes) : .truncated
    }

    /// A peer that went away shows at the next flush, and libfcgi then swallows the rest.
    private func put(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { bytes in
            var rest = bytes[...]
            while !rest.isEmpty {
                let part = UnsafeRawBufferPointer(rebasing: rest.prefix(1 << 30))
                let text = part.baseAddress?.assumingMemoryBound(to: CChar.self)
                guard FCGX_PutStr(text, Int32(part.count), request.pointee.out) >= 0 else { return }
                rest = rest.dropFirst(part.count)
            }
        }
    }

    /// Reads on, bounded in time and volume, until the peer has taken the answer and left.
    private func discardRest(of connection: Int32) {
        shutdown(connection, Int32(SHUT_WR))
        Self.limit(connection, SO_RCVTIMEO, 1000)
        let deadline = ContinuousClock.now + .seconds(2)
        while ContinuousClock.now < deadline, recv(connection, scratch.baseAddress, scratch.count, 0) > 0 {}
    }

    private static func limit(_ connection: Int32, _ option: Int32, _ milliseconds: Int) {
        var time = timeval(tv_sec: milliseconds / 1000, tv_usec: milliseconds % 1000 * 1000)
        setsockopt(connection, SOL_SOCKET, option, &time, socklen_t(MemoryLayout<timeval>.size))
    }
}
