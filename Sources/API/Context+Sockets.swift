// What handlers of WebSockets share: a socket is opened by nginx's question, claimed by the credential that its first message or a header
// brings, and acted for with every further message. Table: sockets, by the functions of sql/0009_fleet.sql.
package import HTTP
package import Identity
import Postgres

extension Context {
    /// The WebSocket that an internal route is about.
    /// - Throws: `internalFailure` elsewhere.
    package var socketID: String {
        get throws(APIError) {
            guard let id = request.internalSubject else { throw .internalFailure(cause: "\(route.path) is asked for no socket") }
            return id
        }
    }

    /// Takes note of a socket that opens; it has 10 s to say who it is.
    /// - Parameter server: what it wants to watch.
    package func openSocket(_ kind: String, server: ID? = nil) throws {
        try send("select open_socket(\(try socketID), \(kind), \(server)::uuid)")
    }

    /// The credential of the handshake's headers; `nil` without one.
    package func headerCredential() throws(APIError) -> Credential? {
        guard request.headers["authorization"] != nil || request.headers["x-api-key"] != nil else { return nil }
        return try Credential.resolve(request.headers, by: Credential.resolvers, bench)
    }

    /// Makes the socket the credential's, and the credential the principal of this transaction.
    /// - Parameter permission: without one, any person's credential will do.
    /// - Throws: a refusal where the credential is bad or has no permission, or the socket is not to be had.
    package func claimSocket(_ kind: String, as credential: Credential, for permission: Permission? = nil) throws {
        try send(credential.authentication(for: permission, address: request.remoteAddress))
        guard try query("select claim_socket(\(try socketID), \(kind))").scalar() == true else { throw APIError.invalidCredentials }
    }

    /// The principal in full of a credential that has just claimed a socket.
    package func principal(of credential: Credential) throws -> Principal {
        guard let row = try query(credential.principal).first else { throw APIError.invalidCredentials }
        return Principal(row)
    }

    /// Acts for whom the socket was claimed by.
    package func actForSocket(_ kind: String) throws { try send("select authenticate_socket(\(try socketID), \(kind))") }

    /// Whether the error says that a credential is not good for this.
    package func isRefusal(_ error: any Error) -> Bool { [401, 403].contains(Dispatcher.publicError(error).status) }

    /// Undoes what the message did, says why, and has the socket closed.
    package func dismissSocket(saying message: String) throws -> JSON {
        abandon()
        let transaction = try equipment.connection.begin()
        transaction.notify("events", "sockets")
        transaction.notify(SocketDesk.channel)
        _ = try transaction.commit("select dismiss_socket(\(try socketID))")
        return ["type": "error", "message": .string(message)]
    }
}
