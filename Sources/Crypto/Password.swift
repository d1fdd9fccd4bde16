// Passwords as PHC strings, `$scrypt$ln=17,r=8,p=1$<salt>$<hash>`, by scrypt (RFC 7914).
// A hash at the default cost takes some 128 MiB and a good tenth of a second: callers bound how many run at once.
import CCrypto

/// The cost of one password hash: 2^logN blocks of 128·r bytes, p times.
package struct ScryptCost: Sendable, Hashable, CustomStringConvertible {
    package let logN: Int
    package let r: Int
    package let p: Int

    /// 2^17, 8, 1: OWASP's first choice.
    package static let standard = ScryptCost(logN: 17, r: 8, p: 1)!

    /// `nil` outside logN 4–20, r 1–32, p 1–16, and for more than 1 GiB in all.
    package init?(logN: Int, r: Int, p: Int) {
        guard (4...20).contains(logN), (1...32).contains(r), (1...16).contains(p), 128 * r << logN <= 1 << 30 else { return nil }
        (self.logN, self.r, self.p) = (logN, r, p)
    }

    /// Reads `ln=17,r=8,p=1`, in exactly this order and spelling; `nil` for anything else or out of range.
    package init?(_ text: some StringProtocol) {
        let parts = text.split(separator: ",", omittingEmptySubsequences: false)
        guard parts.count == 3, let logN = Self.number(parts[0], "ln="), let r = Self.number(parts[1], "r="),
            let p = Self.number(parts[2], "p=")
        else { return nil }
        self.init(logN: logN, r: r, p: p)
    }

    package var description: String { "ln=\(logN),r=\(r),p=\(p)" }

    private static func number(_ text: some StringProtocol, _ name: String) -> Int? {
        let digits = text.dropFirst(name.count)
        let isNumber = (1...2).contains(digits.utf8.count) && digits.utf8.allSatisfy { (48...57).contains($0) }
        return text.hasPrefix(name) && isNumber ? Int(digits) : nil
    }
}

package enum Password {
    private static let saltCount = 16
    private static let hashCount = 32

    /// A PHC string with a fresh 16-byte salt.
    /// - Throws: `scryptFailed` when memory is short.
    package static func hash(_ password: String, cost: ScryptCost = .standard) throws(CryptoError) -> String {
        let salt = Random.bytes(saltCount)
        return text(cost, salt, try scrypt(Array(password.utf8), salt: salt, cost: cost, count: hashCount))
    }

    /// Whether the password is the one behind the PHC string; compared in constant time, at the string's own cost.
    /// A string that is no scrypt PHC string, or beyond `ScryptCost`'s bounds, verifies nothing.
    /// - Throws: `scryptFailed` when memory is short: that must not look like a wrong password.
    package static func verify(_ password: String, against phc: String) throws(CryptoError) -> Bool {
        guard let (cost, salt, hash) = parts(of: phc) else { return false }
        return constantTimeEqual(try scrypt(Array(password.utf8), salt: salt, cost: cost, count: hash.count), hash)
    }

    /// Whether the string was made at another cost, or is not ours at all.
    package static func needsRehash(_ phc: String, cost: ScryptCost = .standard) -> Bool {
        guard let parts = parts(of: phc) else { return true }
        return parts.cost != cost || parts.salt.count != saltCount || parts.hash.count != hashCount
    }

    /// A PHC string that no password fits, and that takes as long to refuse as a true one of this cost; for unknown accounts.
    package static func dummy(cost: ScryptCost = .standard) -> String { text(cost, Random.bytes(saltCount), Random.bytes(hashCount)) }

    /// scrypt itself (RFC 7914); `count` is 1 or more bytes.
    static func scrypt(_ password: [UInt8], salt: [UInt8], cost: ScryptCost, count: Int) throws(CryptoError) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: count)
        let block = 128 * cost.r
        let memory = block * (1 << cost.logN) + block * (cost.p + 2) + 1024
        let done = password.withUnsafeBytes { bytes in
            EVP_PBE_scrypt(
                bytes.baseAddress?.assumingMemoryBound(to: CChar.self), bytes.count, salt, salt.count,
                1 << UInt64(cost.logN), UInt64(cost.r), UInt64(cost.p), UInt64(memory), &out, count)
        }
        guard done == 1 else {
            ERR_clear_error()
            throw .scryptFailed
        }
        return out
    }

    private static func text(_ cost: ScryptCost, _ salt: [UInt8], _ hash: [UInt8]) -> String {
        "$scrypt$\(cost)$\(Base64.standard.encode(salt))$\(Base64.standard.encode(hash))"
    }

    private static func parts(of phc: String) -> (cost: ScryptCost, salt: [UInt8], hash: [UInt8])? {
        let fields = phc.split(separator: "$", omittingEmptySubsequences: false)
        guard fields.count == 5, fields[0].isEmpty, fields[1] == "scrypt", let cost = ScryptCost(fields[2]),
            let salt = Base64.standard.decode(fields[3]), let hash = Base64.standard.decode(fields[4]),
            (8...64).contains(salt.count), (16...64).contains(hash.count)
        else { return nil }
        return (cost, salt, hash)
    }
}
