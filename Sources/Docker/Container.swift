// Containers as the engine reports them.
// A list is cheaper than inspecting, but knows neither exit code nor reason.
import HTTP

package enum ContainerState: String, Sendable {
    case created, running, paused, restarting, removing, exited, dead
}

/// One container of a list.
package struct ContainerSummary: Sendable, Equatable {
    package let id: String
    package let name: String
    /// As it was asked for at creation, or an id when that name moved on.
    package let image: String
    package let state: ContainerState
    package let labels: [String: String]
    /// Addresses by network name; none while it is stopped.
    package let addresses: [String: String]
}

/// One container in full.
package struct Container: Sendable, Equatable {
    package let id: String
    package let name: String
    package let image: String
    package let state: ContainerState
    /// The last run's; 0 before the first.
    package let exitCode: Int
    /// The kernel ended it for its memory limit.
    package let isOutOfMemory: Bool
    /// Why the last start failed, in the engine's words; empty when it did not.
    package let error: String
    /// RFC 3339; `0001-01-01T00:00:00Z` for never.
    package let startedAt: String
    package let finishedAt: String
    package let labels: [String: String]
    /// Addresses by network name; none while it is stopped.
    package let addresses: [String: String]
    /// What is published right now: picked ports filled in, one entry for each address family, IPv4 first; none while it is stopped.
    package let ports: [PortBinding]
    /// Paths by volume name.
    package let mounts: [String: String]
}

extension ContainerSummary {
    init(_ json: JSON) {
        id = json["Id"]?.string ?? ""
        name = String((json["Names"]?[0]?.string ?? "").drop { $0 == "/" })
        image = json["Image"]?.string ?? ""
        state = json["State"]?.string.flatMap(ContainerState.init) ?? .dead
        labels = json["Labels"]?.texts ?? [:]
        addresses = Container.addresses(json)
    }
}

extension Container {
    init(_ json: JSON) {
        let state = json["State"]
        id = json["Id"]?.string ?? ""
        name = String((json["Name"]?.string ?? "").drop { $0 == "/" })
        image = json["Config"]?["Image"]?.string ?? ""
        self.state = state?["Status"]?.string.flatMap(ContainerState.init) ?? .dead
        exitCode = state?["ExitCode"]?.int ?? 0
        isOutOfMemory = state?["OOMKilled"] == .bool(true)
        error = state?["Error"]?.string ?? ""
        startedAt = state?["StartedAt"]?.string ?? ""
        finishedAt = state?["FinishedAt"]?.string ?? ""
        labels = json["Config"]?["Labels"]?.texts ?? [:]
        addresses = Self.addresses(json)
        ports = Self.ports(json)
        let volumes = (json["Mounts"]?.array ?? []).filter { $0["Type"]?.string == "volume" }
        mounts = Dictionary(
            volumes.map { ($0["Name"]?.string ?? "", $0["Destination"]?.string ?? "") }, uniquingKeysWith: { first, _ in first })
    }

    fileprivate static func addresses(_ json: JSON) -> [String: String] {
        (json["NetworkSettings"]?["Networks"]?.members ?? [:]).compactMapValues {
            $0["IPAddress"]?.string.flatMap { $0.isEmpty ? nil : $0 }
        }
    }

    private static func ports(_ json: JSON) -> [PortBinding] {
        let bindings = (json["NetworkSettings"]?["Ports"]?.members ?? [:]).flatMap { key, value -> [PortBinding] in
            guard key.hasSuffix("/tcp"), let containerPort = Int(key.dropLast(4)) else { return [] }
            return (value.array ?? []).compactMap { binding in
                guard let hostPort = binding["HostPort"]?.string.flatMap({ Int($0) }) else { return nil }
                return PortBinding(hostAddress: binding["HostIp"]?.string, hostPort: hostPort, containerPort: containerPort)
            }
        }
        return bindings.sorted {
            ($0.containerPort, $0.hostAddress?.contains(":") == true ? 1 : 0, $0.hostPort)
                < ($1.containerPort, $1.hostAddress?.contains(":") == true ? 1 : 0, $1.hostPort)
        }
    }
}
