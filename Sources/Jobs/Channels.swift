// The channels of GET /ws (nchan, nginx/live.conf), through their internal server: what is published reaches the sockets that subscribe, deleting closes them.
import FoundationEssentials
import HTTP
import Outbound

struct Channels {
    private let client = HTTPClient()
    private let socket: String

    /// - Parameter runFolder: of the stack; `THECLOUD_RUN`.
    init(runFolder: String) { socket = runFolder + "/publish/channels.sock" }

    /// What became of a message.
    struct Receipt {
        /// How many sockets got it at once.
        let subscribers: Int
        /// The channel's own name for it, to resume behind.
        let messageID: String?
    }

    /// The channel of one socket.
    static func of(socket id: String) -> String { "s/\(id)" }

    /// The channel of all that an owner's resources of the view's kinds do.
    static func of(owner: ID, view: String) -> String { "u/\(owner)/\(view)" }

    /// - Throws: `OutboundError` when nginx does not take it.
    func publish(_ message: JSON, to channel: String) throws -> Receipt {
        try ask("POST", "channels/\(channel)", message.bytes, accepting: [200, 201, 202]) ?? Receipt(subscribers: 0, messageID: nil)
    }

    /// Publishes to a channel that remembers the newest message only, so that it never pushes others out.
    func publishLatest(_ message: JSON, to channel: String) throws {
        _ = try ask("POST", "latest/\(channel)", message.bytes, accepting: [200, 201, 202])
    }

    /// Ends a channel and closes its sockets.
    /// - Returns: how many there were.
    func close(_ channel: String) throws -> Int { try ask("DELETE", "channels/\(channel)", nil, accepting: [200])?.subscribers ?? 0 }

    /// How many sockets a channel has now.
    func subscribers(of channel: String) throws -> Int { try ask("GET", "channels/\(channel)", nil, accepting: [200])?.subscribers ?? 0 }

    /// Whether the channels have what was published before: not where nchan's process has just begun.
    var areFilled: Bool { get throws { try ask("GET", "filled", nil, accepting: [200]) != nil } }

    /// From now on, and for as long as nchan's process lives, sockets may open.
    func setFilled() throws { _ = try ask("POST", "filled", Array("{}".utf8), accepting: [200, 201, 202]) }

    /// - Returns: `nil` where there is no such channel.
    private func ask(_ method: String, _ path: String, _ body: [UInt8]?, accepting statuses: Set<Int>) throws -> Receipt? {
        let answer = try client.send(
            OutboundRequest(
                method: method, url: "http://nginx/\(path)",
                headers: [("Accept", "text/json"), ("Content-Type", "application/json")],
                body: body, timeout: 5000, unixSocket: socket))
        guard answer.status != 404 else { return nil }
        guard statuses.contains(answer.status), let told = try? JSON(parsing: answer.body) else {
            throw OutboundError.broken("nginx answers \(answer.status) to \(method) of a channel")
        }
        return Receipt(subscribers: told["subscribers"]?.int ?? 0, messageID: told["last_message_id"]?.string)
    }
}
