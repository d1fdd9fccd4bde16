// The real engine under the real jobs, in databases of their own: `Rig.shared` has all of thecloud-cron's threads at work,
// `Bench` has none, so a test can run a job by hand. Whatever carries the installation's label is removed when the process ends.
import API
import Docker
import Foundation
import HTTP
import Postgres
import Synchronization
import System
import TestSupport
import Testing

@testable import Jobs

/// One installation: its database and what one thread of thecloud-cron would have.
struct Bench: Sendable {
    let database: TestDatabase
    let config: Config
    let names: EngineNames

    init(_ suffix: String, pool: String = "10.128.0.0/12") throws {
        _ = try Image.prepared.get()
        database = try TestDatabase.fresh(suffix)
        config = try TestCloud.config(
            ["THECLOUD_NETWORK_POOL": pool, "THECLOUD_MAIL": TestCloud.scratch + "/mail-" + suffix], url: database.cron)
        let stack = try database.administrator().begin().commit("select id from installation").scalar(ID.self)
        names = EngineNames(stack: try #require(stack))
        Cleaning.add(names)
    }

    /// With a connection and an engine of its own, for one thread.
    func workbench() throws -> Workbench {
        Workbench(
            config: config, connection: Connection(url: config.databaseURL), engine: try #require(Engine(host: config.dockerHost)),
            names: names)
    }

    /// The surface over the same database; its long pool has the engine.
    func cloud() throws -> TestCloud { try TestCloud(database: database, engine: Engine(host: config.dockerHost)) }

    /// Runs an instance's job, or another one, until it has nothing left to do.
    func converge(_ id: String, by job: Job = InstanceJob.job) throws {
        let workbench = try workbench()
        for _ in 0..<50 {
            switch try job.run(workbench, id) {
            case .done: return
            case .again(let seconds): usleep(UInt32(seconds * 1_000_000))
            }
        }
        throw Unexpected(description: "the job never ends")
    }
}

/// thecloud-cron's threads at work.
final class Rig: Sendable {
    static let shared: Result<Rig, any Error> = Result { try Rig() }

    let bench: Bench
    private let isStopping = Atomic(false)

    private init() throws {
        bench = try Bench("jobs")
        let stopping: @Sendable () -> Bool = { [self] in isStopping.load(ordering: .relaxed) }
        _ = Job.Lane.start(url: bench.config.databaseURL, leases: Leases(), isStopping: stopping) { [bench] in try? bench.workbench() }
        _ = WorkerThread { [bench] in
            if let workbench = try? bench.workbench() { EngineWatch(bench: workbench, isStopping: stopping).follow() }
        }
        atexit { try? Rig.shared.get().isStopping.store(true, ordering: .relaxed) }
    }
}

/// Waits until something is there, looking again and again; fails after a minute and a half.
@discardableResult
func eventually<Value>(_ what: String, sourceLocation: SourceLocation = #_sourceLocation, _ look: () throws -> Value?) throws -> Value {
    let start = ContinuousClock.now
    while start.duration(to: .now) < .seconds(90) {
        if let value = try look() { return value }
        usleep(20_000)
    }
    Issue.record("not within a minute and a half: \(what)", sourceLocation: sourceLocation)
    throw Unexpected(description: what)
}

/// Waits until something holds.
func eventually(_ what: String, sourceLocation: SourceLocation = #_sourceLocation, holds: () throws -> Bool) throws {
    try eventually(what, sourceLocation: sourceLocation) { try holds() ? true : nil }
}

private enum Cleaning {
    private static let stacks = Mutex<[EngineNames]>([])

    static func add(_ names: EngineNames) {
        let isFirst = stacks.withLock { stacks in
            stacks.append(names)
            return stacks.count == 1
        }
        guard isFirst else { return }
        atexit {
            guard let engine = Engine() else { return }
            for names in Cleaning.stacks.withLock({ $0 }) {
                let label = ["thecloud.stack": names.stack.description]
                for container in (try? engine.containers(labels: label)) ?? [] { try? engine.remove(container.id, force: true) }
                for network in (try? engine.networks(labels: label)) ?? [] { try? engine.removeNetwork(network.id) }
                for volume in (try? engine.volumes(labels: label)) ?? [] { try? engine.removeVolume(volume.name) }
            }
        }
    }
}

/// An image of the machine's own busybox, because no registry may be reachable.
private enum Image {
    static let prepared: Result<Void, any Error> = Result {
        let engine = try #require(Engine())
        guard try !engine.imageExists(try #require(ImageReference("thecloud-test-busybox"))) else { return }
        let script = """
            set -e
            folder=$(mktemp -d)
            trap 'rm -rf "$folder"' EXIT
            mkdir -p "$folder/bin" "$folder/tmp"
            cp /bin/busybox "$folder/bin/busybox"
            for name in sh sleep cat echo head wget httpd nslookup kill id dd seq; do ln -s busybox "$folder/bin/$name"; done
            tar -C "$folder" -c . | docker import --change 'CMD ["sh"]' - thecloud-test-busybox
            """
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", script]
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw Unexpected(description: "busybox-static and the docker client make the image") }
    }
}

/// A TCP port of this machine that somebody outside listens on.
final class Squatter {
    let port: Int
    private let descriptor: Int32

    /// - Parameter port: 0 for any free one.
    init(port: Int = 0) throws {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var yes: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let status = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, length) + listen(descriptor, 1) + getsockname(descriptor, $0, &length)
            }
        }
        self.descriptor = descriptor
        self.port = Int(UInt16(bigEndian: address.sin_port))
        guard status == 0 else { throw Unexpected(description: "port \(port) can't be had") }
    }

    deinit { close(descriptor) }
}
