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
    /// A login key: all rights of the account's role. Of a client its master key, of a client's user the scoped one.
    package let key: String
    /// Of a client of Chat and its users: the client's master key; the account is the client's.
    package var master: String?
    /// Of a client's user: its id.
    package var memberID: String?

    /// The client that a user is one of; a client itself.
    package var client: Owner { Owner(id: id, email: "", password: "", name: name, key: master ?? key, master: master) }
}

package struct Unexpected: Error, CustomStringConvertible {
    package let description: String
    package init(description: String) { self.description = description }
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

    /// Registers a client of Chat.
    package func newClient(name: String = "Test Client") throws -> Owner {
        let answer = call(.post, "/api/v1/clients", json: ["name": .string(name)])
        guard let id = answer["id"]?.string, let key = answer["master_api_key"]?.string else {
            throw Unexpected(description: "a client: \(answer)")
        }
        return Owner(id: id, email: "", password: "", name: name, key: key, master: key)
    }

    /// A user of a client, with its scoped key.
    package func newMember(of client: Owner? = nil, name: String = "john_doe") throws -> Owner {
        let client = try client ?? newClient()
        let email = Self.newEmail()
        let answer = call(.post, "/api/v1/users", key: client.master, json: ["email": .string(email), "username": .string(name)])
        guard let id = answer["id"]?.string, let key = answer["scoped_api_key"]?.string else {
            throw Unexpected(description: "a user: \(answer)")
        }
        return Owner(id: client.id, email: email, password: "", name: name, key: key, master: client.master, memberID: id)
    }

    /// A room of the client's; who is given has joined it.
    package func newRoom(of client: Owner, joinedBy members: [Owner] = []) throws -> String {
        let answer = call(.post, "/api/v1/rooms", key: client.master, json: ["name": "General"])
        guard let id = answer["id"]?.string else { throw Unexpected(description: "a room: \(answer)") }
        for member in members where member.memberID != nil {
            let joined = call(.post, "/api/v1/rooms/\(id)/join", key: member.key)
            guard joined.status == 200 else { throw Unexpected(description: "joining: \(joined)") }
        }
        return id
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
