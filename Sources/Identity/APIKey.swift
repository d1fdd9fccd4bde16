// `thecloud_…`: keys of people, in `X-API-Key` or as a bearer token. Kinds `key` and `login` of the table api_keys.
import Crypto
import HTTP

package enum APIKey {
    package static let prefix = "thecloud_"

    package static let resolver: Credential.Resolver = resolve

    @Sendable private static func resolve(_ headers: Headers, _ bench: Credential.Bench) throws(APIError) -> Credential? {
        guard let text = headers["x-api-key"] ?? bearerToken(headers, prefix: prefix) else { return nil }
        return .key(hash: try KeyText.hash(of: text, prefix: prefix))
    }
}
