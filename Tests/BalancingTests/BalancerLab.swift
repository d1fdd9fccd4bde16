// A real proxy in a corner of the engine: a network, targets of busybox's httpd that answer with their number, and HAProxy before them.
// What carries the lab's label is removed with it.
import Balancing
import Docker
import Foundation
import HTTP
import TestSupport
import Testing

final class BalancerLab {
    /// Any port will do, but tests run side by side.
    let port: Int
    let engine: Engine
    let console: ProxyConsole
    private let id = String(UInt64.random(in: .min ... .max), radix: 36)
    private let network: String
    private var labels: [String: String] { ["thecloud.test": id] }
    private var names: [ID: String] = [:]

    init() throws {
        try StandInImages.prepare(["haproxy:2.8-alpine"])
        engine = try #require(Engine())
        console = ProxyConsole(engine, container: "thecloud-test-\(id)-proxy")
        port = try Self.freePort()
        network = "thecloud-test-\(id)"
        try makeNetwork()
    }

    /// On a block that nobody has.
    private func makeNetwork() throws {
        for _ in 0..<50 {
            let block = "10.\(Int.random(in: 20...99)).\(Int.random(in: 0...255)).0/24"
            do {
                _ = try engine.createNetwork(name: network, subnet: block, labels: labels)
                return
            } catch EngineError.poolOverlap {
                continue
            }
        }
        throw Unexpected(description: "no block is free")
    }

    deinit {
        for container in (try? engine.containers(labels: labels)) ?? [] { try? engine.remove(container.id, force: true) }
        try? engine.removeNetwork(network)
    }

    private static func freePort() throws -> Int {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let status = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, length) + getsockname(descriptor, $0, &length)
            }
        }
        try #require(status == 0)
        return Int(UInt16(bigEndian: address.sin_port))
    }

    private func spec(_ name: String, _ image: String, _ script: String? = nil) throws -> ContainerSpec {
        var spec = ContainerSpec(
            name: "thecloud-test-\(id)-\(name)", image: try #require(ImageReference(image)),
            limits: .init(nanoCPUs: 1_000_000_000, memory: 128 << 20, pids: 128), labels: labels, command: script.map { ["sh", "-c", $0] })
        spec.attachment = .init(network: network)
        return spec
    }

    /// A target that answers its name at `/`, is `well` at `/health`, and takes two seconds for `/cgi-bin/slow`.
    func target(_ name: String, weight: Int = 1) throws -> ProxyConfiguration.Target {
        let script = """
            cd /tmp; busybox mkdir cgi-bin; echo \(name) >index.html; echo well >health
            printf '#!/bin/sh\\nsleep 2\\nprintf "Content-Length: 5\\\\r\\\\n\\\\r\\\\nslow\\\\n"\\n' >cgi-bin/slow
            busybox chmod 755 cgi-bin/slow; httpd -f -p 80 -h /tmp
            """
        let container = try engine.createContainer(try spec(name, "thecloud-test-busybox", script))
        try engine.start(container)
        let address = try #require(engine.inspect(container).addresses[network])
        let id = ID(at: .now())
        names[id] = container
        return .init(id: id, address: address, port: 80, weight: weight)
    }

    func container(of target: ProxyConfiguration.Target) throws -> String { try #require(names[target.id]) }

    func configuration(
        _ targets: [ProxyConfiguration.Target], _ algorithm: ProxyConfiguration.Algorithm = .roundRobin, path: String? = nil
    ) -> ProxyConfiguration {
        .init(port: port, algorithm: algorithm, check: .init(path: path, interval: 1, threshold: 2), targets: targets)
    }

    func startProxy(_ configuration: ProxyConfiguration) throws {
        var spec = try spec("proxy", "haproxy:2.8-alpine")
        spec.ports = [PortBinding(hostPort: port, containerPort: port)]
        let container = try engine.createContainer(spec)
        try console.prepare(configuration)
        try engine.start(container)
        try console.apply(configuration)
    }

    /// Waits until the proxy says so of a target.
    func await(_ what: String, of target: ProxyConfiguration.Target, _ holds: (ProxyState.Server) -> Bool) throws {
        for _ in 0..<600 {
            if let server = try console.state(port: port).servers[target.id], holds(server) { return }
            usleep(100_000)
        }
        throw Unexpected(description: "not within a minute: \(what)")
    }
}
