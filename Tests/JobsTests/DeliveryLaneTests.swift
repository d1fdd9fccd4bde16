// The delivery lane's own threads in a database of its own: wishes don't restart a schedule, what a killed process had at hand goes on,
// and slow receivers hold up nobody else's messages.
import API
import Foundation
import HTTP
import Postgres
import Synchronization
import System
import TestSupport
import Testing

@testable import Jobs

@Suite(.serialized)
struct DeliveryLaneTests {
    private static let database: Result<TestDatabase, any Error> = Result { try TestDatabase.fresh("deliveries") }

    let cloud: TestCloud

    init() throws {
        cloud = try TestCloud(["THECLOUD_EGRESS_ALLOW": "127.0.0.0/8"], database: try Self.database.get())
    }

    /// Runs the lane until something holds.
    private func work(until isDone: () throws -> Bool) throws {
        let (isOver, bell) = (Latch(), Bell())
        let config = try TestCloud.config(["THECLOUD_EGRESS_ALLOW": "127.0.0.0/8"], url: cloud.database.cron)
        let threads = (0..<Job.Lane.delivery.threads).map { _ in
            WorkerThread {
                guard let engine = TestCloud.deadEngine() else { return }
                let bench = Workbench(
                    config: config, connection: Connection(url: config.databaseURL), engine: engine,
                    names: EngineNames(stack: ID(at: .now())))
                LaneThread(
                    jobs: [WebhookDelivery.job.kind: WebhookDelivery.job], bench: bench, bell: bell, leases: Leases(),
                    isStopping: { isOver.isSet }
                ).run()
            }
        }
        defer {
            isOver.set()
            for thread in threads { thread.join() }
        }
        try eventually("the deliveries", holds: isDone)
    }

    private final class Latch: Sendable {
        private let value = Atomic(false)
        var isSet: Bool { value.load(ordering: .acquiring) }
        func set() { value.store(true, ordering: .releasing) }
    }

    private func webhook(of owner: Owner, _ server: LocalServer) throws -> String {
        let answer = cloud.call(
            .post, "/api/v1/webhooks", key: owner.key, json: ["url": .string("http://127.0.0.1:\(server.port)/")])
        return try #require(answer["id"]?.string, "\(answer)")
    }

    /// Events as handlers emit them, all fanned out as the publisher does.
    private func emit(_ count: Int, _ owner: Owner, webhooks: Int = 1) throws {
        let ids = (0..<count).map { _ in ID(at: .now()).description }
        try cloud.admin(
            "insert into events (id, owner_id, type) select id, \(owner.id)::uuid, 'a.b' from unnest(\(ids)::uuid[]) id")
        let transaction = try Connection(url: cloud.database.cron).begin()
        transaction.notify("jobs")
        #expect(try transaction.commit("select fan_out_webhooks(\(ids)::uuid[])").scalar(Int.self) == count * webhooks)
    }

    private func count(_ condition: SQL, _ owner: Owner) throws -> Int {
        try cloud.admin("select count(*) from webhook_deliveries where owner_id = \(owner.id)::uuid and \(condition)").scalar() ?? -1
    }

    private func jobs(_ condition: SQL, _ owner: Owner) throws -> Int {
        try cloud.admin(
            """
            select count(*) from jobs j join webhook_deliveries d on d.id::text = j.subject
            where d.owner_id = \(owner.id)::uuid and \(condition)
            """
        ).scalar() ?? -1
    }

    @Test func aWishDoesNotRestartTheSchedule() throws {
        let owner = try cloud.newOwner()
        let server = LocalServer.http { _ in ok("", status: "500 Oops") }
        let webhook = try webhook(of: owner, server)
        try emit(1, owner)
        try work {
            try count("attempts = 1", owner) == 1 && jobs("j.run_at > now() + interval '3 seconds' and j.lease is null", owner) == 1
        }
        for _ in 1...3 { try cloud.admin("select enqueue('webhook_delivery', subject, null) from jobs where kind = 'webhook_delivery'") }
        #expect(try jobs("j.run_at <= now()", owner) == 1)
        try work { try jobs("j.run_at > now() and j.lease is null", owner) == 1 }
        #expect(try count("attempts = 1", owner) == 1 && server.connections == 1)
        #expect(cloud.call(.delete, "/api/v1/webhooks/\(webhook)", key: owner.key).status == 200)
        try cloud.admin("update jobs set run_at = now()")
        try work { try cloud.admin("select count(*) from jobs").scalar(Int.self) == 0 }
        #expect(server.connections == 1)
    }

    /// Every message arrives, whatever a process that was killed had at hand: before its attempt, or after it was stored and before its job was settled.
    @Test func aKilledProcessLosesAndRepeatsNothing() throws {
        let owner = try cloud.newOwner()
        let seen = Recorder<String>()
        let server = LocalServer.http { request in
            seen.add(request.header("webhook-id") ?? "")
            return ok("")
        }
        _ = try webhook(of: owner, server)
        try emit(20, owner)
        try cloud.admin("update jobs set lease = gen_random_uuid(), leased_until = now() + interval '1 second', attempts = 1")
        try cloud.admin(
            """
            update webhook_deliveries set status = 'DELIVERED', attempts = 1, next_attempt_at = null, finished_at = now()
            where id in (select id from webhook_deliveries where owner_id = \(owner.id)::uuid order by id limit 5)
            """)
        try work { try count("status = 'DELIVERED'", owner) == 20 && cloud.admin("select count(*) from jobs").scalar(Int.self) == 0 }
        #expect(seen.values.count == 15 && Set(seen.values).count == 15)
    }

    /// Two owners whose receivers all hang; a third, of whose two receivers one hangs.
    @Test func slowReceiversHoldUpNobodyElse() throws {
        let (slow, idle, fast) = (try cloud.newOwner(), try cloud.newOwner(), try cloud.newOwner())
        let gate = DispatchSemaphore(value: 0)
        let sleeper = LocalServer.http { _ in
            gate.wait()
            gate.signal()
            return ok("")
        }
        let server = LocalServer.http { _ in ok("") }
        for owner in [slow, idle] {
            _ = try webhook(of: owner, sleeper)
            try emit(40, owner)
        }
        _ = (try webhook(of: fast, sleeper), try webhook(of: fast, server))
        try emit(40, fast, webhooks: 2)
        let start = ContinuousClock.now
        try work {
            guard try count("status = 'DELIVERED'", fast) == 40 else { return false }
            #expect(try count("status = 'DELIVERED'", slow) + count("status = 'DELIVERED'", idle) == 0)
            gate.signal()
            return true
        }
        #expect(ContinuousClock.now - start < .seconds(12))
        try cloud.admin("update jobs set run_at = now()")
        try work { try count("status = 'DELIVERED'", slow) == 40 && count("status = 'DELIVERED'", fast) == 80 }
    }
}
