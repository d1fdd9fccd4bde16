// What can go wrong with secrets. Texts name files and causes, never key material or plaintext.

package enum CryptoError: Error, Equatable, Sendable {
    /// scrypt could not run; for a legal cost that means there was not enough memory.
    case scryptFailed
    /// A sealed value is damaged, was sealed for another context, or by a secret that is not on the keyring.
    case unsealable
    /// The secret file does not exist.
    case secretMissing(file: String)
    /// The secret file can't be read or made; the reason is the system's.
    case secretUnreadable(file: String, reason: String)
    /// The secret file is readable by others; its mode must be 0600 or stricter.
    case secretExposed(file: String, mode: UInt32)
    /// The secret does not have 32 bytes.
    case secretMalformed(file: String, count: Int)
}

extension CryptoError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .scryptFailed: "scrypt failed: not enough memory for its cost"
        case .unsealable: "a sealed value can't be opened: damaged, of another context, or sealed under an unknown secret"
        case .secretMissing(let file): "\(file) does not exist"
        case .secretUnreadable(let file, let reason): "\(file) can't be used: \(reason)"
        case .secretExposed(let file, let mode): "\(file) has mode 0\(String(mode, radix: 8)); it must be 0600 or stricter"
        case .secretMalformed(let file, let count): "\(file) has \(count) bytes; a secret has exactly 32"
        }
    }
}
