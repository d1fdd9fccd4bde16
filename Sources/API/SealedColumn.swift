// Columns that hold what must come back, sealed under the installation's key: one list, so that a change of the key reaches all of them.
// What is sealed for one row does not open for another. A new one adds its case, and thecloud-cron sees to the rest.
package import Crypto
package import HTTP

package enum SealedColumn: CaseIterable, Sendable {
    case instanceEnvironment
    case groupEnvironment
    case webhookSecret
    case clientSecret
    case cronHeaders
    case subscriptionSecret
    case cachePassword
    case functionEnvironment

    package var table: String {
        switch self {
        case .instanceEnvironment: "instances"
        case .groupEnvironment: "scaling_groups"
        case .webhookSecret: "webhooks"
        case .clientSecret: "clients"
        case .cronHeaders: "cron_jobs"
        case .subscriptionSecret: "subscriptions"
        case .cachePassword: "caches"
        case .functionEnvironment: "functions"
        }
    }

    /// What names the row.
    package var id: String { self == .clientSecret ? "owner_id" : "id" }

    package var column: String {
        switch self {
        case .instanceEnvironment, .groupEnvironment, .functionEnvironment: "env_sealed"
        case .webhookSecret, .subscriptionSecret: "secret_sealed"
        case .clientSecret: "webhook_secret_sealed"
        case .cronHeaders: "headers_sealed"
        case .cachePassword: "password_sealed"
        }
    }

    fileprivate func context(_ id: ID) -> String {
        switch self {
        case .instanceEnvironment: "instance.env \(id)"
        case .groupEnvironment: "group.env \(id)"
        case .webhookSecret: "webhook.secret \(id)"
        case .clientSecret: "client.webhook_secret \(id)"
        case .cronHeaders: "cron.headers \(id)"
        case .subscriptionSecret: "subscription.secret \(id)"
        case .cachePassword: "cache.password \(id)"
        case .functionEnvironment: "function.env \(id)"
        }
    }
}

extension Keyring {
    package func seal(_ plaintext: [UInt8], _ column: SealedColumn, of id: ID) -> [UInt8] { seal(plaintext, context: column.context(id)) }

    /// - Throws: `CryptoError` when it was not sealed for this column of this row by this installation.
    package func open(_ sealed: [UInt8], _ column: SealedColumn, of id: ID) throws(CryptoError) -> [UInt8] {
        try open(sealed, context: column.context(id))
    }
}
