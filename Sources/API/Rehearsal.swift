// What a thread does before its child takes requests, so that none of them waits for it: opens the connection and asks for a credential that
// nobody has. PostgreSQL has its process, its catalogs and the commonest statement at hand then.
// One thread at a time: together they would take the processors from the requests that the other children serve meanwhile.
import Crypto
import HTTP
import Identity
import Synchronization

extension Dispatcher {
    /// Whether the database could be asked; once it could not, nobody tries again.
    private static let isWorthwhile = Mutex(true)

    /// Has no effect that anybody could see, and never fails.
    package func rehearse(with equipment: Equipment) {
        guard let route = routes.first(where: { $0.method == .get && $0.pool == .api && !$0.access.isOpen && !$0.path.contains(":") })
        else { return }
        let request = Request(
            method: .get, path: route.path, query: "", headers: Headers(["x-api-key": KeyText.make(prefix: APIKey.prefix)]),
            remoteAddress: "127.0.0.1", requestID: "rehearsal")
        Self.isWorthwhile.withLock { isWorthwhile in
            guard isWorthwhile else { return }
            isWorthwhile = respond(to: request, with: equipment, log: { _ in }).status == 401
        }
    }
}
