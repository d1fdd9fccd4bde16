// Lost connections and notifications: what a request that meets a dead backend is told, and who hears what was committed.
import HTTP
import Postgres
import System
import TestSupport
import Testing

struct LossTests {
    let database: TestDatabase
    let admin: Connection

    init() throws {
        database = try TestDatabase.shared()
        admin = database.administrator()
    }

    private func kill(_ process: Int) throws {
        // Returns once the backend is gone (second argument: milliseconds to wait).
        #expect(try admin.begin().commit("select pg_terminate_backend(\(process)::int, 5000)").scalar(Bool.self) == true)
    }

    private func process(_ connection: Connection) throws -> Int {
        try #require(try connection.begin().commit("select pg_backend_pid()").scalar(Int.self))
    }

    @Test func aStatementInFlightIsLost() throws {
        let connection = Connection(url: database.api)
        let victim = try process(connection)
        let killer = WorkerThread { [url = database.admin, victim] in
            let admin = Connection(url: url)
            while let rows = try? admin.begin().commit(
                "select pg_terminate_backend(pid) from pg_stat_activity where pid = \(victim)::int and query like 'select pg_sleep%'"),
                rows.isEmpty
            {}
        }
        do {
            _ = try connection.begin().commit("select pg_sleep(60)")
            Issue.record("it slept on")
        } catch {
            #expect(error.isTransient, "\(error)")
        }
        killer.join()
        #expect(try process(connection) != victim, "the next request opens a new session")
    }

    @Test func aTransactionThatMeetsADeadBackendIsLost() throws {
        let connection = Connection(url: database.api)
        let transaction = try connection.begin()
        let victim = try #require(try transaction.query("select pg_backend_pid()").scalar(Int.self))
        try kill(victim)
        #expect(throws: DatabaseError.self) {
            try transaction.query("select 1")
            try transaction.commit()
        }
        transaction.rollback()
        #expect(try process(connection) != victim)
    }

    @Test func anIdleConnectionIsReopenedSilently() throws {
        let connection = Connection(url: database.api)
        _ = try connection.begin().commit("select \(1)::int")
        let victim = try process(connection)
        try kill(victim)
        #expect(try connection.begin().commit("select \(2)::int").scalar(Int.self) == 2, "prepared statements are made anew")
        #expect(try process(connection) != victim)
    }

    @Test func withoutAServerItSaysSo() {
        let connection = Connection(url: "postgresql:///nowhere?host=/nonexistent")
        do {
            _ = try connection.begin()
            Issue.record("it connected")
        } catch {
            guard case .connectionLost = error else {
                Issue.record("\(error)")
                return
            }
            #expect(error.isTransient)
        }
    }

    @Test func aRequestThatLosesItsConnectionIsToldToTryAgain() throws {
        let cloud = try TestCloud()
        let owner = try cloud.newOwner()
        for row in try admin.begin().commit("select pid from pg_stat_activity where pid = \(try process(cloud.connection))::int") {
            var row = row
            try kill(row.next())
        }
        #expect(cloud.call(.get, "/auth/me", key: owner.key).status == 200, "an idle connection that died costs nothing")
    }

    @Test(.timeLimit(.minutes(1))) func whatIsCommittedIsHeard() throws {
        let channel = "test_" + ID(at: .now()).description.replacing("-", with: "_")
        let listener = Listener(url: database.cron, channel: channel)
        listener.wait(milliseconds: 0)
        let connection = Connection(url: database.api)
        let transaction = try connection.begin()
        transaction.notify(channel)
        _ = try transaction.commit("select 1")
        // Without the notification this waits for a minute, beyond the time limit.
        listener.wait(milliseconds: 60_000)
    }
}
