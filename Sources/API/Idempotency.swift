// `Idempotency-Key` (in the spirit of draft-ietf-httpapi-idempotency-key-header): the answer is stored in the transaction of the work.
// Table idempotency_keys: the request as HMAC, the answer sealed, because it may hold a secret. A failed request stores nothing.
import Crypto
import HTTP
import Identity
import Postgres

struct Idempotency {
    private let context: Context
    private let key: String
    private let route: String
    private let mac: [UInt8]

    /// `nil` where the request does not ask for it, or the route does not offer it.
    /// - Throws: `invalid` for a key that is empty or longer than 255 characters.
    init?(_ context: Context) throws(APIError) {
        guard context.route.isIdempotent, let key = context.request.headers["idempotency-key"] else { return nil }
        guard (1...255).contains(key.count) else { throw .invalid("Idempotency-Key", "must be 1–255 characters") }
        guard case .bytes(let body) = context.request.body else { return nil }
        self.context = context
        self.key = key
        route = "\(context.request.method.rawValue) \(context.request.path)"
        mac = context.config.keyring.idempotency.sign(body)
    }

    /// Answers from the store, or lets the handler work and stores what it answers.
    func answer(_ handler: Route.Handler) throws -> Response {
        let lock = try scope
        var row = try context.query(
            """
            select pg_try_advisory_xact_lock(hashtextextended(\(lock), 0)), i.request_mac, i.answer
            from (values (1)) one left join idempotency_keys i
            on i.credential_id = current_credential() and i.route = \(route) and i.key = \(key) and i.created_at > now() - interval '24 hours'
            and (i.answer <> '' or i.created_at > now() - \(Self.patience)::int * interval '1 second')
            """)[0]
        guard row.next(Bool.self) else { throw APIError.idempotencyKeyInUse }
        if let stored: [UInt8] = row.next(), let sealed: [UInt8] = row.next() {
            guard context.config.keyring.idempotency.verify(stored, of: try bodyBytes) else { throw APIError.idempotencyKeyReused }
            guard sealed != Self.unfinished else { throw APIError.idempotencyKeyInUse }
            return try restore(sealed)
        }
        context.mustStayOpen = true
        var isParked = false
        context.park = { seconds in
            try store(Self.unfinished, ahead: seconds - Self.patience)
            isParked = true
        }
        let response: Response
        do {
            response = try handler(context)
        } catch {
            // Failed requests are not stored: what was stored for the time of waiting goes.
            if isParked { try forget() }
            throw error
        }
        try store(context.config.keyring.seal(Self.packed(response), context: lock))
        try context.finish()
        return response
    }

    /// Stands for the answer while a handler waits with nothing locked.
    private static let unfinished: [UInt8] = []

    /// Seconds for which that holds, unless it is dated ahead: then its process is gone.
    private static let patience = 120

    /// - Parameter ahead: seconds by which it is dated ahead.
    private func store(_ answer: [UInt8], ahead: Int = 0) throws {
        try context.send(
            """
            insert into idempotency_keys as i (route, key, request_mac, answer, created_at)
            values (\(route), \(key), \(mac), \(answer)::bytea, now() + \(ahead)::int * interval '1 second')
            on conflict (credential_id, route, key) do update set request_mac = excluded.request_mac, answer = excluded.answer,
            created_at = excluded.created_at where i.created_at <= now() - interval '24 hours' or i.answer = ''
            """)
    }

    private func forget() throws {
        context.abandon()
        try context.restart()
        try context.send(
            """
            update idempotency_keys set created_at = '-infinity'
            where credential_id = current_credential() and route = \(route) and key = \(key) and answer = ''
            """)
        try context.restart()
    }

    /// What one key is unique in.
    private var scope: String {
        get throws { "\(try context.principal.credentialID) \(route) \(key)" }
    }

    private var bodyBytes: [UInt8] {
        get throws(APIError) {
            guard case .bytes(let body) = context.request.body else { throw .malformedBody("The body is incomplete") }
            return body
        }
    }

    private static func packed(_ response: Response) -> [UInt8] {
        let headers = response.headers.map { JSON.strings([$0.name, $0.value]) }
        let answer: JSON = [
            "status": .int(response.status), "headers": .array(headers), "body": .string(String(decoding: response.body, as: UTF8.self)),
        ]
        return answer.bytes
    }

    private func restore(_ sealed: [UInt8]) throws -> Response {
        let answer = try JSON(parsing: try context.config.keyring.open(sealed, context: try scope))
        var response = Response(status: answer["status"]?.int ?? 200, body: Array((answer["body"]?.string ?? "").utf8))
        for header in answer["headers"]?.array ?? [] {
            if let name = header[0]?.string, let value = header[1]?.string { response.headers.append((name, value)) }
        }
        response.headers.append(("Idempotency-Replayed", "true"))
        return response
    }
}
