// What strangers may send as a zip file, and what they may not.
import Archive
import TestSupport
import Testing

struct ZipTests {
    private func refusal(_ zip: ZipMaker, _ limits: Zip.Limits = .init()) -> ZipError? {
        do throws(ZipError) {
            _ = try Zip.files(zip.bytes, limits: limits)
            return nil
        } catch {
            return error
        }
    }

    @Test func filesComeWithTheirBytes() throws {
        var zip = ZipMaker(["index.js": "exports.handler = () => 1;", "lib/a/b.txt": "é"])
        zip.add("bin/") { $0.mode = 0o040755 }
        zip.add("bin/run", "#!/bin/sh") { $0.mode = 0o100755 }
        zip.addZeros("zeros", count: 100_000)
        zip.add("empty")
        var found: [(Zip.File, [UInt8])] = []
        try Zip.read(zip.bytes, onFile: { found.append(($0, [])) }, onBytes: { found[found.count - 1].1 += Array($0) })
        #expect(found.map(\.0.path) == ["index.js", "lib/a/b.txt", "bin/run", "zeros", "empty"])
        #expect(found.map(\.0.isExecutable) == [false, false, true, false, false])
        #expect(String(decoding: found[0].1, as: UTF8.self) == "exports.handler = () => 1;")
        #expect(String(decoding: found[1].1, as: UTF8.self) == "é")
        #expect(found[3].1 == [UInt8](repeating: 0, count: 100_000))
        #expect(found[4].1 == [])
    }

    @Test func anEmptyArchiveIsAsGoodAsNone() {
        #expect(refusal(ZipMaker()) == .notAZip)
    }

    /// Some programs of Windows write them where slashes belong; then they are slashes, with all that follows.
    @Test func backslashes() throws {
        #expect(try Zip.files(ZipMaker(["lib\\a.js": "1"]).bytes).map(\.path) == ["lib/a.js"])
        #expect(refusal(ZipMaker(["..\\x": "1"])) == .badPath("../x"))
        #expect(refusal(ZipMaker(["\\x": "1"])) == .badPath("/x"))
        #expect(refusal(ZipMaker(["lib/a\\..\\..\\..\\x": "1"])) == .badPath("lib/a\\..\\..\\..\\x"))
    }

    @Test(arguments: [
        [], [0x50], Array("not a zip".utf8), [0x50, 0x4B, 3, 4], [UInt8](repeating: 0, count: 100_000), [0x1F, 0x8B, 8, 0, 0, 0],
    ])
    func whatIsNoZip(bytes: [UInt8]) {
        #expect(throws: ZipError.notAZip) { try Zip.files(bytes) }
    }

    @Test func halfAZipIsNone() {
        let bytes = ZipMaker(["index.js": String(repeating: "x", count: 1000)]).bytes
        #expect(throws: ZipError.self) { try Zip.files(Array(bytes.prefix(500))) }
        #expect(throws: ZipError.self) { try Zip.files(Array(bytes.dropFirst(500))) }
    }

    @Test(arguments: [
        "/etc/passwd", "../x", "a/../../x", "a/..", "..", ".", "./x", "a/./x", "a//x", "//x", "a\nb", "a\u{7F}",
        String(repeating: "a", count: 256), String(repeating: "a/", count: 64) + "a", String(repeating: "long/", count: 110) + "a",
    ])
    func pathsThatCouldLeadElsewhere(path: String) {
        var zip = ZipMaker(["index.js": "1"])
        zip.add(path, "evil")
        #expect(refusal(zip) == .badPath(path))
    }

    @Test(arguments: [UInt32(0o120777), 0o020666, 0o060666, 0o140755])
    func linksAndDevices(mode: UInt32) {
        var zip = ZipMaker(["index.js": "1"])
        zip.add("evil", "/etc/passwd") { $0.mode = mode }
        #expect(refusal(zip) == .notAFile("evil"))
    }

    @Test(arguments: [("index.js", "index.js"), ("a", "a/b"), ("a/b", "a"), ("a/b/c", "a/b")])
    func twoForOnePlace(first: String, second: String) {
        #expect(refusal(ZipMaker([first: "1", second: "2"])) == .duplicate(second))
    }

    @Test func aFolderMayStandBehindItsFiles() {
        var zip = ZipMaker(["a/b": "1"])
        zip.add("a/") { $0.mode = 0o040755 }
        #expect(refusal(zip) == nil)
    }

    @Test func encryptedOnes() {
        var zip = ZipMaker(["index.js": "1"])
        zip.add("secret", "0123456789abcdef") { $0.flags = 1 }
        #expect(refusal(zip) == .encrypted)
    }

    @Test func tooManyEntries() {
        var zip = ZipMaker()
        for number in 0..<101 { zip.add("f\(number)") }
        #expect(refusal(zip, .init(entries: 101)) == nil)
        #expect(refusal(zip, .init(entries: 100)) == .tooManyEntries(limit: 100))
    }

    @Test func tooMuch() {
        var zip = ZipMaker()
        zip.addZeros("a", count: 6000)
        zip.addZeros("b", count: 6000)
        #expect(refusal(zip, .init(unpacked: 12_000)) == nil)
        #expect(refusal(zip, .init(unpacked: 11_999)) == .tooLarge(limit: 11_999))
    }

    /// 8 MiB from 52 KiB: over the ratio, whatever the headers say.
    @Test(arguments: [8 << 20, 0, 1000])
    func aBomb(claimed: Int) {
        var zip = ZipMaker(["index.js": "1"])
        zip.addZeros("zeros", count: 8 << 20)
        zip.entries[1].size = claimed
        #expect(refusal(zip) != nil)
        if claimed == 8 << 20 { #expect(refusal(zip) == .tooLarge(limit: zip.bytes.count * 100)) }
    }

    @Test func aWrongChecksum() {
        var zip = ZipMaker(["index.js": "1"])
        zip.entries[0].checksum ^= 1
        if case .broken? = refusal(zip) {} else { Issue.record("\(String(describing: refusal(zip)))") }
    }
}
