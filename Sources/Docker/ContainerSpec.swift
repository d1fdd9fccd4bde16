// A container to make. What protects the host and the neighbours is not an option: no new privileges, few capabilities, an init process,
// limits, short logs, no host mounts, no restart by the engine (reconcilers do that), no terminal.
package import HTTP

package struct ContainerSpec: Sendable {
    /// A connection to one network.
    package struct Attachment: Sendable {
        /// Id or name.
        package var network: String
        /// A fixed address within the network's block; `nil` lets the engine pick.
        package var address: String?
        /// Names under which the neighbours find the container.
        package var aliases: [String]

        package init(network: String, address: String? = nil, aliases: [String] = []) {
            self.network = network
            self.address = address
            self.aliases = aliases
        }

        var json: JSON {
            var endpoint: [JSON.Member] = [.init("Aliases", .strings(aliases))]
            if let address { endpoint.append(.init("IPAMConfig", ["IPv4Address": .string(address)])) }
            return .object(endpoint)
        }
    }

    package struct Mount: Sendable {
        /// A named volume; made by the engine if it is missing.
        package var volume: String
        /// Absolute, inside the container.
        package var path: String
        package var isReadOnly: Bool

        package init(volume: String, path: String, isReadOnly: Bool = false) {
            self.volume = volume
            self.path = path
            self.isReadOnly = isReadOnly
        }
    }

    package struct Limits: Sendable {
        /// Billionths of one core.
        package var nanoCPUs: Int
        /// Bytes, at least 6 MiB; swap comes on top of nothing.
        package var memory: Int
        /// Processes and threads.
        package var pids: Int

        package init(nanoCPUs: Int, memory: Int, pids: Int) {
            self.nanoCPUs = nanoCPUs
            self.memory = memory
            self.pids = pids
        }
    }

    package var name: String
    package var image: ImageReference
    package var limits: Limits
    package var labels: [String: String]
    /// Replaces the image's command; its entrypoint stays.
    package var command: [String]?
    package var environment: [String: String] = [:]
    /// `nil` is no network at all.
    package var attachment: Attachment?
    package var ports: [PortBinding] = []
    package var mounts: [Mount] = []
    package var hostname: String?
    package var isRootReadOnly = false
    /// Bytes of scratch memory by absolute path.
    package var scratch: [String: Int] = [:]
    /// What of root's powers its processes may have; these are what the official images need to begin with.
    package var capabilities = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL", "NET_BIND_SERVICE"]
    /// Replaces the image's entrypoint.
    package var entrypoint: [String]?
    /// `uid:gid` instead of the image's.
    package var user: String?
    package var workingFolder: String?
    /// Reads its standard input from the one who attaches, until that one goes away; what it writes then is kept nowhere.
    package var hasInput = false

    package init(name: String, image: ImageReference, limits: Limits, labels: [String: String], command: [String]? = nil) {
        self.name = name
        self.image = image
        self.limits = limits
        self.labels = labels
        self.command = command
    }

    /// The body of `POST /containers/create`.
    package var json: JSON {
        var members: [JSON.Member] = [
            .init("Image", .string(image.canonical)), .init("Labels", JSON(labels)),
            .init("Env", .strings(environment.map { "\($0.key)=\($0.value)" }.sorted())),
            .init("ExposedPorts", .object(Set(ports.map(\.key)).sorted().map { .init($0, [:]) })), .init("HostConfig", host),
        ]
        if let command { members.append(.init("Cmd", .strings(command))) }
        if let entrypoint { members.append(.init("Entrypoint", .strings(entrypoint))) }
        if let user { members.append(.init("User", .string(user))) }
        if let workingFolder { members.append(.init("WorkingDir", .string(workingFolder))) }
        if hasInput {
            members += ["OpenStdin", "StdinOnce", "AttachStdin", "AttachStdout", "AttachStderr"].map { .init($0, true) }
        }
        if let hostname { members.append(.init("Hostname", .string(hostname))) }
        if let attachment {
            let endpoints: JSON = .object([.init(attachment.network, attachment.json)])
            members.append(.init("NetworkingConfig", ["EndpointsConfig": endpoints]))
        }
        return .object(members)
    }

    private var host: JSON {
        let bindings = Dictionary(grouping: ports, by: \.key).sorted { $0.key < $1.key }.map { key, bindings in
            JSON.Member(
                key, .array(bindings.map { ["HostIp": .string($0.hostAddress ?? ""), "HostPort": .string(String($0.hostPort))] }))
        }
        return [
            "Init": true, "Privileged": false, "SecurityOpt": ["no-new-privileges"], "CapDrop": ["ALL"],
            "CapAdd": .strings(capabilities),
            "NanoCpus": .int(limits.nanoCPUs), "Memory": .int(limits.memory), "MemorySwap": .int(limits.memory),
            "PidsLimit": .int(limits.pids), "ReadonlyRootfs": .bool(isRootReadOnly),
            "Tmpfs": JSON(scratch.mapValues { "rw,nosuid,nodev,size=\($0)" }),
            "LogConfig": hasInput ? ["Type": "none"] : ["Type": "json-file", "Config": ["max-size": "10m", "max-file": "2"]],
            "RestartPolicy": ["Name": "no"],
            "NetworkMode": .string(attachment?.network ?? "none"), "PortBindings": .object(bindings),
            "Mounts": .array(
                mounts.map {
                    ["Type": "volume", "Source": .string($0.volume), "Target": .string($0.path), "ReadOnly": .bool($0.isReadOnly)]
                }),
        ]
    }
}

/// A TCP port of the host that leads to one of the container.
package struct PortBinding: Sendable, Hashable {
    /// `nil` is every address of the host, IPv6 included.
    package var hostAddress: String?
    /// 0 lets the engine pick, at each start anew.
    package var hostPort: Int
    package var containerPort: Int

    package init(hostAddress: String? = nil, hostPort: Int, containerPort: Int) {
        self.hostAddress = hostAddress
        self.hostPort = hostPort
        self.containerPort = containerPort
    }

    fileprivate var key: String { "\(containerPort)/tcp" }
}
