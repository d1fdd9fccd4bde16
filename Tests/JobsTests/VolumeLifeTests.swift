// Volumes on the real engine: what is written stays, one container at a time has it, and every step may be interrupted. Jobs are run by
// hand; `theThreads…` leaves them to thecloud-cron's.
import API
import Docker
import HTTP
import Postgres
import TestSupport
import Testing

@testable import Jobs

struct VolumeLifeTests {
    private static let quiet: Result<Bench, any Error> = Result { try Bench("volumes", pool: "10.125.0.0/16") }

    let bench: Bench
    let cloud: TestCloud
    let owner: Owner
    let engine: Engine

    init() throws {
        bench = try Self.quiet.get()
        cloud = try bench.cloud()
        owner = try cloud.newOwner()
        engine = try #require(Engine())
    }

    private static let forever = "trap 'exit 0' TERM; while true; do sleep 0.05; done"

    private func volume(_ name: String = "data") throws -> ID {
        let answer = cloud.call(.post, "/volumes", key: owner.key, json: ["name": .string(name), "size_gb": 1])
        return try #require(answer["data"]?["id"]?.string.flatMap { ID($0) }, "\(answer)")
    }

    private func instance(_ name: String, _ script: String = forever, volumes: [ID] = []) throws -> ID {
        let answer = cloud.call(
            .post, "/instances", key: owner.key,
            json: [
                "name": .string(name), "image": "thecloud-test-busybox", "instance_type": "nano", "command": ["sh", "-c", .string(script)],
                "ports": "0:80", "volumes": .array(volumes.map { ["volume_id": .string($0.description), "mount_path": "/data"] }),
            ])
        return try #require(answer["data"]?["id"]?.string.flatMap { ID($0) }, "\(answer)")
    }

    private func shown(_ kind: String, _ id: ID) -> JSON { cloud.call(.get, "/\(kind)/\(id)", key: owner.key)["data"] ?? .null }

