// Makes the network of one VPC, or removes it when the VPC is gone; may be killed anywhere. Tables: vpcs, networks.
import API
import HTTP
import Postgres

enum VPCJob {
    static let job = Job(kind: "vpc", lane: .engine, attempts: .max, patience: 5) { bench, subject in
        guard let id = ID(subject) else { return .done }
        let networks = Networks(bench: bench)
        guard let owner: ID = try bench.connection.begin().commit("select owner_id from vpcs where id = \(id)").scalar() else {
            return try networks.remove(ofGone: id) ? .done : .again(seconds: 1)
        }
        do {
            _ = try networks.ensure(for: owner, vpc: id)
            try report("AVAILABLE", reason: nil, id, bench)
        } catch let failure as Unattainable {
            try report("ERROR", reason: failure.reason, id, bench)
        }
        return .done
    }

    /// VPCs whose network is not among these, and networks whose VPC is gone.
    static func unsettled(besides present: [String]) -> SQL {
        """
        select n.id from networks n left join vpcs v on v.id = n.id
        where not n.is_default and (v.id is null or n.id <> all (\(present)::uuid[]))
        """
    }

    private static func report(_ status: String, reason: String?, _ id: ID, _ bench: Workbench) throws {
        let block: SQL = "(select n.network_cidr::text from networks n where n.owner_id = changed.owner_id and n.id = changed.id)"
        try bench.tell(
            "'vpc.' || lower(status)",
            of: """
                update vpcs set status = \(status), status_reason = \(reason), updated_at = now()
                where id = \(id) and (status, status_reason) is distinct from (\(status), \(reason))
                returning owner_id, id, name, status, status_reason
                """, data: "\(.state) || jsonb_build_object('network_cidr', \(block))")
    }
}
