// The primitives against published vectors.
import Testing

@testable import Crypto

struct VectorTests {
    @Test func sha256() {
        #expect(SHA256.digest("abc") == hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"))
        #expect(SHA256.digest("") == hex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"))
    }

    /// RFC 4231 §4, cases 1, 2 and 6.
    @Test func hmac() {
        #expect(
            HMAC.sha256(key: [UInt8](repeating: 0x0B, count: 20), Array("Hi There".utf8))
                == hex("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"))
        #expect(
            HMAC.sha256(key: Array("Jefe".utf8), Array("what do ya want for nothing?".utf8))
                == hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"))
        #expect(
            HMAC.sha256(
                key: [UInt8](repeating: 0xAA, count: 131), Array("Test Using Larger Than Block-Size Key - Hash Key First".utf8))
                == hex("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"))
    }

    @Test func hmacOfNothing() {
        #expect(HMAC.sha256(key: [], []) == hex("b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad"))
    }

    /// RFC 5869 A.1 and A.3 (empty salt and info).
    @Test func hkdf() {
        let key = [UInt8](repeating: 0x0B, count: 22)
        #expect(
            HKDF.sha256(key: key, salt: Array(0...12), info: Array(0xF0...0xF9), count: 42)
                == hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"))
        #expect(
            HKDF.sha256(key: key, info: [], count: 42)
                == hex("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"))
    }

    /// RFC 7914 §12; the first vector's cost (2^4, 1, 1) is also the lowest that we take.
    @Test func scrypt() throws {
        #expect(
            try Password.scrypt([], salt: [], cost: #require(ScryptCost(logN: 4, r: 1, p: 1)), count: 64)
                == hex(
                    """
                    77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442
                    fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906
                    """))
        #expect(
            try Password.scrypt(
                Array("password".utf8), salt: Array("NaCl".utf8), cost: #require(ScryptCost(logN: 10, r: 8, p: 16)), count: 64)
                == hex(
                    """
                    fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162
                    2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640
                    """))
        #expect(
            try Password.scrypt(
                Array("pleaseletmein".utf8), salt: Array("SodiumChloride".utf8), cost: #require(ScryptCost(logN: 14, r: 8, p: 1)), count: 64
            )
                == hex(
                    """
                    7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2
                    d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887
                    """))
    }

    @Test func crc32() {
        #expect(CRC32.of("123456789".utf8) == 0xCBF4_3926)
        #expect(CRC32.of([]) == 0)
    }

    /// RFC 4648 §10, without the padding.
    @Test(arguments: [
        ("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("fooba", "Zm9vYmE"), ("foobar", "Zm9vYmFy"),
    ])
    func base64(plain: String, encoded: String) {
        #expect(Base64.standard.encode(Array(plain.utf8)) == encoded)
        #expect(Base64.url.decode(encoded) == Array(plain.utf8))
    }

    @Test func base64Alphabets() {
        #expect(Base64.url.encode([0xFB, 0xFF, 0xFE]) == "-__-")
        #expect(Base64.standard.encode([0xFB, 0xFF, 0xFE]) == "+//+")
        #expect(Base64.url.decode("+//+") == nil)
    }

    @Test(arguments: ["Zg==", "Zh", "Z", "Zm9vY", "Zm 9v", "Zm9v\n", "é"])
    func base64IsStrict(text: String) {
        #expect(Base64.url.decode(text) == nil)
    }

    @Test func equality() {
        #expect(constantTimeEqual([], []))
        #expect(constantTimeEqual([1, 2], [1, 2]))
        #expect(!constantTimeEqual([1, 2], [1, 3]))
        #expect(!constantTimeEqual([1, 2], [1]))
    }
}
