// The real engine, and one corner of it for each test: whatever carries the test's label is removed at its end.
// The image is made of the machine's own busybox, because no registry may be reachable.
import Docker
import Foundation
import Testing

final class Lab {
    static let image = "thecloud-test-busybox"

    /// Makes the image once for the whole run.
    private static let prepared: Result<Void, any Error> = Result {
        guard try !local().imageExists(reference()) else { return }
        let script = """
            set -e
            folder=$(mktemp -d)
            trap 'rm -rf "$folder"' EXIT
            mkdir -p "$folder/bin" "$folder/tmp"
            cp /bin/busybox "$folder/bin/busybox"
            for name in sh sleep cat echo head wget httpd nslookup kill id dd seq; do ln -s busybox "$folder/bin/$name"; done
            tar -C "$folder" -c . | docker import --change 'CMD ["sh"]' - \(image)
            """
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", script]
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw EngineError.imageMissing("busybox-static and the docker client make it") }
    }

    let engine: Engine
    let id = String(UInt64.random(in: .min ... .max), radix: 36)
    var labels: [String: String] { ["thecloud.test": id] }

    init() throws {
        try Self.prepared.get()
        engine = try #require(Engine())
    }

    deinit {
        for container in (try? engine.containers(labels: labels)) ?? [] { try? engine.remove(container.id, force: true) }
        for network in (try? engine.networks(labels: labels)) ?? [] { try? engine.removeNetwork(network.id) }
        for volume in (try? engine.volumes(labels: labels)) ?? [] { try? engine.removeVolume(volume.name) }
    }

    static func reference() throws -> ImageReference { try #require(ImageReference(image)) }

    private static func local() throws -> Engine { try #require(Engine()) }

    func name(_ suffix: String) -> String { "thecloud-test-\(id)-\(suffix)" }

    /// A small container that runs a shell script.
    func spec(_ suffix: String, _ script: String = "trap 'exit 7' TERM; while true; do sleep 0.05; done") throws -> ContainerSpec {
        ContainerSpec(
            name: name(suffix), image: try Self.reference(), limits: .init(nanoCPUs: 500_000_000, memory: 64 << 20, pids: 32),
            labels: labels, command: ["sh", "-c", script])
    }

    func started(_ spec: ContainerSpec) throws -> String {
        let container = try engine.createContainer(spec)
        try engine.start(container)
        return container
    }

    /// What a short script writes until it ends.
    func output(_ spec: ContainerSpec) throws -> String {
        let container = try started(spec)
        _ = try #require(try engine.wait(container, timeout: 20_000))
        return try engine.logs(container).text
    }

    /// A network on a block that nobody has.
    func network(_ suffix: String) throws -> EngineNetwork {
        for _ in 0..<50 {
            let block = "10.\(Int.random(in: 20...199)).\(Int.random(in: 0...255))"
            do {
                return try engine.inspectNetwork(
                    engine.createNetwork(name: name(suffix), subnet: "\(block).0/24", gateway: "\(block).1", labels: labels))
            } catch EngineError.poolOverlap {
                continue
            }
        }
        throw EngineError.poolOverlap("no block is free")
    }
}

extension EngineError {
    /// The case without the engine's words.
    var kind: String {
        switch self {
        case .notFound: "notFound"
        case .conflict: "conflict"
        case .halfStarted: "halfStarted"
        case .notModified: "notModified"
        case .imageMissing: "imageMissing"
        case .portTaken: "portTaken"
        case .addressTaken: "addressTaken"
        case .poolOverlap: "poolOverlap"
        case .unreachable: "unreachable"
        case .cancelled: "cancelled"
        case .other: "other"
        }
    }
}
