// Networks and volumes on the real engine.
import Docker
import Testing

struct NetworkTests {
    @Test func lifeOfANetwork() throws {
        let lab = try Lab()
        let network = try lab.network("n")
        #expect(network.name == lab.name("n") && network.labels == lab.labels)
        let subnet = try #require(network.subnet)
        #expect(network.gateway == String(subnet.dropLast(4)) + "1")
        #expect(try lab.engine.networks(labels: lab.labels).map(\.id) == [network.id])
        let overlap = #expect(throws: EngineError.self) {
            try lab.engine.createNetwork(name: lab.name("m"), subnet: subnet, labels: lab.labels)
        }
        #expect(overlap?.kind == "poolOverlap")
        let taken = #expect(throws: EngineError.self) {
            try lab.engine.createNetwork(name: lab.name("n"), subnet: "10.200.0.0/24", labels: lab.labels)
        }
        #expect(taken?.kind == "conflict")
        try lab.engine.removeNetwork(network.id)
        #expect(throws: EngineError.notFound) { try lab.engine.inspectNetwork(network.id) }
        #expect(throws: EngineError.notFound) { try lab.engine.removeNetwork(network.id) }
    }

    @Test func neighboursFindEachOther() throws {
        let lab = try Lab()
        let network = try lab.network("n")
        let address = String(try #require(network.subnet).dropLast(4)) + "77"
        var server = try lab.spec("server", "echo found > /tmp/index.html; httpd -f -p 8000 -h /tmp")
        server.attachment = .init(network: network.name, address: address, aliases: ["web"])
        let id = try lab.started(server)
        #expect(try lab.engine.inspect(id).addresses == [network.name: address])
        #expect(try lab.engine.inspectNetwork(network.name).addresses == [id: address])
        #expect(try lab.engine.containers(labels: lab.labels).first?.addresses == [network.name: address])

        var client = try lab.spec("client", "for n in $(seq 50); do wget -q -O - http://web:8000/index.html && exit; sleep 0.1; done")
        client.attachment = .init(network: network.name)
        #expect(try lab.output(client) == "found\n")

        var rival = try lab.spec("rival")
        rival.attachment = server.attachment
        let rivalID = try lab.engine.createContainer(rival)
        let taken = #expect(throws: EngineError.self) { try lab.engine.start(rivalID) }
        #expect(taken?.kind == "addressTaken")
        let used = #expect(throws: EngineError.self) { try lab.engine.removeNetwork(network.id) }
        #expect(used?.kind == "conflict")
    }

    @Test func volumesOutliveContainers() throws {
        let lab = try Lab()
        let volume = lab.name("v")
        try lab.engine.createVolume(name: volume, labels: lab.labels)
        try lab.engine.createVolume(name: volume, labels: lab.labels)
        #expect(try lab.engine.volumes(labels: lab.labels).map(\.name) == [volume])
        #expect(try lab.engine.inspectVolume(volume).labels == lab.labels)

        var writer = try lab.spec("writer", "echo kept > /data/file")
        writer.mounts = [.init(volume: volume, path: "/data")]
        _ = try lab.output(writer)
        #expect(try lab.engine.inspect(writer.name).mounts == [volume: "/data"])
        let busy = #expect(throws: EngineError.self) { try lab.engine.removeVolume(volume) }
        #expect(busy?.kind == "conflict")
        try lab.engine.remove(writer.name)

        var reader = try lab.spec("reader", "exec 2>/dev/null; cat /data/file; echo x > /data/other || echo protected")
        reader.mounts = [.init(volume: volume, path: "/data", isReadOnly: true)]
        #expect(try lab.output(reader) == "kept\nprotected\n")
        try lab.engine.remove(reader.name)
        try lab.engine.removeVolume(volume)
        #expect(throws: EngineError.notFound) { try lab.engine.removeVolume(volume) }
    }
}
