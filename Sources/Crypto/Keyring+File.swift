// The secret's file: 32 raw bytes that only its owner can read; the one before it lies beside it as `<file>.previous`.
// Making it is atomic and never replaces a present one: of several processes that start at once, all end up with the same secret.
import Glibc

extension Keyring {
    /// Reads the secret and, if there is one, the previous secret.
    /// - Throws: `secretMissing`, `secretUnreadable`, `secretExposed` or `secretMalformed`, naming the file that is wrong.
    package static func load(file: String) throws(CryptoError) -> Keyring {
        let secret = try read(file)
        do {
            return Keyring(secret: secret, previous: try read(file + ".previous"))
        } catch .secretMissing {
            return Keyring(secret: secret, previous: nil)
        }
    }

    /// Makes the file with a fresh secret and mode 0600, unless it exists.
    /// - Returns: whether this call made it.
    /// - Throws: `secretUnreadable` when the folder can't be written.
    @discardableResult
    package static func create(file: String) throws(CryptoError) -> Bool {
        guard access(file, F_OK) != 0 else { return false }
        let draft = "\(file).\(Base64.url.encode(Random.bytes(9)))"
        let descriptor = Glibc.open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw failure(file) }
        defer { unlink(draft) }
        let secret = Random.bytes(secretCount)
        let written = write(descriptor, secret, secret.count) == secret.count && fsync(descriptor) == 0
        guard close(descriptor) == 0, written else { throw failure(file) }
        guard link(draft, file) == 0 else {
            if errno == EEXIST { return false }
            throw failure(file)
        }
        return true
    }

    private static func read(_ file: String) throws(CryptoError) -> [UInt8] {
        let descriptor = Glibc.open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw errno == ENOENT ? .secretMissing(file: file) : failure(file) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure(file) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw .secretUnreadable(file: file, reason: "not a regular file") }
        guard status.st_mode & 0o177 == 0 else { throw .secretExposed(file: file, mode: status.st_mode & 0o777) }
        guard status.st_size == secretCount else { throw .secretMalformed(file: file, count: Int(status.st_size)) }
        var secret = [UInt8](repeating: 0, count: secretCount)
        let count = Glibc.read(descriptor, &secret, secretCount)
        guard count == secretCount else { throw count < 0 ? failure(file) : .secretMalformed(file: file, count: count) }
        return secret
    }

    private static func failure(_ file: String) -> CryptoError { .secretUnreadable(file: file, reason: String(cString: strerror(errno))) }
}
