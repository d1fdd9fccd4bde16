// The Redis server in a cache's container: what it is configured with, and questions to it, asked by its own client inside the container
// (the image needs `redis-cli`, as the official one has). The password stands in no file there: the server knows its hash, and a question
// brings it along in the environment of one short process.
import Crypto
package import Docker
package import HTTP

package struct CacheServer {
    private let engine: Engine
    /// Name or id.
    private let container: String
    private let password: String

    package init(_ engine: Engine, container: String, password: String) {
        self.engine = engine
        self.container = container
        self.password = password
    }

    package static let port = 6379
    /// Where its volume belongs.
    package static let folder = "/data"
    package static let command = ["redis-server", "\(configurationFolder)/\(configurationFile)"]

    private static let configurationFolder = "/etc"
    private static let configurationFile = "thecloud-cache.conf"

    /// What a user of the cache may not do: everything that would reconfigure or stop the server, or make it reach out to others.
    private static let forbidden = [
        "config", "shutdown", "debug", "module", "acl", "replicaof", "slaveof", "migrate", "sync", "psync", "replconf", "failover",
        "cluster",
    ]

    /// `redis-cli` takes the missing name in our URLs for an empty one.
    private static let users = ["default", "\"\""]

    /// Gives a server that does not run what it will start with.
    package func prepare(memoryMB: Int) throws(EngineError) {
        let digest = SHA256.digest(password).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        let rights = "~* &* +@all \(Self.forbidden.map { "-\($0)" }.joined(separator: " ")) +config|get +acl|whoami"
        let users = Self.users.map { "user \($0) on #\(digest) \(rights)" }.joined(separator: "\n")
        let configuration = """
            port \(Self.port)
            bind * -::*
            dir \(Self.folder)
            maxmemory \(memoryMB)mb
            maxmemory-policy allkeys-lru
            appendonly yes
            appendfsync everysec
            save ""
            \(users)

            """
        try engine.put([ContainerFile(Self.configurationFile, Array(configuration.utf8))], into: Self.configurationFolder, of: container)
    }

    /// Whether it has read its data and answers.
    /// - Throws: `notFound`; `conflict` when the container does not run.
    package func isReady() throws(EngineError) -> Bool { try ask("PING").contains("PONG") }

    /// - Returns: `nil` while it does not answer.
    /// - Throws: `notFound`; `conflict` when the container does not run.
    package func stats() throws(EngineError) -> JSON? {
        var values: [Substring: Substring] = [:]
        var keys = 0
        for line in try ask("INFO").split(whereSeparator: \.isNewline) {
            let halves = line.split(separator: ":", maxSplits: 1)
            guard halves.count == 2 else { continue }
            values[halves[0]] = halves[1]
            // db0:keys=3,expires=0,avg_ttl=0
            if halves[0].hasPrefix("db"), halves[1].hasPrefix("keys=") { keys += Int(halves[1].dropFirst(5).prefix { $0 != "," }) ?? 0 }
        }
        func number(_ name: Substring) -> JSON { .optional(values[name].flatMap { Int($0) }) }
        guard values["used_memory"] != nil else { return nil }
        return [
            "used_memory_bytes": number("used_memory"), "max_memory_bytes": number("maxmemory"), "keys": .int(keys),
            "hits": number("keyspace_hits"), "misses": number("keyspace_misses"), "evicted_keys": number("evicted_keys"),
            "expired_keys": number("expired_keys"), "connected_clients": number("connected_clients"),
            "commands": number("total_commands_processed"), "uptime_seconds": number("uptime_in_seconds"),
        ]
    }

    private func ask(_ question: String) throws(EngineError) -> String {
        try engine.execute(
            ["redis-cli", "-p", String(Self.port), question], in: container, environment: ["REDISCLI_AUTH": password], timeout: 5_000
        ).output
    }
}