    private func delete(_ kind: String, _ id: ID) { #expect(cloud.call(.delete, "/\(kind)/\(id)", key: owner.key).status == 200) }

    private func attach(_ volume: ID, to instance: ID) {
        let mount: JSON = ["instance_id": .string(instance.description), "mount_path": "/data"]
        #expect(cloud.call(.post, "/volumes/\(volume)/attach", key: owner.key, json: mount).status == 200)
    }

    private func detach(_ volume: ID) { #expect(cloud.call(.post, "/volumes/\(volume)/detach", key: owner.key).status == 200) }

    private func log(of id: ID, holds text: String) throws {
        try eventually("the log of \(id)", holds: { try engine.logs(bench.names.instance(id)).text == text })
    }

    @Test func whatIsWrittenOutlivesItsInstance() throws {
        let data = try volume()
        let writer = try instance("writer", "echo kept > /data/file; \(Self.forever)", volumes: [data])
        #expect(try InstanceJob.job.run(try bench.workbench(), writer.description) == .again(seconds: 0.2), "it waits for its volume")
        try bench.converge(data.description, by: VolumeJob.job)
        #expect(shown("volumes", data)["status"] == "IN_USE")
        let present = try engine.inspectVolume(bench.names.volume(data))
        #expect(present.labels == bench.names.labels(kind: "volume", id: data, owner: try #require(ID(owner.id))))
        try bench.converge(writer.description)
        #expect(try engine.inspect(bench.names.instance(writer)).mounts == [bench.names.volume(data): "/data"])
        delete("instances", writer)
        #expect(shown("volumes", data)["status"] == "IN_USE", "as long as the container is there")
        try bench.converge(writer.description)
        #expect(shown("volumes", data)["status"] == "AVAILABLE" && shown("volumes", data)["instance_id"] == .null)

        let reader = try instance("reader", "cat /data/file; \(Self.forever)", volumes: [data])
        try bench.converge(reader.description)
        try log(of: reader, holds: "kept\n")
        delete("instances", reader)
        try bench.converge(reader.description)
        delete("volumes", data)
        try bench.converge(data.description, by: VolumeJob.job)
        #expect(shown("volumes", data) == .null)
        #expect(throws: EngineError.notFound) { try engine.inspectVolume(bench.names.volume(data)) }
        try bench.converge(data.description, by: VolumeJob.job)
    }

    @Test func anExistingInstanceGetsAndLosesAVolume() throws {
        let (data, id) = (try volume(), try instance("web", "ls /data; \(Self.forever)"))
        try bench.converge(data.description, by: VolumeJob.job)
        try bench.converge(id.description)
        let before = shown("instances", id)
        let first = try engine.inspect(bench.names.instance(id))
        attach(data, to: id)
        try bench.converge(id.description)
        let second = try engine.inspect(bench.names.instance(id))
        #expect(second.id != first.id && second.state == .running && second.mounts == [bench.names.volume(data): "/data"])
        #expect(second.addresses == first.addresses && second.ports == first.ports)
        for member in ["status", "private_ip", "ports", "name"] { #expect(shown("instances", id)[member] == before[member]) }
        try bench.converge(id.description)
        #expect(try engine.inspect(bench.names.instance(id)) == second, "a run more changes nothing")

        detach(data)
        #expect(shown("volumes", data)["status"] == "IN_USE")
        try bench.converge(id.description)
        #expect(shown("volumes", data)["status"] == "AVAILABLE" && shown("instances", id)["status"] == "RUNNING")
        #expect(try engine.inspect(bench.names.instance(id)).mounts == [:])
        delete("instances", id)
        try bench.converge(id.description)
    }

    /// Wherever the process died in the middle of it.
    @Test(arguments: ["stop", "remove", "create"])
    func anInterruptedChangeIsFinished(step: String) throws {
        let (data, id) = (try volume(), try instance("web"))
        try bench.converge(data.description, by: VolumeJob.job)
        try bench.converge(id.description)
        attach(data, to: id)
        let name = bench.names.instance(id)
        try engine.stop(name, timeout: 1)
        if step != "stop" { try engine.remove(name) }
        if step == "create" {
            var spec = ContainerSpec(
                name: name, image: try #require(ImageReference("thecloud-test-busybox")),
                limits: .init(nanoCPUs: 250_000_000, memory: 64 << 20, pids: 64),
                labels: bench.names.labels(kind: "instance", id: id, owner: try #require(ID(owner.id))),
                command: ["sh", "-c", Self.forever])
            spec.mounts = [.init(volume: bench.names.volume(data), path: "/data")]
            _ = try engine.createContainer(spec)
        }
        try bench.converge(id.description)
        let present = try engine.inspect(name)
        #expect(present.state == .running && present.mounts == [bench.names.volume(data): "/data"])
        #expect(shown("instances", id)["status"] == "RUNNING")
        delete("instances", id)
        try bench.converge(id.description)
    }

    /// Its address is fixed then, and somebody may have it while the instance is stopped.
    @Test func anAddressThatSomebodyTookIsExchanged() throws {
        let (data, id) = (try volume(), try instance("web", "echo here >> /kept; cat /kept; \(Self.forever)"))
        try bench.converge(data.description, by: VolumeJob.job)
        try bench.converge(id.description)
        attach(data, to: id)
        try bench.converge(id.description)
        #expect(cloud.call(.put, "/instances/\(id)", key: owner.key, json: ["status": "STOPPED"]).status == 200)
        let (network, address) = try #require(try engine.inspect(bench.names.instance(id)).addresses.first)
        try bench.converge(id.description)
        var spec = ContainerSpec(
            name: "thecloud-test-\(id)", image: try #require(ImageReference("thecloud-test-busybox")),
            limits: .init(nanoCPUs: 250_000_000, memory: 64 << 20, pids: 64), labels: bench.names.labels, command: ["sleep", "600"])
        spec.attachment = .init(network: network, address: address)
        try engine.start(try engine.createContainer(spec))
        #expect(cloud.call(.put, "/instances/\(id)", key: owner.key, json: ["status": "RUNNING"]).status == 200)
        try bench.converge(id.description)
        #expect(shown("instances", id)["status"] == "RUNNING" && shown("instances", id)["private_ip"]?.string != address)
        try log(of: id, holds: "here\nhere\nhere\n")
        try engine.remove("thecloud-test-\(id)", force: true)
        delete("instances", id)
        try bench.converge(id.description)
    }

    @Test func aVolumeThatVanishedIsSaidToBeLost() throws {
        let data = try volume()
        try bench.converge(data.description, by: VolumeJob.job)
        try engine.removeVolume(bench.names.volume(data))
        try cloud.admin("delete from jobs where subject = \(data.description)")
        try VolumeJob.sweep(try bench.workbench())
        let wished = try cloud.admin("select 1 from jobs where kind = 'volume' and subject = \(data.description)")
        #expect(!wished.isEmpty)
        try bench.converge(data.description, by: VolumeJob.job)
        #expect(shown("volumes", data)["status"] == "ERROR")
        #expect(shown("volumes", data)["status_reason"] == "The engine no longer has this volume: its content is lost")
        #expect(throws: EngineError.notFound) { try engine.inspectVolume(bench.names.volume(data)) }
        delete("volumes", data)
        try bench.converge(data.description, by: VolumeJob.job)
        #expect(shown("volumes", data) == .null)
    }

    /// Not replaced by an empty one.
    @Test func anInstanceWhoseVolumeVanishedIsAnError() throws {
        let data = try volume()
        try bench.converge(data.description, by: VolumeJob.job)
        let id = try instance("web", volumes: [data])
        try engine.removeVolume(bench.names.volume(data))
        try bench.converge(id.description)
        #expect(shown("instances", id)["status"] == "ERROR")
        #expect(shown("instances", id)["status_reason"]?.string == "The engine no longer has the volume data")
        #expect(throws: EngineError.notFound) { try engine.inspectVolume(bench.names.volume(data)) }
        delete("instances", id)
        try bench.converge(id.description)
    }

    @Test func aVolumeWithoutARowStays() throws {
        let stray = ID(at: .now())
        try engine.createVolume(name: bench.names.volume(stray), labels: bench.names.labels(kind: "volume", id: stray, owner: stray))
        try VolumeJob.sweep(try bench.workbench())
        try bench.converge(stray.description, by: VolumeJob.job)
        _ = try engine.inspectVolume(bench.names.volume(stray))
        try engine.removeVolume(bench.names.volume(stray))
    }

    @Test func whatAVolumeHoldsIsMeasured() throws {
        let data = try volume()
        try bench.converge(data.description, by: VolumeJob.job)
        let id = try instance(
            "writer", "dd if=/dev/zero of=/data/file bs=1024 count=3000 2>/dev/null; echo done; \(Self.forever)", volumes: [data])
        try bench.converge(id.description)
        try eventually("it is written", holds: { try engine.logs(bench.names.instance(id)).text == "done\n" })
        let workbench = try bench.workbench()
        // The engine refuses while it counts for somebody else.
        try eventually("it is measured") { try? VolumeUsage.job.run(workbench, "all") }
        #expect((shown("volumes", data)["used_bytes"]?.int ?? 0) >= 3_072_000)
        #expect(shown("volumes", data)["measured_at"]?.string != nil)
        delete("instances", id)
        try bench.converge(id.description)
    }

    @Test func theThreadsDoAllOfIt() throws {
        let bench = try Rig.shared.get().bench
        let cloud = try bench.cloud()
        let owner = try cloud.newOwner()
        func status(_ path: String) -> String {
            let answer = cloud.call(.get, path, key: owner.key)
            return answer["data"]?["status"]?.string ?? answer.code ?? ""
        }
        let made = cloud.call(.post, "/volumes", key: owner.key, json: ["name": "data", "size_gb": 1])
        let data = try #require(made["data"]?["id"]?.string)
        let launched = cloud.call(
            .post, "/instances", key: owner.key,
            json: [
                "name": "web", "image": "thecloud-test-busybox", "instance_type": "nano", "command": .string(Self.forever),
                "volumes": [["volume_id": .string(data), "mount_path": "/data"]],
            ])
        let id = try #require(launched["data"]?["id"]?.string)
        try eventually("it runs", holds: { status("/instances/\(id)") == "RUNNING" && status("/volumes/\(data)") == "IN_USE" })
        #expect(cloud.call(.post, "/volumes/\(data)/detach", key: owner.key).status == 200)
        try eventually("it is free", holds: { status("/volumes/\(data)") == "AVAILABLE" })
        try eventually("it runs again", holds: { status("/instances/\(id)") == "RUNNING" })
        #expect(cloud.call(.delete, "/volumes/\(data)", key: owner.key).status == 200)
        #expect(cloud.call(.delete, "/instances/\(id)", key: owner.key).status == 200)
        try eventually("both are gone", holds: { ["/volumes/\(data)", "/instances/\(id)"].allSatisfy { status($0) == "NOT_FOUND" } })
    }
}
