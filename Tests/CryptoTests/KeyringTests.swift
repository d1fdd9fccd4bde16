// Sealing, the previous secret, and the secret's file.
import Crypto
import Glibc
import Testing

struct KeyringTests {
    private let old = [UInt8](repeating: 1, count: 32)
    private let new = [UInt8](repeating: 2, count: 32)
    private let secret = Array("whsec_abc".utf8)

    @Test func sealAndOpen() throws {
        let keyring = Keyring(secret: new, previous: nil)
        let sealed = keyring.seal(secret, context: "webhook/1")
        #expect(sealed.count == secret.count + Seal.overhead)
        #expect(try keyring.open(sealed, context: "webhook/1") == secret)
        #expect(keyring.seal(secret, context: "webhook/1") != sealed)
        #expect(try keyring.open(keyring.seal([], context: ""), context: "") == [])
    }

    @Test func anyChangedByteIsRefused() throws {
        let keyring = Keyring(secret: new, previous: old)
        let sealed = keyring.seal(secret, context: "c")
        for index in sealed.indices {
            var changed = sealed
            changed[index] ^= 1
            #expect(throws: CryptoError.unsealable) { try keyring.open(changed, context: "c") }
        }
        for count in 0..<sealed.count {
            #expect(throws: CryptoError.unsealable) { try keyring.open(Array(sealed.prefix(count)), context: "c") }
        }
        #expect(throws: CryptoError.unsealable) { try keyring.open(sealed + [0], context: "c") }
    }

    @Test func anotherContextIsRefused() {
        let keyring = Keyring(secret: new, previous: nil)
        #expect(throws: CryptoError.unsealable) { try keyring.open(keyring.seal(secret, context: "webhook/1"), context: "webhook/2") }
    }

    @Test func previousSecret() throws {
        let before = Keyring(secret: old, previous: nil)
        let after = Keyring(secret: new, previous: old)
        let sealed = before.seal(secret, context: "c")
        #expect(try after.open(sealed, context: "c") == secret)
        #expect(after.needsReseal(sealed))
        #expect(!after.needsReseal(after.seal(secret, context: "c")))
        #expect(throws: CryptoError.unsealable) { try Keyring(secret: new, previous: nil).open(sealed, context: "c") }

        let mac = before.jwt.sign(secret)
        #expect(after.jwt.verify(mac, of: secret))
        #expect(after.jwt.verify(after.jwt.sign(secret), of: secret))
        #expect(after.jwt.sign(secret) != mac)
        #expect(!before.jwt.verify(after.jwt.sign(secret), of: secret))
    }

    @Test func labelsGiveDifferentKeys() {
        let keyring = Keyring(secret: new, previous: nil)
        let macs = [keyring.jwt, keyring.idempotency, keyring.token].map { $0.sign(secret) }
        #expect(Set(macs).count == 3)
        #expect(!keyring.jwt.verify(macs[1], of: secret))
    }
}

/// One folder per test, gone afterwards.
final class KeyringFileTests {
    private let folder: String
    private var file: String { folder + "/secret" }

    init() {
        var template = Array("/tmp/keyring-XXXXXX".utf8CString)
        folder = String(cString: mkdtemp(&template))
    }

    deinit {
        for name in ["secret", "secret.previous"] { unlink("\(folder)/\(name)") }
        rmdir(folder)
    }

    @Test func createdOnceAndLoaded() throws {
        #expect(throws: CryptoError.secretMissing(file: file)) { try Keyring.load(file: file) }
        #expect(try Keyring.create(file: file))
        #expect(try !Keyring.create(file: file))
        var status = stat()
        #expect(stat(file, &status) == 0 && status.st_mode & 0o777 == 0o600 && status.st_size == 32)
        let sealed = try Keyring.load(file: file).seal([7], context: "c")
        #expect(try Keyring.load(file: file).open(sealed, context: "c") == [7])
        // Nothing but the secret is left in the folder.
        #expect(unlink(file) == 0 && rmdir(folder) == 0)
    }

    @Test func rotation() throws {
        try Keyring.create(file: file)
        let sealed = try Keyring.load(file: file).seal([7], context: "c")
        #expect(rename(file, file + ".previous") == 0)
        try Keyring.create(file: file)
        #expect(try Keyring.load(file: file).open(sealed, context: "c") == [7])
        chmod(file + ".previous", 0o644)
        #expect(throws: CryptoError.secretExposed(file: file + ".previous", mode: 0o644)) { try Keyring.load(file: file) }
    }

    @Test func badFilesAreNamed() throws {
        #expect(throws: CryptoError.secretUnreadable(file: folder, reason: "not a regular file")) { try Keyring.load(file: folder) }
        #expect(throws: CryptoError.self) { try Keyring.create(file: folder + "/none/secret") }
        try Keyring.create(file: file)
        chmod(file, 0o640)
        #expect(throws: CryptoError.secretExposed(file: file, mode: 0o640)) { try Keyring.load(file: file) }
        chmod(file, 0o400)
        _ = try Keyring.load(file: file)
        chmod(file, 0o600)
        truncate(file, 31)
        #expect(throws: CryptoError.secretMalformed(file: file, count: 31)) { try Keyring.load(file: file) }
        #expect(CryptoError.secretMalformed(file: "f", count: 31).description == "f has 31 bytes; a secret has exactly 32")
    }

    @Test func manyAtOnceAgree() async throws {
        let file = file
        let made = await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<8 { group.addTask { (try? Keyring.create(file: file)) ?? false } }
            return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(made == 1)
    }
}
