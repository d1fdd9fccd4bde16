// Containers on the real engine: their life, their cage, their addresses and ports.
import Docker
import Testing

struct ContainerTests {
    @Test func life() throws {
        let lab = try Lab()
        let engine = lab.engine
        try engine.ping()
        let id = try engine.createContainer(lab.spec("life"))
        #expect(try engine.inspect(id).state == .created)
        try engine.start(id)
        #expect(throws: EngineError.notModified) { try engine.start(id) }
        let running = try engine.inspect(lab.name("life"))
        #expect(running.id == id && running.state == .running && running.name == lab.name("life"))
        #expect(running.image == "\(Lab.image):latest" && running.labels["thecloud.test"] == lab.id && running.addresses.isEmpty)

        try engine.pause(id)
        #expect(try engine.inspect(id).state == .paused)
        #expect(throws: EngineError.self) { try engine.pause(id) }
        try engine.unpause(id)
        let unpaused = #expect(throws: EngineError.self) { try engine.unpause(id) }
        #expect(unpaused?.kind == "conflict")

        try engine.stop(id, timeout: 5)
        let stopped = try engine.inspect(id)
        #expect(stopped.state == .exited && stopped.exitCode == 7 && !stopped.isOutOfMemory)
        #expect(throws: EngineError.notModified) { try engine.stop(id) }
        let list = try engine.containers(labels: lab.labels)
        #expect(list.map(\.id) == [id] && list[0].state == .exited && list[0].name == lab.name("life"))

        try engine.start(id)
        #expect(try engine.wait(id, timeout: 200) == nil)
        #expect(throws: EngineError.cancelled) { try engine.wait(id, timeout: 5_000, isCancelled: { true }) }
        try engine.kill(id)
        #expect(try engine.wait(id, timeout: 10_000) == 137)
        #expect(try engine.inspect(id).exitCode == 137)
        try engine.start(id)
        let busy = #expect(throws: EngineError.self) { try engine.remove(id) }
        #expect(busy?.kind == "conflict")
        try engine.remove(id, force: true)
        #expect(throws: EngineError.notFound) { try engine.inspect(id) }
        #expect(throws: EngineError.notFound) { try engine.start(id) }
        #expect(throws: EngineError.notFound) { try engine.remove(id, force: true) }
        #expect(try engine.containers(labels: lab.labels).isEmpty)
    }

    @Test func namesAndImages() throws {
        let lab = try Lab()
        _ = try lab.engine.createContainer(lab.spec("a"))
        let taken = #expect(throws: EngineError.self) { try lab.engine.createContainer(lab.spec("a")) }
        #expect(taken?.kind == "conflict")
        var spec = try lab.spec("b")
        spec.image = try #require(ImageReference("thecloud-test-none:\(lab.id)"))
        let missing = #expect(throws: EngineError.self) { try lab.engine.createContainer(spec) }
        #expect(missing?.kind == "imageMissing")
        #expect(try lab.engine.imageExists(Lab.reference()))
        #expect(try !lab.engine.imageExists(spec.image))
    }

    @Test func pullFails() throws {
        let lab = try Lab()
        let image = try #require(ImageReference("127.0.0.1:1/none:\(lab.id)"))
        #expect(throws: EngineError.self) { try lab.engine.pull(image, timeout: 30_000) }
        #expect(throws: EngineError.cancelled) { try lab.engine.pull(image, timeout: 30_000, isCancelled: { true }) }
    }

    @Test func theCage() throws {
        let lab = try Lab()
        var spec = try lab.spec(
            "cage",
            """
            exec 2>/dev/null; echo "$GREETING"; cat /proc/1/comm /proc/self/status; id -u; cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max
            cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max
            echo x > /root-is-writable && echo writable; echo x > /scratch/file && echo scratch; cat /proc/net/route /etc/hostname
            """)
        spec.environment = ["GREETING": "hello = there"]
        spec.hostname = "caged"
        spec.isRootReadOnly = true
        spec.scratch = ["/scratch": 1 << 20]
        let lines = try lab.output(spec).split(separator: "\n").map(String.init)
        #expect(lines[0] == "hello = there")
        #expect(lines[1] == "docker-init")
        #expect(lines.contains("NoNewPrivs:\t1"))
        // CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, KILL 5, SETGID 6, SETUID 7, NET_BIND_SERVICE 10.
        #expect(lines.contains("CapBnd:\t00000000000004eb"))
        #expect(lines.contains("67108864") && lines.contains("32"))
        #expect(lines.contains("scratch") && !lines.contains("writable"))
        #expect(lines.last == "caged")
        #expect(!lines.contains { $0.hasPrefix("eth0") })
    }

    @Test func outOfMemoryIsSeen() throws {
        let lab = try Lab()
        let id = try lab.started(lab.spec("oom", "exec dd if=/dev/zero of=/dev/null bs=200000000 count=1"))
        #expect(try lab.engine.wait(id, timeout: 20_000) == 137)
        #expect(try lab.engine.inspect(id).isOutOfMemory)
    }

    @Test func portsArePublishedOnce() throws {
        let lab = try Lab()
        let network = try lab.network("ports")
        var spec = try lab.spec("a", "httpd -f -p 8000")
        spec.attachment = .init(network: network.name)
        spec.ports = [PortBinding(hostAddress: "127.0.0.1", hostPort: 0, containerPort: 8000)]
        let first = try lab.engine.inspect(lab.started(spec))
        let port = try #require(first.ports.first)
        #expect(first.ports.count == 1 && port.containerPort == 8000 && port.hostPort > 1023 && port.hostAddress == "127.0.0.1")

        spec.name = lab.name("b")
        spec.ports = [port]
        let id = try lab.engine.createContainer(spec)
        let taken = #expect(throws: EngineError.self) { try lab.engine.start(id) }
        #expect(taken?.kind == "portTaken")
        try lab.engine.stop(first.id, timeout: 1)
        #expect(try lab.engine.inspect(first.id).ports.isEmpty)
        try lab.engine.start(id)
        #expect(try lab.engine.inspect(id).ports == [port])
    }
}
