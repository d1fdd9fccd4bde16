// The engine's network of an owner: made with the first instance, removed with the last. The row is locked while the engine is asked,
// so two threads never make or remove the same one side by side. Table networks; blocks come from THECLOUD_NETWORK_POOL.
import API
import Docker
import HTTP
import Postgres

struct Networks {
    let bench: Workbench

    /// Default networks are this small, so that a pool holds many.
    private static let prefixLength = 24
    /// Blocks that Docker refuses (a route or another network of the host has them) before the search is given up.
    private static let refusalLimit = 64

    struct PoolExhausted: Error, CustomStringConvertible {
        let description = "no free address block is left in THECLOUD_NETWORK_POOL"
    }

    /// The name of the owner's network, which exists then.
    func ensure(for owner: ID) throws -> String {
        var refused: [String] = []
        while refused.count < Self.refusalLimit {
            guard try reserve(for: owner, besides: refused) else { continue }
            let transaction = try bench.connection.begin()
            do {
                guard let (id, block) = try lock(of: owner, transaction) else {
                    transaction.rollback()
                    continue
                }
                let name = bench.names.network(id)
                if try make(name, block: block, id: id, owner: owner) {
                    try transaction.commit()
                    return name
                }
                refused.append(block)
                _ = try transaction.commit("delete from networks where owner_id = \(owner) and id = \(id)")
            } catch {
                transaction.rollback()
                throw error
            }
        }
        throw PoolExhausted()
    }

    /// Sees to it that the owner has a row, with the first block that nobody has when it is new; committed before the engine is asked,
    /// so that whoever looks for networks without a row never takes this one for an orphan.
    /// - Returns: false when another owner took the block at the same moment.
    private func reserve(for owner: ID, besides refused: [String]) throws -> Bool {
        let pool = bench.config.networkPool
        let count = 1 << (Self.prefixLength - pool.prefixLength)
        do {
            _ = try bench.connection.begin().commit(
                """
                insert into networks (id, owner_id, network_cidr)
                select \(bench.newID()), \(owner), block from (
                    select set_masklen(host(\(pool.description)::cidr)::inet + n * \(1 << (32 - Self.prefixLength))::bigint,
                        \(Self.prefixLength))::cidr from generate_series(0, \(count - 1)::bigint) n) as candidates (block)
                where not exists (select from networks where owner_id = \(owner)) and block::text <> all (\(refused)::text[])
                and not exists (select from networks where network_cidr && block)
                limit 1 on conflict (owner_id) do nothing
                """)
            return true
        } catch {
            guard error.constraint == "networks_apart" else { throw error }
            return false
        }
    }

    private func lock(of owner: ID, _ transaction: Transaction) throws -> (ID, block: String)? {
        let rows = try transaction.query("select id, network_cidr::text from networks where owner_id = \(owner) for update")
        guard var row = rows.first else { return nil }
        return (row.next(), row.next())
    }

    /// - Returns: false when the engine refuses the block.
    private func make(_ name: String, block: String, id: ID, owner: ID) throws(EngineError) -> Bool {
        do {
            _ = try bench.engine.inspectNetwork(name)
            return true
        } catch .notFound {
            do {
                _ = try bench.engine.createNetwork(
                    name: name, subnet: block, labels: bench.names.labels(kind: "network", id: id, owner: owner))
                return true
            } catch .poolOverlap {
                return false
            }
        }
    }

    func removeIfUnused(of owner: ID) throws {
        let transaction = try bench.connection.begin()
        do {
            let rows = try transaction.query(
                """
                select id from networks where owner_id = \(owner)
                and not exists (select from instances where owner_id = \(owner)) for update
                """)
            if var row = rows.first {
                let id: ID = row.next()
                do {
                    try bench.engine.removeNetwork(bench.names.network(id))
                } catch .notFound {}
                try transaction.send("delete from networks where owner_id = \(owner) and id = \(id)")
            }
            try transaction.commit()
        } catch {
            transaction.rollback()
            throw error
        }
    }
}
