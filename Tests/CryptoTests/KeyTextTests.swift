// Key text: shape, uniqueness, and that every one-letter typo is found.
import Crypto
import Testing

struct KeyTextTests {
    @Test func shape() {
        let key = KeyText.make(prefix: "thecloud_")
        #expect(key.hasPrefix("thecloud_"))
        #expect(key.count == 9 + 33)
        #expect(key.dropFirst(9).allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber) })
        #expect(KeyText.isWellFormed(key, prefix: "thecloud_"))
        #expect(KeyText.displayPrefix(key) == String(key.prefix(13)))
        #expect(KeyText.digest(key) == SHA256.digest(key))
    }

    @Test func manyAreDifferentAndUseAllLetters() {
        let keys = (0..<500).map { _ in KeyText.make(prefix: "") }
        #expect(Set(keys).count == 500)
        #expect(Set(keys.joined()).count == 62)
        #expect(keys.allSatisfy { KeyText.isWellFormed($0, prefix: "") })
    }

    @Test func everyTypoIsFound() {
        let key = Array(KeyText.make(prefix: "ck_live_").utf8)
        for index in key.indices {
            for letter in "09AZaz_".utf8 where letter != key[index] {
                var typo = key
                typo[index] = letter
                #expect(!KeyText.isWellFormed(String(decoding: typo, as: UTF8.self), prefix: "ck_live_"))
            }
        }
    }

    @Test func otherTextIsRefused() {
        let key = KeyText.make(prefix: "a_")
        #expect(!KeyText.isWellFormed(key, prefix: "b_"))
        #expect(!KeyText.isWellFormed(key, prefix: ""))
        #expect(!KeyText.isWellFormed(String(key.dropLast()), prefix: "a_"))
        #expect(!KeyText.isWellFormed(key + "0", prefix: "a_"))
        #expect(!KeyText.isWellFormed("", prefix: "a_"))
        #expect(!KeyText.isWellFormed(key.replacing(key.suffix(1), with: "é"), prefix: "a_"))
        #expect(KeyText.displayPrefix("short") == "")
    }
}
