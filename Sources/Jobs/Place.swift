// Where a container lives: its network, the address that is its own there, and the names under which its neighbours find it.
// Table addresses: a row for each container in a VPC, made with the container's own row (`pick_address`), gone with it.
import API
import Docker
import HTTP
import Postgres

struct Place {
    /// The kinds that have addresses, by the column of `addresses` that names them.
    enum Holder: String {
        case instance = "instance_id"
        case loadBalancer = "load_balancer_id"
    }

    let bench: Workbench
    let holder: Holder
    let id: ID
    let owner: ID
    /// `nil`: the owner's default network, where the engine picks addresses.
    let vpc: ID?

    private var isHeld: SQL { "a.\(verbatim: holder.rawValue) = \(id) and a.owner_id = \(owner)" }

    /// What a container's spec says of it. The network exists then.
    /// - Parameter last: the address it had, which it gets again where the engine picks.
    /// - Throws: `Unattainable` when the network can't be had.
    func attachment(aliases: [String], keeping last: String? = nil) throws -> ContainerSpec.Attachment {
        let network = try Networks(bench: bench).ensure(for: owner, vpc: vpc)
        guard vpc != nil else {
            // The network may have moved to another block meanwhile.
            let kept = try bench.connection.begin().commit(
                "select \(last) from networks where owner_id = \(owner) and is_default and \(last)::inet << network_cidr"
            ).scalar(String.self)
            return .init(network: network, address: kept, aliases: aliases)
        }
        let address = try bench.connection.begin().commit(
            """
            select host(host(n.network_cidr)::inet + a.number) from addresses a
            join networks n on n.owner_id = a.owner_id and n.id = a.network_id where \(isHeld)
            """
        ).scalar(String.self)
        guard let address else { throw Unattainable(reason: "It has no address in its VPC") }
        return .init(network: network, address: address, aliases: aliases)
    }

    /// Takes another address, because somebody on the engine has this one. The container still has to be moved there.
    /// - Parameter subnet: where it must lie.
    /// - Throws: `Unattainable` when none is left.
    func exchangeAddress(within subnet: ID?) throws {
        guard let vpc else { return }
        let busy = try bench.engine.inspectNetwork(bench.names.network(vpc)).addresses.values.sorted()
        try Unattainable.ifRefused {
            _ = try bench.connection.begin().commit(
                "update addresses a set number = pick_address(\(vpc), \(subnet), \(busy)::inet[]) where \(isHeld)")
        }
    }
}
