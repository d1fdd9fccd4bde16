// The secret by which notifications of a client are signed that go to URLs of their own (Standard Webhooks); sealed in the table clients.
package import Crypto
package import HTTP

extension Keyring {
    package func sealClientSecret(_ secret: [UInt8], of client: ID) -> [UInt8] { seal(secret, context: "client.webhook_secret \(client)") }

    /// - Throws: `CryptoError` when it was not sealed for this client by this installation.
    package func openClientSecret(_ sealed: [UInt8], of client: ID) throws(CryptoError) -> [UInt8] {
        try open(sealed, context: "client.webhook_secret \(client)")
    }
}
