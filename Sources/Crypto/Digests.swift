// Digests, message authentication, key derivation, randomness, comparison: thin and total over libcrypto.
// A failure here means that libcrypto is broken or memory is gone; going on with weaker bytes is no option, so the process stops.
import CCrypto

package enum SHA256 {
    /// Looked up once: every request hashes a key.
    private nonisolated(unsafe) static let method = EVP_MD_fetch(nil, "SHA256", nil)

    /// The 32-byte digest (FIPS 180-4).
    package static func digest(_ message: [UInt8]) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: 32)
        let done = EVP_Digest(message, message.count, &out, nil, method, nil)
        precondition(done == 1, "libcrypto has no SHA-256")
        return out
    }

    /// The digest of the text's UTF-8.
    package static func digest(_ text: String) -> [UInt8] { digest(Array(text.utf8)) }
}

package enum SHA1 {
    /// The 20-byte digest of the text's UTF-8 (FIPS 180-4). For protocols that ask for it; it keeps no secrets.
    package static func digest(_ text: String) -> [UInt8] {
        let message = Array(text.utf8)
        var out = [UInt8](repeating: 0, count: 20)
        let done = EVP_Digest(message, message.count, &out, nil, EVP_sha1(), nil)
        precondition(done == 1, "libcrypto has no SHA-1")
        return out
    }
}

package enum HMAC {
    /// The 32-byte HMAC-SHA256 (RFC 2104); the key may have any length.
    package static func sha256(key: [UInt8], _ message: [UInt8]) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: 32)
        let done = CCrypto.HMAC(EVP_sha256(), key, Int32(key.count), message, message.count, &out, nil)
        precondition(done != nil, "libcrypto has no HMAC-SHA256")
        return out
    }
}

package enum HKDF {
    /// `count` bytes (1–8160) derived from a key by HKDF-SHA256 (RFC 5869), extract and expand.
    package static func sha256(key: [UInt8], salt: [UInt8] = [], info: [UInt8], count: Int) -> [UInt8] {
        precondition((1...255 * 32).contains(count), "HKDF-SHA256 gives 1 to 8160 bytes")
        var out = [UInt8](repeating: 0, count: count)
        let done = thecloud_hkdf_sha256(key, key.count, salt, salt.count, info, info.count, &out, count)
        precondition(done == 1, "libcrypto has no HKDF")
        return out
    }
}

package enum Random {
    /// `count` bytes fit for keys, from libcrypto's seeded generator.
    package static func bytes(_ count: Int) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: count)
        precondition(RAND_bytes(&out, Int32(count)) == 1, "no randomness to be had")
        return out
    }
}

/// Whether both are the same bytes; the time tells only whether the lengths differ.
package func constantTimeEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    left.count == right.count && CRYPTO_memcmp(left, right, left.count) == 0
}
