// A pool of its own on the real engine for each test; whatever carries its label is removed at the end.
import Docker
import Foundation
import HTTP
import Synchronization
import TestSupport
import Testing

@testable import Sandboxes

final class SandboxLab {
    private static let imagesAreThere: Result<Void, any Error> = Result {
        try StandInImages.prepare(["node:20-alpine", "python:3.12-alpine"])
    }

    let engine: Engine
    let pool: SandboxPool
    private let labels = ["thecloud.test": "sandbox-\(ID(at: .now()))"]
    private let zips = Mutex<[ID: [UInt8]]>([:])

    init() throws {
        try Self.imagesAreThere.get()
        engine = try #require(Engine())
        let labels = labels
        pool = SandboxPool(
            host: Engine.defaultHost, marks: .init(name: { "thecloud-test-sandbox-\($0)" }, labels: { _, _ in labels }), warm: 4)
    }

    deinit {
        pool.close()
        for container in (try? engine.containers(labels: labels)) ?? [] { try? engine.remove(container.id, force: true) }
    }

    func task(_ runtime: Runtime, _ file: String, _ source: String, payload: String = "{}") -> SandboxTask {
        task(runtime, ZipMaker([file: source]), payload: payload)
    }

    func task(_ runtime: Runtime, _ zip: ZipMaker, handler: String = Runtime.usualHandler, payload: String = "{}") -> SandboxTask {
        let version = ID(at: .now())
        zips.withLock { $0[version] = zip.bytes }
        let image = ImageReference(runtime == .nodejs20 ? "node:20-alpine" : "python:3.12-alpine")!
        return SandboxTask(
            version: version, owner: ID(at: .now()), runtime: runtime, image: image, handler: handler, environment: [:], memoryMB: 128,
            codeSize: zip.entries.reduce(0) { $0 + $1.size }, codeFiles: zip.entries.count, timeout: 60, payload: Array(payload.utf8))
    }

    func run(_ task: SandboxTask) throws -> SandboxOutcome {
        try pool.run(task, on: engine) { zips.withLock { $0[task.version] ?? $0.values.first! } }
    }

    func awaitContainers(_ count: Int) throws { try eventually { try engine.containers(labels: labels).count == count } }

    func awaitNoContainers() throws { try awaitContainers(0) }

    func awaitExit() throws { try eventually { try engine.containers(labels: labels).allSatisfy { $0.state == .exited } } }

    /// As if the process had died: nobody removes anything.
    func dropConnections() { pool.forget() }

    private func eventually(_ holds: () throws -> Bool) throws {
        let start = ContinuousClock.now
        while start.duration(to: .now) < .seconds(120) {
            if try holds() { return }
            usleep(20_000)
        }
        throw Unexpected(description: "the containers are not as awaited: \(try engine.containers(labels: labels))")
    }
}

extension SandboxOutcome {
    /// The result's JSON.
    var text: String? { if case .succeeded(let json) = verdict { String(decoding: json, as: UTF8.self) } else { nil } }
}
