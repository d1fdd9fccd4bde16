// The engine's networks: one behind each VPC, and one for whatever of an owner's is in none, made with the first instance and removed with
// the last. The row is locked while the engine is asked, so two threads never make or remove the same one side by side.
// Tables: networks, subnets, addresses; blocks come from THECLOUD_NETWORK_POOL, and one that the engine refuses is exchanged for the next.
import API
import Docker
import HTTP
import Postgres

struct Networks {
    let bench: Workbench

    /// Default networks are this small, so that a pool holds many.
    private static let prefixLength = 24
    /// Blocks that Docker refuses (another network of the engine has them) before the search is given up. After every few of them the search
    /// takes longer steps: a big network in the way is passed soon.
    private static let refusalLimit = 64
    private static let refusalsOfAStep = 8
    /// Whose network it is does not change with its block; the lock leaves those alone who take addresses in it.
    private static let lock: SQL = "for no key update"

    /// What is in its owner's default network, as a condition on `networks n`.
    private static let isInUse: SQL =
        """
        (exists (select from instances i where i.owner_id = n.owner_id and i.vpc_id is null)
        or exists (select from caches c where c.owner_id = n.owner_id))
        """

    private var pools: [String] { bench.config.networkPools.map(\.description) }

    /// Makes the network of a VPC, or the owner's default one, unless it is there.
    /// - Returns: its name.
    /// - Throws: `Unattainable` when no block is left that the engine takes, or the VPC is gone.
    func ensure(for owner: ID, vpc: ID? = nil) throws -> String {
        var refused: [String] = []
        while true {
            if vpc == nil { try reserve(for: owner) }
            let transaction = try bench.connection.begin()
            do {
                let whose: SQL = if let vpc { "id = \(vpc)" } else { "owner_id = \(owner) and is_default" }
                guard var row = try transaction.query("select id, network_cidr::text from networks where \(whose) \(Self.lock)").first
                else {
                    if vpc != nil { throw Unattainable(reason: "The VPC is gone") }
                    transaction.rollback()
                    continue
                }
                let (id, block): (ID, String) = (row.next(), row.next())
                let name = bench.names.network(id)
                let isMade = try make(name, block: block, id: id, owner: owner)
                if !isMade {
                    refused.append(try around(block, after: refused.count, transaction))
                    try move(id, besides: refused, transaction)
                }
                try transaction.commit()
                if isMade { return name }
            } catch {
                transaction.rollback()
                throw error
            }
        }
    }

    /// Sees to it that the owner has a row for a default network; committed before the engine is asked, so that whoever looks for networks
    /// without a row never takes this one for an orphan.
    private func reserve(for owner: ID) throws {
        try Unattainable.ifRefused {
            _ = try bench.connection.begin().commit(
                """
                insert into networks (id, owner_id, is_default, network_cidr)
                select \(bench.newID()), \(owner), true, free_block(\(pools)::cidr[], \(Self.prefixLength), '{}')
                where not exists (select from networks where owner_id = \(owner) and is_default)
                on conflict (owner_id) where is_default do nothing
                """)
        }
    }

    /// The block itself at first, then four times as much around it, then sixteen times.
    private func around(_ block: String, after refusals: Int, _ transaction: Transaction) throws -> String {
        let bits = refusals / Self.refusalsOfAStep * 2
        return try transaction.query(
            "select network(set_masklen(\(block)::inet, greatest(masklen(\(block)::inet) - \(bits)::int, 8)))::text"
        ).scalar()
            ?? block
    }

    /// Gives a network the next free block, and its subnets their places there.
    private func move(_ id: ID, besides refused: [String], _ transaction: Transaction) throws {
        guard refused.count < Self.refusalLimit else { throw Unattainable(reason: "The engine refuses one address block after the other") }
        try Unattainable.ifRefused {
            try transaction.send("select from vpcs where id = \(id) \(Self.lock)")
            try transaction.send(
                """
                update networks set network_cidr = free_block(\(pools)::cidr[], masklen(network_cidr), \(refused)::cidr[]) where id = \(id)
                """)
            try transaction.query(
                """
                update subnets s set network_cidr = shifted(s.cidr_block, v.cidr_block, n.network_cidr)
                from vpcs v, networks n where v.id = \(id) and n.id = \(id) and s.owner_id = v.owner_id and s.vpc_id = v.id
                """)
        }
    }

    /// The gateway is the block's first address behind its own: what is handed out begins after it.
    /// - Returns: false when the engine refuses the block.
    private func make(_ name: String, block: String, id: ID, owner: ID) throws -> Bool {
        do {
            _ = try bench.engine.inspectNetwork(name)
            return true
        } catch EngineError.notFound {
            do {
                let gateway = CIDR(block)?.address(1)
                _ = try bench.engine.createNetwork(
                    name: name, subnet: block, gateway: gateway, labels: bench.names.labels(kind: "network", id: id, owner: owner))
                return true
            } catch EngineError.poolOverlap {
                return false
            }
        }
    }

    /// Removes an owner's default network when nothing is left in it.
    func removeIfUnused(of owner: ID) throws {
        _ = try remove("n.owner_id = \(owner) and n.is_default and not \(Self.isInUse)")
    }

    /// Removes every default network in which nothing is left: whoever took the last thing out may have died before it came to that.
    func removeUnused() throws {
        let owners = try bench.connection.begin().commit("select n.owner_id from networks n where n.is_default and not \(Self.isInUse)")
        for var row in owners { try removeIfUnused(of: row.next()) }
    }

    /// Removes the network of a VPC that is gone.
    /// - Returns: false while a container is attached to it.
    func remove(ofGone vpc: ID) throws -> Bool {
        try remove("n.id = \(vpc) and not n.is_default and not exists (select from vpcs v where v.id = n.id)")
    }

    private func remove(_ condition: SQL) throws -> Bool {
        let transaction = try bench.connection.begin()
        do {
            if let id: ID = try transaction.query("select n.id from networks n where \(condition) \(Self.lock)").scalar() {
                do {
                    try bench.engine.removeNetwork(bench.names.network(id))
                } catch .notFound {}
                try transaction.send("delete from networks where id = \(id)")
            }
            try transaction.commit()
            return true
        } catch EngineError.conflict {
            transaction.rollback()
            return false
        } catch {
            transaction.rollback()
            throw error
        }
    }
}

extension Unattainable {
    /// Tells what a function of ours refuses (TC409), such as the search for a free block or address, as the reason.
    static func ifRefused(_ search: () throws -> Void) throws {
        do {
            try search()
        } catch {
            guard let refusal = error as? DatabaseError, refusal.state == "TC409" else { throw error }
            throw Unattainable(reason: refusal.message)
        }
    }
}
