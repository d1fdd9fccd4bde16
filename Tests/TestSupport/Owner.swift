// Accounts for tests: made by the routes that everybody uses, so each is as real as any.
import Crypto
package import HTTP
import Postgres
import Synchronization
import System

package struct Owner: Sendable {
    package let id: String
    package let email: String
    package let password: String
    package let name: String
    /// A login key: all rights of the account's role.
    package let key: String
}

package struct Unexpected: Error, CustomStringConvertible {
    package let description: String
}

extension TestCloud {
    /// An e-mail address that nobody has.
    package static func newEmail() -> String { "t\(ID(at: .now()).description.suffix(20))@example.com" }

    /// Registers and logs in; with a role, the operator has granted it before.
    package func newOwner(role: String? = nil, name: String = "Test Owner", password: String = "correct horse") throws -> Owner {
        let email = Self.newEmail()
        let registered = call(
            .post, "/auth/register", json: ["email": .string(email), "password": .string(password), "name": .string(name)])
        guard let id = registered["user_id"]?.string else { throw Unexpected(description: "registration: \(registered)") }
        if let role { try admin("select operator_grant_role(\(email), \(role))") }
        return Owner(id: id, email: email, password: password, name: name, key: try login(email, password))
    }

    /// Logs in; the new key.
    package func login(_ email: String, _ password: String) throws -> String {
        let answer = call(.post, "/auth/login", json: ["email": .string(email), "password": .string(password)])
        guard let key = answer["api_key"]?.string else { throw Unexpected(description: "login: \(answer)") }
        return key
    }

    /// A further key, made by the route.
    package func newKey(of owner: Owner, _ members: JSON = [:], by key: String? = nil) throws -> (id: String, text: String) {
        let answer = call(.post, "/auth/keys", key: key ?? owner.key, json: members.adding(["name": "further"]))
        guard let id = answer["id"]?.string, let text = answer["key"]?.string else { throw Unexpected(description: "a key: \(answer)") }
        return (id, text)
    }

    /// The id of the key whose text is given.
    package func keyID(_ text: String) throws -> String {
        guard let id = try admin("select id::text from api_keys where key_hash = \(KeyText.digest(text))").scalar(String.self) else {
            throw Unexpected(description: "no such key")
        }
        return id
    }
}

/// Does something `count` times on so many threads of its own, side by side; the results in no order.
/// - Parameter start: called on each thread; what it returns is called again and again.
package func sideBySide<Result: Sendable>(
    _ count: Int, threads: Int, _ start: @escaping @Sendable () throws -> (() throws -> Result)
) throws -> [Result] {
    let board = Board<Result>(count)
    let workers = (0..<threads).map { _ in
        WorkerThread {
            do {
                let step = try start()
                while board.left.subtract(1, ordering: .relaxed).newValue >= 0 {
                    let result = try step()
                    board.outcome.withLock { $0.results.append(result) }
                }
            } catch {
                board.outcome.withLock { $0.error = error }
            }
        }
    }
    for worker in workers { worker.join() }
    return try board.outcome.withLock { outcome in
        if let error = outcome.error { throw error }
        return outcome.results
    }
}

private final class Board<Result: Sendable>: Sendable {
    let left: Atomic<Int>
    let outcome = Mutex<(results: [Result], error: (any Error)?)>(([], nil))

    init(_ count: Int) { left = Atomic(count) }
}
