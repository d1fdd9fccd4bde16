// The production dispatcher on a real connection: what a worker's thread is, without nginx and FastCGI. One for each test.
// Its clock never tells the same millisecond twice, so ids made through it are in the order of their making.
package import API
import Chat
import Cloud
package import Docker
import Fleet
import Foundation
package import HTTP
import Identity
package import Postgres
import Sessions

package final class TestCloud {
    package let database: TestDatabase
    package let config: Config
    package let connection: Connection
    package let dispatcher: Dispatcher
    /// Seconds that the clock of this cloud is ahead of the machine's.
    package var advance = 0
    private let engine: Engine?
    /// Where it has an engine.
    package let sandboxes: SandboxHome?
    private var lastMillisecond = 0
    private var requests = 0

    /// - Parameters:
    ///   - settings: beside or instead of the usual ones of tests (cheap passwords).
    ///   - url: what the worker connects to instead of the database.
    ///   - engine: as the long pool has one; the others have none.
    ///   - sandboxes: of another cloud, as the threads of a process share them.
    package init(
        _ settings: [String: String] = [:], database: TestDatabase? = nil, url: String? = nil, engine: Engine? = nil,
        sandboxes: SandboxHome? = nil
    ) throws {
        self.engine = engine
        let database = try database ?? .shared()
        self.database = database
        config = try Self.config(settings, url: url ?? database.api)
        self.sandboxes = sandboxes ?? engine.map { [config] in SandboxHome(config, host: $0.host) }
        connection = Connection(url: config.databaseURL)
        dispatcher = try Dispatcher(
            CloudSurface.routes + SessionsSurface.routes + FleetSurface.routes + ChatSurface.routes, resolvers: Credential.resolvers)
    }

    package static func config(_ settings: [String: String] = [:], url: String) throws -> Config {
        let usual = [
            "THECLOUD_DATABASE_URL": url, "THECLOUD_STATE": scratch, "THECLOUD_SECRET_FILE": scratch + "/secret",
            "THECLOUD_SCRYPT": "ln=4,r=8,p=1", "THECLOUD_PUBLIC_URL": "https://cloud.example",
        ]
        return try Config(usual.merging(settings) { $1 })
    }

    /// A folder of this run; removed at its end.
    package static let scratch: String = {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
            "thecloud-tests-\(ProcessInfo.processInfo.processIdentifier)")
        try? FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        atexit { try? FileManager.default.removeItem(atPath: TestCloud.scratch) }
        return folder.path
    }()

    /// One request, with all that nginx would have added.
    /// - Parameters:
    ///   - target: path and query, both as they go over the wire; nothing is decoded.
    ///   - key: sent as `X-API-Key`; a client's and a user's of Chat as a bearer token, which is the only way for them.
    ///   - json: the body; `text` and `body` are the ways to send what is no JSON.
    ///   - type: the body's media type.
    ///   - socket: the WebSocket about which nginx asks.
    ///   - subject: anything else about which nginx asks.
    package func call(
        _ method: HTTP.Method, _ target: String, key: String? = nil, json: JSON? = nil, text: String? = nil, body: Body? = nil,
        type: String? = "application/json", headers: KeyValuePairs<String, String> = [:], from address: String = "192.0.2.1",
        socket: String? = nil, asking subject: String? = nil
    ) -> Answer {
        var fields = Headers(headers)
        if let key, key.hasPrefix(MasterKey.prefix) || key.hasPrefix(ScopedKey.prefix) {
            fields.append("authorization", "Bearer \(key)")
        } else if let key {
            fields.append("x-api-key", key)
        }
        let bytes = json?.bytes ?? text.map { Array($0.utf8) }
        if bytes != nil || body != nil, let type { fields.append("content-type", type) }
        let halves = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        requests += 1
        let request = Request(
            method: method, path: String(halves[0]), query: halves.count > 1 ? String(halves[1]) : "", headers: fields,
            body: body ?? .bytes(bytes ?? []), remoteAddress: address, requestID: "test-\(requests)", internalSubject: socket ?? subject)
        var equipment = Equipment(config: config, connection: connection, engine: engine, sandboxes: sandboxes)
        equipment.now = { [unowned self] in tick() }
        var cause: String?
        let response = dispatcher.respond(to: request, with: equipment) { event in
            if case .answered(_, _, _, _, _, let why) = event { cause = why }
        }
        return Answer(response: response, requestID: request.requestID, cause: cause)
    }

    /// An engine that never answers.
    package static func deadEngine() -> Engine? { Engine(host: "unix:///nonexistent/docker.sock") }

    private func tick() -> Timestamp {
        lastMillisecond = max(lastMillisecond + 1, Timestamp.now().microseconds / 1000 + advance * 1000)
        return Timestamp(microseconds: lastMillisecond * 1000)
    }

    /// Runs a statement as the administrator of the database: to look at rows, and to let time pass for them.
    @discardableResult
    package func admin(_ sql: SQL) throws -> Rows { try administrator.begin().commit(sql) }

    private lazy var administrator = database.administrator()
}
