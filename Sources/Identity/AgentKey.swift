// `chatops_…`: the key of a server's agent. Kind `agent` of the table api_keys. It comes in the first message of a WebSocket, never in a header.
import Crypto
package import HTTP

package enum AgentKey {
    package static let prefix = "chatops_"

    /// - Throws: `invalidCredentials` for a text that can't be one.
    package static func credential(_ text: String) throws(APIError) -> Credential {
        .key(hash: try KeyText.hash(of: text, prefix: prefix))
    }
}
