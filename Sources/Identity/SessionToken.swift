// `Authorization: Bearer eyJ…`: an access token. Form, signature and times are judged here; whether its session lives, the database says.
import Crypto
package import HTTP

package enum SessionToken {
    package static let resolver: Credential.Resolver = resolve

    /// The text of a new token.
    package static func make(session: ID, account: ID, _ bench: Credential.Bench) -> String {
        JWT(account: account.description, session: session.description, issuedAt: seconds(bench)).signed(by: bench.keyring.jwt)
    }

    @Sendable private static func resolve(_ headers: Headers, _ bench: Credential.Bench) throws(APIError) -> Credential? {
        guard let text = bearerToken(headers, prefix: JWT.prefix) else { return nil }
        guard let token = JWT(text, signedBy: bench.keyring.jwt, now: seconds(bench)), let session = ID(token.session),
            let account = ID(token.account)
        else { throw .invalidCredentials }
        return .session(session, account: account)
    }

    private static func seconds(_ bench: Credential.Bench) -> Int { bench.now().microseconds / 1_000_000 }
}
