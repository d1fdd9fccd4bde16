// The vector that the Standard Webhooks libraries share, and a receiver of our own that is written from the specification's text
// with Foundation and openssl instead of the code under test.
import Crypto
import Foundation
import Testing

struct WebhookSignatureTests {
    private static let text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

    @Test func theSharedVector() throws {
        let secret = try #require(WebhookSecret(Self.text))
        let headers = secret.headers(
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp: 1_614_265_330, body: Array(#"{"test": 2432232314}"#.utf8))
        #expect(headers.map(\.name) == ["webhook-id", "webhook-timestamp", "webhook-signature"])
        #expect(
            headers.map(\.value) == [
                "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ])
        #expect(secret.text == Self.text)
    }

    @Test func newSecretsHave32Bytes() throws {
        let (one, other) = (WebhookSecret.make(), WebhookSecret.make())
        #expect(one != other && one.bytes.count == 32)
        #expect(one.text.wholeMatch(of: /whsec_[A-Za-z0-9+\/]{43}=/) != nil)
        #expect(WebhookSecret(one.text) == one)
        #expect(Data(base64Encoded: String(one.text.dropFirst(6))) == Data(one.bytes))
    }

    @Test(arguments: [
        "", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw=",
        "whsec_short", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2La-_Sw",
    ])
    func otherTextsAreNoSecrets(text: String) { #expect(WebhookSecret(text) == nil) }

    /// What a receiver does: a signature fits one id, one time, one body and one secret.
    @Test func anIndependentReceiverAgrees() throws {
        let secret = WebhookSecret.make()
        for body in ["", "{}", #"{"type":"run.completed","data":{"name":"zoë"}}"#, String(repeating: "x", count: 70_000)] {
            let headers = secret.headers(id: "0190", timestamp: 1_700_000_000, body: Array(body.utf8))
            let signature = headers[2].value
            #expect(try openSSL(secret.text, "0190.1700000000.\(body)") == signature)
            #expect(try openSSL(secret.text, "0190.1700000001.\(body)") != signature)
            #expect(try openSSL(secret.text, "0190.1700000000.\(body) ") != signature)
            #expect(try openSSL(WebhookSecret.make().text, "0190.1700000000.\(body)") != signature)
        }
    }

    /// `v1,` and the HMAC-SHA256 under the secret's bytes, by the openssl program.
    private func openSSL(_ secret: String, _ signed: String) throws -> String {
        let key = try #require(Data(base64Encoded: String(secret.dropFirst("whsec_".count))))
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [
            "openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", "hexkey:" + key.map { String(format: "%02x", $0) }.joined(), "-binary",
        ]
        let (input, output) = (Pipe(), Pipe())
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        try input.fileHandleForWriting.write(contentsOf: Data(signed.utf8))
        try input.fileHandleForWriting.close()
        let mac = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return "v1," + mac.base64EncodedString()
    }
}
