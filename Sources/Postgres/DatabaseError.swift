// What PostgreSQL, or the way to it, refused. SQLSTATEs: PostgreSQL manual, appendix A; those of class TC are raised by our own functions.

package enum DatabaseError: Error, Equatable, Sendable {
    /// No connection, or it broke: whether the transaction took effect is unknown only when it broke during the commit.
    case connectionLost(String)
    case refused(Refusal)

    package struct Refusal: Equatable, Sendable {
        package let state: String
        package let message: String
        /// The violated constraint, if one was.
        package let constraint: String?
    }

    /// The name of the constraint that was violated.
    package var constraint: String? { if case .refused(let refusal) = self { refusal.constraint } else { nil } }

    /// The server's sentence; of the states of class TC it is fit for a client.
    package var message: String {
        switch self {
        case .connectionLost(let why): why
        case .refused(let refusal): refusal.message
        }
    }

    package var state: String? { if case .refused(let refusal) = self { refusal.state } else { nil } }

    /// True where the same request may well succeed a moment later: lost connections, deadlocks, time-outs, shutdowns, too many clients, plans gone stale.
    package var isTransient: Bool {
        switch self {
        case .connectionLost: true
        case .refused(let refusal):
            ["08", "40", "53", "57"].contains(String(refusal.state.prefix(2))) || refusal.state == "55P03" || refusal.state == "0A000"
        }
    }
}
