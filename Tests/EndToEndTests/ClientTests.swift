// The client programs of the documentation, as they are printed there, against the whole stack. The classes in Clients/ are never edited:
// beside each stands a driver that uses it as its documentation says and checks what comes back.
import Foundation
import Testing

@Suite struct ClientTests {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Clients")

    @Test(arguments: ["stroppy.mjs", "stroppy.py", "tokens.py", "chat.mjs", "chat.py"])
    func `a documented client does what its documentation says`(driver: String) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        // Debian's Python has the libraries; another one may come first on the path.
        process.arguments = [driver.hasSuffix(".py") ? "/usr/bin/python3" : "node", driver]
        process.currentDirectoryURL = Self.folder
        process.environment = ProcessInfo.processInfo.environment.merging([
            "THECLOUD_TEST_URL": Stack.url, "CLIENT_ADDRESS": Visitor().address, "PYTHONDONTWRITEBYTECODE": "1",
        ]) { $1 }
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(process.terminationStatus == 0, "\(text)")
    }
}
