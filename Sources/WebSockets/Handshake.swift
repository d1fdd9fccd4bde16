// The opening handshake (RFC 6455 §4.2), as nginx passes it on: the head of one HTTP/1.1 request, and what is answered to it.
import Crypto
import HTTP

struct Handshake {
    /// nginx takes headers of up to 16 KiB.
    static let limit = 20 << 10

    /// The request as handlers see it, without a socket's id. nginx says in headers of its own what the request's other parts are.
    let request: Request
    private let key: String

    /// - Parameter head: everything up to and with the empty line.
    /// - Returns: `nil` for what is no upgrade to WebSocket, version 13.
    init?(_ head: [UInt8]) {
        let lines = String(decoding: head, as: UTF8.self).split(separator: "\r\n", omittingEmptySubsequences: false)
        let words = lines[0].split(separator: " ")
        guard words.count == 3, words[0] == "GET", words[2] == "HTTP/1.1" else { return nil }
        var headers = Headers()
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let value = line[line.index(after: colon)...].drop { $0 == " " }
            headers.append(line[..<colon].lowercased(), String(value))
        }
        guard headers["upgrade"]?.lowercased() == "websocket", headers["sec-websocket-version"] == "13",
            let key = headers["sec-websocket-key"], key.utf8.count == 24
        else { return nil }
        self.key = key
        let target = words[1].split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        request = Request(
            method: .post, path: String(target[0]), query: target.count > 1 ? String(target[1]) : "", headers: headers,
            remoteAddress: headers["x-client"] ?? "", requestID: headers["x-request-id"] ?? "")
    }

    /// What accepts the upgrade.
    var acceptance: [UInt8] {
        let digest = SHA1.digest(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
        return Array(
            """
            HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Accept: \(Base64.standard.padded(digest))\r\n\r\n
            """.utf8)
    }

    /// What refuses it.
    static func refusal(_ response: Response) -> [UInt8] {
        var text = "HTTP/1.1 \(response.status) Refused\r\nConnection: close\r\nContent-Length: \(response.body.count)\r\n"
        for header in response.headers { text += "\(header.name): \(header.value)\r\n" }
        return Array((text + "\r\n").utf8) + response.body
    }
}
