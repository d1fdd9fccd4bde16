// Password hashes: what they look like, what they verify, what they refuse.
import Crypto
import Testing

struct PasswordTests {
    private let cheap = ScryptCost(logN: 4, r: 8, p: 1)!

    @Test func roundTrip() throws {
        let phc = try Password.hash("correct horse", cost: cheap)
        #expect(phc.hasPrefix("$scrypt$ln=4,r=8,p=1$"))
        #expect(try Password.verify("correct horse", against: phc))
        #expect(try !Password.verify("correct horsf", against: phc))
        #expect(try !Password.verify("", against: phc))
        #expect(try Password.hash("correct horse", cost: cheap) != phc)
    }

    @Test func emptyAndUnicodePasswords() throws {
        #expect(try Password.verify("", against: Password.hash("", cost: cheap)))
        #expect(try Password.verify("pässwörd 🔑", against: Password.hash("pässwörd 🔑", cost: cheap)))
    }

    @Test func standardCost() throws {
        let phc = try Password.hash("correct horse")
        #expect(phc.hasPrefix("$scrypt$ln=17,r=8,p=1$"))
        #expect(try Password.verify("correct horse", against: phc))
        #expect(!Password.needsRehash(phc))
    }

    @Test func rehash() throws {
        let phc = try Password.hash("x", cost: cheap)
        #expect(!Password.needsRehash(phc, cost: cheap))
        #expect(Password.needsRehash(phc, cost: try #require(ScryptCost(logN: 5, r: 8, p: 1))))
        #expect(Password.needsRehash("$2b$10$abcdefghijklmnopqrstuv", cost: cheap))
    }

    @Test func dummyHasTheSameShapeAndFitsNothing() throws {
        let dummy = Password.dummy(cost: cheap)
        #expect(!Password.needsRehash(dummy, cost: cheap))
        #expect(try !Password.verify("", against: dummy))
        #expect(dummy.count == (try Password.hash("", cost: cheap)).count)
    }

    @Test(arguments: [
        "", "x", "$scrypt$", "$scrypt$ln=21,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$scrypt$ln=4,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$", "$scrypt$ln=4,r=8,p=1$$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$scrypt$ln=4,r=8$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$ln=4,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ])
    func strangeStringsVerifyNothing(phc: String) throws {
        #expect(try !Password.verify("", against: phc))
        #expect(Password.needsRehash(phc, cost: cheap))
    }

    @Test func costText() throws {
        #expect(ScryptCost("ln=17,r=8,p=1") == .standard)
        #expect(try #require(ScryptCost("ln=15,r=8,p=3")).description == "ln=15,r=8,p=3")
    }

    @Test(arguments: [
        "", "ln=3,r=8,p=1", "ln=21,r=8,p=1",
        "ln=20,r=9,p=1", "ln=17,r=0,p=1", "ln=17,r=8,p=0", "ln=17,r=8,p=17", "ln=17,r=8", "ln=17,p=1,r=8",
        "ln=17,r=8,p=1,", "ln=+7,r=8,p=1", "ln=017,r=8,p=1", "N=17,r=8,p=1", "ln=17, r=8, p=1",
    ])
    func badCostText(text: String) {
        #expect(ScryptCost(text) == nil)
    }
}
