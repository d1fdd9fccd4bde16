// Resolves the names of the gateway's targets: right after a route is made and every 30 s from then on. nginx connects to the address that
// stands in the route and looks up nothing itself. A name that fails keeps its last address for five minutes; one that leads where nothing
// may be sent loses it at once.
// Tables: routes, events.
import API
import HTTP
import Outbound
import Postgres

enum GatewayTarget {
    static let job = Job(kind: "gateway_target", lane: .resolving, attempts: .max, patience: 30) { bench, subject in
        guard let id = ID(subject) else { return .done }
        return try TargetResolution(bench: bench, id: id, rule: bench.config.egress).run()
    }
}

/// One look at where a route's target leads.
struct TargetResolution {
    let bench: Workbench
    let id: ID
    let rule: EgressRule

    private static let seconds = 30.0
    /// A slow name gets at most a sixtieth of a thread's time, so many of them delay nobody else's for long.
    private static let patience = 60.0

    func run() throws -> Job.Outcome {
        guard var row = try bench.connection.begin().commit("select target, status from routes where id = \(id)").first else {
            return .done
        }
        let (url, status): (String, String) = (row.next(), row.next())
        guard let target = try? Target(url), case .name = target.host else { return .done }
        let start = ContinuousClock.now
        do {
            try store("ACTIVE", before: status, url, address: try rule.address(of: target).addressText, reason: nil, keepsLast: false)
        } catch let error as OutboundError {
            let reason = error == .forbidden ? "The target \(EgressRule.refusal)" : error.description
            try store("ERROR", before: status, url, address: nil, reason: reason, keepsLast: error != .forbidden)
        }
        return .again(seconds: max(Self.seconds, (ContinuousClock.now - start) / .seconds(1) * Self.patience))
    }

    /// Writes only what is new, and tells the owner's listeners of another status.
    private func store(_ status: String, before: String, _ url: String, address: String?, reason: String?, keepsLast: Bool) throws {
        let failingSince: SQL = "case when \(status) = 'ERROR' then coalesce(failing_since, now()) end"
        let last: SQL = "case when \(keepsLast) and \(failingSince) > now() - interval '5 minutes' then address end"
        let transaction = try bench.connection.begin()
        try transaction.send(
            """
            with told as (
                update routes set status = \(status), status_reason = \(reason), failing_since = \(failingSince),
                address = coalesce(\(address)::text, \(last))
                where id = \(id) and target = \(url)
                and (status, status_reason, address) is distinct from (\(status), \(reason), coalesce(\(address)::text, \(last)))
                returning owner_id, id, name, prefix
            )
            insert into events (id, owner_id, type, resource_id, data)
            select \(bench.newID())::uuid, owner_id, 'route.' || \(status == "ACTIVE" ? "active" : "error")::text, id,
            jsonb_build_object('name', name, 'prefix', prefix, 'status_reason', \(reason)::text) from told where \(status != before)
            """)
        transaction.notify("events")
        try transaction.commit()
    }
}
