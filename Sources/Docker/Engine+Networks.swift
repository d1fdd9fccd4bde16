// Bridge networks. Docker keeps bridges apart from each other; an address block belongs to one network only.
import HTTP

package struct EngineNetwork: Sendable, Equatable {
    package let id: String
    package let name: String
    /// CIDR notation, as it was asked for; of several the first.
    package let subnet: String?
    package let gateway: String?
    package let labels: [String: String]
    /// Addresses of running containers by container id; only `inspect` knows them.
    package let addresses: [String: String]
}

extension Engine {
    /// Makes a bridge network of the block.
    /// - Returns: its id.
    /// - Throws: `poolOverlap` when the engine refuses the block, `conflict` when the name is taken.
    package func createNetwork(
        name: String, subnet: String, gateway: String? = nil, labels: [String: String]
    ) throws(EngineError) -> String {
        var block = [JSON.Member("Subnet", .string(subnet))]
        if let gateway { block.append(JSON.Member("Gateway", .string(gateway))) }
        let body: JSON = [
            "Name": .string(name), "CheckDuplicate": true, "Driver": "bridge", "EnableIPv6": false,
            "IPAM": ["Driver": "default", "Config": [.object(block)]], "Labels": JSON(labels),
        ]
        return try json("POST", "/networks/create", body: body)["Id"]?.string ?? ""
    }

    /// - Parameter network: id or name.
    /// - Throws: `notFound`.
    package func inspectNetwork(_ network: String) throws(EngineError) -> EngineNetwork {
        EngineNetwork(try json("GET", "/networks/\(Self.escape(network))"))
    }

    /// All networks that carry all of the labels.
    package func networks(labels: [String: String]) throws(EngineError) -> [EngineNetwork] {
        (try json("GET", "/networks", ["filters": Self.filters(labels)]).array ?? []).map(EngineNetwork.init)
    }

    /// Connects a container to a network.
    /// - Throws: `notFound`; `conflict` or `other` when it is connected already.
    package func connect(_ container: String, to attachment: ContainerSpec.Attachment) throws(EngineError) {
        try call(
            "POST", "/networks/\(Self.escape(attachment.network))/connect",
            body: ["Container": .string(container), "EndpointConfig": attachment.json])
    }

    /// - Throws: `notFound`; `other` when it is not connected.
    package func disconnect(_ container: String, from network: String) throws(EngineError) {
        try call("POST", "/networks/\(Self.escape(network))/disconnect", body: ["Container": .string(container), "Force": true])
    }

    /// - Throws: `notFound`; `conflict` while running containers are attached.
    package func removeNetwork(_ network: String) throws(EngineError) { try call("DELETE", "/networks/\(Self.escape(network))") }
}

extension EngineNetwork {
    fileprivate init(_ json: JSON) {
        let block = json["IPAM"]?["Config"]?[0]
        id = json["Id"]?.string ?? ""
        name = json["Name"]?.string ?? ""
        subnet = block?["Subnet"]?.string
        gateway = block?["Gateway"]?.string
        labels = json["Labels"]?.texts ?? [:]
        addresses = (json["Containers"]?.members ?? [:]).compactMapValues {
            $0["IPv4Address"]?.string.map { String($0.prefix { $0 != "/" }) }
        }
    }
}

extension JSON {
    /// The members of an object by name, of anything else none.
    var members: [String: JSON] {
        guard case .object(let members) = self else { return [:] }
        return Dictionary(members.map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first })
    }

    /// The members that are texts.
    var texts: [String: String] { members.compactMapValues(\.string) }

    /// An object of texts, in the order of their names.
    init(_ texts: [String: String]) {
        self = .object(texts.sorted { $0.key < $1.key }.map { JSON.Member($0.key, .string($0.value)) })
    }
}
