// The installation's secret and all keys that derive from it (HKDF-SHA256, one label each).
// After a change of the secret, the previous one stays good for opening and checking; sealing and signing use the new one only.

/// A derived HMAC key with its predecessor.
package struct MACKey: Sendable {
    private let current: [UInt8]
    private let previous: [UInt8]?

    init(current: [UInt8], previous: [UInt8]?) {
        self.current = current
        self.previous = previous
    }

    /// The 32-byte HMAC-SHA256 under the current key.
    package func sign(_ message: [UInt8]) -> [UInt8] { HMAC.sha256(key: current, message) }

    /// Whether the current or the previous key made this HMAC of the message; compared in constant time.
    package func verify(_ mac: [UInt8], of message: [UInt8]) -> Bool {
        if constantTimeEqual(mac, sign(message)) { return true }
        guard let previous else { return false }
        return constantTimeEqual(mac, HMAC.sha256(key: previous, message))
    }
}

package struct Keyring: Sendable {
    package static let secretCount = 32

    /// Recognises a repeated request's body.
    package let idempotency: MACKey
    /// Signs access tokens (HS256).
    package let jwt: MACKey
    /// Signs list cursors and other values that a client carries for us.
    package let token: MACKey

    private let current: Seal
    private let previous: Seal?

    /// - Parameters: both secrets have exactly 32 bytes.
    package init(secret: [UInt8], previous: [UInt8]?) {
        precondition(secret.count == Self.secretCount && previous.map { $0.count == Self.secretCount } ?? true, "a secret has 32 bytes")
        func key(_ label: String) -> MACKey {
            MACKey(current: Self.derive(label, secret), previous: previous.map { Self.derive(label, $0) })
        }
        idempotency = key("idempotency")
        jwt = key("jwt")
        token = key("token")
        current = Self.seal(secret)
        self.previous = previous.map(Self.seal)
    }

    /// The value sealed under the current secret (AES-256-GCM). The context names what it is and whose, and is needed to open it.
    package func seal(_ plaintext: [UInt8], context: String) -> [UInt8] { current.seal(plaintext, context: context) }

    /// The plaintext of what `seal` made under the current or the previous secret.
    /// - Throws: `unsealable` for another context, other secrets, or a changed value.
    package func open(_ value: [UInt8], context: String) throws(CryptoError) -> [UInt8] {
        if let previous, previous.sealed(value), !current.sealed(value) { return try previous.open(value, context: context) }
        return try current.open(value, context: context)
    }

    /// Whether the value should be sealed anew, because the current secret did not seal it.
    package func needsReseal(_ value: [UInt8]) -> Bool { !current.sealed(value) }

    private static func derive(_ label: String, _ secret: [UInt8], count: Int = 32) -> [UInt8] {
        HKDF.sha256(key: secret, info: Array("thecloud/\(label)".utf8), count: count)
    }

    private static func seal(_ secret: [UInt8]) -> Seal { Seal(key: derive("seal", secret), id: derive("seal-id", secret, count: 4)) }
}
