// Secrets that must come back: AES-256-GCM (NIST SP 800-38D) with a random nonce.
// Layout: version 1 · 4-byte key id · 12-byte nonce · ciphertext · 16-byte tag. Version, key id and context are authenticated.
import CCrypto

/// One sealing key. The context says what the value is and whose (`"webhook-secret/<id>"`): a value moved elsewhere does not open.
package struct Seal: Sendable {
    /// Bytes that sealing adds to a plaintext.
    package static let overhead = headerCount + nonceCount + tagCount

    private static let version: UInt8 = 1
    private static let headerCount = 5
    private static let nonceCount = 12
    private static let tagCount = 16

    private let key: [UInt8]
    private let header: [UInt8]

    /// - Parameters: `key` has 32 bytes, `id` 4.
    init(key: [UInt8], id: [UInt8]) {
        precondition(key.count == 32 && id.count == 4)
        self.key = key
        header = [Self.version] + id
    }

    /// Whether the value says that this key sealed it.
    func sealed(_ value: [UInt8]) -> Bool { value.starts(with: header) }

    /// The sealed value; `overhead` bytes longer, different each time.
    package func seal(_ plaintext: [UInt8], context: String) -> [UInt8] {
        let nonce = Random.bytes(Self.nonceCount)
        var tag = [UInt8](repeating: 0, count: Self.tagCount)
        let ciphertext = run(plaintext, nonce, context, encrypting: true) { EVP_CIPHER_CTX_ctrl($0, EVP_CTRL_AEAD_GET_TAG, 16, &tag) == 1 }
        guard let ciphertext else { preconditionFailure("libcrypto has no AES-256-GCM") }
        return header + nonce + ciphertext + tag
    }

    /// The plaintext of a value sealed by this key for this context.
    /// - Throws: `unsealable` for anything else.
    package func open(_ value: [UInt8], context: String) throws(CryptoError) -> [UInt8] {
        guard sealed(value), value.count >= Self.overhead else { throw .unsealable }
        let body = value.dropFirst(Self.headerCount)
        var tag = Array(body.suffix(Self.tagCount))
        let ciphertext = Array(body.dropFirst(Self.nonceCount).dropLast(Self.tagCount))
        let plaintext = run(ciphertext, Array(body.prefix(Self.nonceCount)), context, encrypting: false) {
            EVP_CIPHER_CTX_ctrl($0, EVP_CTRL_AEAD_SET_TAG, 16, &tag) == 1
        }
        guard let plaintext else { throw .unsealable }
        return plaintext
    }

    /// One pass; `tag` runs before the end when decrypting and after it when encrypting. `nil` when the tag does not fit.
    private func run(
        _ input: [UInt8], _ nonce: [UInt8], _ context: String, encrypting: Bool, tag: (OpaquePointer) -> Bool
    ) -> [UInt8]? {
        guard let cipher = EVP_CIPHER_CTX_new() else { return nil }
        defer { EVP_CIPHER_CTX_free(cipher) }
        let associated = header + Array(context.utf8)
        var output = [UInt8](repeating: 0, count: input.count)
        var count: Int32 = 0
        var rest = [UInt8](repeating: 0, count: 16)
        guard EVP_CipherInit_ex(cipher, EVP_aes_256_gcm(), nil, key, nonce, encrypting ? 1 : 0) == 1,
            EVP_CipherUpdate(cipher, nil, &count, associated, Int32(associated.count)) == 1,
            input.isEmpty || EVP_CipherUpdate(cipher, &output, &count, input, Int32(input.count)) == 1,
            encrypting || tag(cipher),
            EVP_CipherFinal_ex(cipher, &rest, &count) == 1,
            !encrypting || tag(cipher)
        else {
            ERR_clear_error()
            return nil
        }
        return output
    }
}
