// The databases of the tests: the migrated throw-away one that scripts/test names in the environment, and fresh ones beside it
// for what needs to be alone. Admin connections bypass row-level security, so tests can look at and shift what no client may touch.
import Foundation
package import Postgres
import Synchronization

package struct TestDatabase: Sendable {
    /// libpq URLs of the same database for each role.
    package let api: String
    package let cron: String
    package let admin: String

    package struct Missing: Error, CustomStringConvertible {
        package let description: String
    }

    /// The one that all tests share; each has owners of its own in it.
    /// - Throws: `Missing`, naming the setting and what makes it.
    package static func shared() throws -> TestDatabase {
        func url(_ name: String) throws -> String {
            guard let url = ProcessInfo.processInfo.environment[name], !url.isEmpty else {
                throw Missing(description: "\(name) is not set: run the tests with scripts/test, which makes a throw-away database")
            }
            return url
        }
        return TestDatabase(
            api: try url("THECLOUD_TEST_DATABASE_URL"), cron: try url("THECLOUD_TEST_CRON_DATABASE_URL"),
            admin: try url("THECLOUD_TEST_ADMIN_DATABASE_URL"))
    }

    /// A new, migrated database beside the shared one. It lives as long as its cluster, or until the next run makes it anew.
    package static func fresh(_ suffix: String) throws -> TestDatabase {
        let shared = try shared()
        let name = "\(Self.name(of: shared.admin))_\(suffix)"
        try making.withLock { _ in
            try psql(shared.admin, ["-c", "drop database if exists \(name) with (force)"])
            try psql(shared.admin, ["-c", "create database \(name) template template0"])
            let admin = Self.renamed(shared.admin, name)
            for file in try migrations() { try psql(admin, ["-1", "-f", file]) }
        }
        return TestDatabase(
            api: Self.renamed(shared.api, name), cron: Self.renamed(shared.cron, name), admin: Self.renamed(shared.admin, name))
    }

    /// A connection that sees and may do everything.
    package func administrator() -> Connection { Connection(url: admin) }

    /// Two at once would trip over the roles, which all databases of a cluster share.
    private static let making = Mutex(())

    private static func migrations() throws -> [String] {
        let folder = repository + "/sql"
        return try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".sql") }.sorted().map {
            "\(folder)/\($0)"
        }
    }

    private static func psql(_ url: String, _ arguments: [String]) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["psql", "-Xq", "-v", "ON_ERROR_STOP=1"] + arguments + [url]
        process.environment = ProcessInfo.processInfo.environment.merging(["PGOPTIONS": "-c client_min_messages=warning"]) { $1 }
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw Missing(description: "psql \(arguments) failed") }
    }

    /// Where the name of the database stands in a URL.
    private static func nameRange(_ url: String) -> Range<String.Index> {
        let host = url.range(of: "://")?.upperBound ?? url.startIndex
        let start = url[host...].firstIndex(of: "/").map { url.index(after: $0) } ?? url.endIndex
        return start..<(url[start...].firstIndex(of: "?") ?? url.endIndex)
    }

    private static func name(of url: String) -> String { String(url[nameRange(url)]) }

    private static func renamed(_ url: String, _ name: String) -> String { url.replacingCharacters(in: nameRange(url), with: name) }
}

/// The folder of Package.swift.
package let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .path
