// TLS against `openssl s_server` with a certificate of the test's own.
import Foundation
import Outbound
import TestSupport
import Testing

struct TLSTests {
    private func openssl(_ arguments: String...) throws -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
        process.arguments = arguments
        process.standardOutput = Pipe()
        process.standardError = FileHandle.nullDevice
        try process.run()
        return process
    }

    @Test func onlyTrustedServers() throws {
        let folder = Folder()
        let (key, certificate) = (folder.path + "/key.pem", folder.path + "/cert.pem")
        try openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test", "-addext",
            "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate
        ).waitUntilExit()
        let server = try openssl("s_server", "-accept", "127.0.0.1:0", "-www", "-key", key, "-cert", certificate)
        // The child inherits a test thread's signal mask, in which SIGTERM may be blocked.
        defer {
            kill(server.processIdentifier, SIGKILL)
            server.waitUntilExit()
        }
        let port = try #require(announcedPort(server))
        let request = OutboundRequest(url: "https://127.0.0.1:\(port)/")
        let error = #expect(throws: OutboundError.self) { try HTTPClient().send(request) }
        guard case .untrusted = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(try HTTPClient(caFile: certificate).send(request).status == 200)
        let other = OutboundRequest(url: "https://localhost:\(port)/")
        #expect(throws: OutboundError.self) { try HTTPClient(caFile: certificate).send(other) }
    }

    /// `ACCEPT 127.0.0.1:40123` is the server's first line.
    private func announcedPort(_ server: Process) -> Int? {
        guard let pipe = server.standardOutput as? Pipe else { return nil }
        var text = ""
        while true {
            let bytes = pipe.fileHandleForReading.availableData
            guard !bytes.isEmpty else { return nil }
            text += String(decoding: bytes, as: UTF8.self)
            for line in text.split(separator: "\n").dropLast(text.hasSuffix("\n") ? 0 : 1) where line.hasPrefix("ACCEPT") {
                return line.split(separator: ":").last.flatMap { Int($0) }
            }
        }
    }
}
