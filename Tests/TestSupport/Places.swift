// What load balancers and groups live in: a VPC, and a port of this machine.
import Glibc
import HTTP
import Postgres

extension TestCloud {
    /// A VPC of the owner's: the one that it has, or a new one.
    package func vpc(of owner: Owner) throws -> String {
        if let id = call(.get, "/vpcs", key: owner.key)["data"]?[0]?["id"]?.string { return id }
        let answer = call(.post, "/vpcs", key: owner.key, json: ["name": "main", "cidr_block": "10.0.0.0/24"])
        guard let id = answer["data"]?["id"]?.string else { throw Unexpected(description: "a VPC: \(answer)") }
        return id
    }

    /// A port that nobody listens on, and that nobody of this installation holds.
    package func freePort() throws -> Int {
        for _ in 0..<100 {
            let held = try admin(
                """
                select port from generate_series(33000, 60000) port where not exists (select from host_ports where host_port = port)
                order by random() limit 1
                """
            ).scalar(Int.self)
            if let held, Self.isFree(held) { return held }
        }
        throw Unexpected(description: "no port is free")
    }

    private static func isFree(_ port: Int) -> Bool {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        } == 0
    }
}
