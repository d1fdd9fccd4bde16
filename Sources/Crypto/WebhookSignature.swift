// Standard Webhooks 1.0, symmetric signatures: what proves to a receiver that a message is ours, whole and fresh.
// Receivers check with any library of https://www.standardwebhooks.com, or by the recipe in the README.

package struct WebhookSecret: Sendable, Equatable {
    private static let prefix = "whsec_"

    /// 24–64 bytes; what is stored, sealed.
    package let bytes: [UInt8]

    /// A new one of 32 random bytes.
    package static func make() -> WebhookSecret { WebhookSecret(bytes: Random.bytes(32)) }

    package init(bytes: [UInt8]) { self.bytes = bytes }

    /// - Parameter text: `whsec_` and base64; `nil` for anything else.
    package init?(_ text: String) {
        guard text.hasPrefix(Self.prefix) else { return nil }
        let letters = text.dropFirst(Self.prefix.count)
        let bytes = Base64.standard.decode(letters.prefix { $0 != "=" })
        guard let bytes, (24...64).contains(bytes.count), Base64.standard.padded(bytes) == letters else { return nil }
        self.bytes = bytes
    }

    /// As its user sees it, once.
    package var text: String { Self.prefix + Base64.standard.padded(bytes) }
}

extension WebhookSecret {
    /// The three headers of one attempt; names in lower case.
    /// - Parameters:
    ///   - id: of the message, the same at each attempt; without a `.`.
    ///   - timestamp: Unix time of this attempt, in seconds.
    package func headers(id: String, timestamp: Int, body: [UInt8]) -> [(name: String, value: String)] {
        let mac = HMAC.sha256(key: bytes, Array("\(id).\(timestamp).".utf8) + body)
        return [
            ("webhook-id", id), ("webhook-timestamp", String(timestamp)), ("webhook-signature", "v1," + Base64.standard.padded(mac)),
        ]
    }
}
