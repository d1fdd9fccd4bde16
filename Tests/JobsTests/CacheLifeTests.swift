// Caches on the real engine, spoken to as any client of Redis does. Jobs are run by hand; `theThreads…` leaves them to thecloud-cron's.
import API
import Docker
import HTTP
import Postgres
import TestSupport
import Testing

@testable import Jobs

struct CacheLifeTests {
    private static let quiet: Result<Bench, any Error> = Result {
        try StandInImages.prepare(["redis:7-alpine"])
        return try Bench("caches", pool: "10.124.0.0/16")
    }

    let bench: Bench
    let cloud: TestCloud
    let owner: Owner
    let engine: Engine

    init() throws {
        bench = try Self.quiet.get()
        cloud = try bench.cloud()
        owner = try cloud.newOwner()
        engine = try #require(Engine())
    }

    private func create(_ memoryMB: Int = 16) throws -> ID {
        let answer = cloud.call(.post, "/caches", key: owner.key, json: ["name": "sessions", "memory_mb": .int(memoryMB)])
        return try #require(answer["data"]?["id"]?.string.flatMap { ID($0) }, "\(answer)")
    }

    private func shown(_ id: ID) -> JSON { cloud.call(.get, "/caches/\(id)", key: owner.key)["data"] ?? .null }

    private func url(_ id: ID) throws -> String { try #require(shown(id)["connection_url"]?.string) }

    private func converge(_ id: ID) throws { try bench.converge(id.description, by: CacheJob.job) }

    private func name(_ id: ID) -> String { bench.names.name("cache", id) }

    private func delete(_ id: ID) throws {
        #expect(cloud.call(.delete, "/caches/\(id)", key: owner.key).status == 200)
        try converge(id)
        #expect(shown(id) == .null)
        #expect(throws: EngineError.notFound) { try engine.inspect(name(id)) }
        #expect(throws: EngineError.notFound) { try engine.inspectVolume(name(id)) }
    }

    /// Logged in.
    private func client(_ id: ID) throws -> Redis {
        let url = try url(id)
        let (redis, password) = try eventually("\(url) takes connections") { Redis.connect(url) }
        #expect(try redis("AUTH", password) == "OK")
        return redis
    }

    @Test func aWholeLife() throws {
        let id = try create(32)
        try converge(id)
        #expect(shown(id)["status"] == "RUNNING", "\(shown(id).text)")
        let (stranger, password) = try #require(Redis.connect(try url(id)))
        #expect(try stranger("GET", "a") == "-NOAUTH Authentication required.")
        #expect(try stranger("AUTH", "wrong")?.hasPrefix("-WRONGPASS") == true)
        #expect(try stranger("GET", "a") == "-NOAUTH Authentication required.")

        // As redis-cli does it with such a URL.
        #expect(try stranger("AUTH", "", password) == "OK")
        #expect(try stranger("ACL", "WHOAMI") == "")
        #expect(try stranger("CONFIG", "SET", "maxmemory", "0")?.hasPrefix("-NOPERM") == true)

        var redis = try client(id)
        #expect(try redis("SET", "greeting", "hello") == "OK")
        #expect(try redis("GET", "greeting") == "hello")
        #expect(try redis("GET", "nothing") == nil)
        #expect(try redis("CONFIG", "GET", "maxmemory") == "maxmemory \(32 << 20)")
        #expect(try redis("CONFIG", "GET", "maxmemory-policy") == "maxmemory-policy allkeys-lru")
        for command in [
            ["CONFIG", "SET", "maxmemory", "0"], ["ACL", "LIST"], ["SHUTDOWN"], ["REPLICAOF", "a", "1"], ["PSYNC", "?", "-1"],
        ] {
            let answer = try redis(command)
            #expect(answer?.hasPrefix("-NOPERM") == true, "\(command): \(answer ?? "")")
        }

        let stats = cloud.call(.get, "/caches/\(id)/stats", key: owner.key)
        #expect(stats["data"]?["max_memory_bytes"] == .int(32 << 20) && stats["data"]?["keys"] == 1, "\(stats)")
        #expect(stats["data"]?["hits"] == 1 && stats["data"]?["misses"] == 1)
        #expect((stats["data"]?["used_memory_bytes"]?.int ?? 0) > 0 && (stats["data"]?["connected_clients"]?.int ?? 0) >= 2)
        #expect(shown(id)["stats"]?["keys"] == 1)

        let present = try engine.inspect(name(id))
        #expect(present.mounts == [name(id): "/data"])
        #expect(present.labels["thecloud.owner"] == owner.id && present.labels["thecloud.kind"] == "cache")
        #expect(try engine.inspectVolume(name(id)).labels["thecloud.id"] == id.description)
        let inside = try engine.execute(["sh", "-c", "cat /etc/thecloud-cache.conf /data/* /proc/*/environ /proc/*/cmdline"], in: name(id))
        #expect(inside.output.contains("maxmemory 32mb") && !inside.output.contains(password))

        // Killed, and made anew: the data and the URL stay.
        let before = try url(id)
        try engine.kill(name(id))
        _ = try engine.wait(name(id), timeout: 30_000)
        try converge(id)
        redis = try client(id)
        #expect(try redis("GET", "greeting") == "hello")
        try engine.remove(name(id), force: true)
        try converge(id)
        redis = try client(id)
        #expect(try redis("GET", "greeting") == "hello")
        #expect(try url(id) == before)
        try delete(id)
        try converge(id)
    }

    @Test func theOldestGoesWhenMemoryIsFull() throws {
        let id = try create()
        try converge(id)
        let redis = try client(id)
        let block = String(repeating: "x", count: 1 << 20)
        for number in 0..<40 { #expect(try redis("SET", "block-\(number)", block) == "OK") }
        #expect(try redis("GET", "block-0") == nil)
        #expect(try redis("STRLEN", "block-39") == "\(1 << 20)")
        #expect((shown(id)["stats"]?["evicted_keys"]?.int ?? 0) > 20)
        try delete(id)
    }

    /// Wherever the process died in the middle of it.
    @Test(arguments: ["volume", "container", "started"])
    func anInterruptedCreationIsFinished(step: String) throws {
        let id = try create()
        let labels = bench.names.labels(kind: "cache", id: id, owner: try #require(ID(owner.id)))
        try engine.createVolume(name: name(id), labels: labels)
        if step != "volume" {
            #expect(try CacheJob.job.run(try bench.workbench(), id.description) == .again(seconds: 0), "it is made")
        }
        if step == "started" {
            #expect(try CacheJob.job.run(try bench.workbench(), id.description) == .again(seconds: 0), "it is started")
        }
        try converge(id)
        #expect(try client(id)("PING") == "PONG")
        try converge(id)
        try delete(id)
    }

    @Test(arguments: ["container", "volume"])
    func anInterruptedDeletionIsFinished(step: String) throws {
        let id = try create()
        try converge(id)
        #expect(cloud.call(.delete, "/caches/\(id)", key: owner.key).status == 200)
        try engine.remove(name(id), force: true)
        if step == "volume" { try engine.removeVolume(name(id)) }
        try delete(id)
    }

    /// Its last row is gone, and nobody came to the network any more.
    @Test func aNetworkInWhichNothingIsLeftIsRemoved() throws {
        let id = try create()
        try converge(id)
        let network = try #require(try engine.inspect(name(id)).addresses.keys.first)
        try engine.remove(name(id), force: true)
        try engine.removeVolume(name(id))
        try cloud.admin("delete from caches where id = \(id)")
        try EngineWatch(bench: try bench.workbench(), isStopping: { false }).sweep()
        #expect(throws: EngineError.notFound) { try engine.inspectNetwork(network) }
        let owner = try #require(ID(owner.id))
        let left = try bench.workbench().connection.begin().commit("select count(*)::int from networks where owner_id = \(owner)")
        #expect(left.scalar(Int.self) == 0)
    }

    @Test func aPortThatSomebodyTookIsExchangedBeforeItRan() throws {
        let id = try create()
        let picked = try #require(shown(id)["port"]?.int)
        let squatter = try Squatter(port: picked)
        try converge(id)
        #expect(shown(id)["status"] == "RUNNING" && shown(id)["port"] != .int(picked))
        #expect(try client(id)("PING") == "PONG")
        #expect(squatter.port == picked)

        // Afterwards it is what clients know.
        let port = try #require(shown(id)["port"]?.int)
        try engine.stop(name(id))
        let second = try eventually("the port is free") { try? Squatter(port: port) }
        try converge(id)
        #expect(shown(id)["status"] == "ERROR" && shown(id)["port"] == .int(port))
        #expect(shown(id)["status_reason"]?.string?.hasPrefix("Its host port is in use on this machine") == true)
        #expect(second.port == port)

        // It waits for the port.
        try converge(id)
        let waiting = try engine.inspect(name(id))
        #expect(waiting.state == .created)
        try converge(id)
        #expect(try engine.inspect(name(id)).id == waiting.id)
        #expect(!CacheJob.watched.isSettled("RUNNING", "ERROR", .created))
        try delete(id)
    }

    @Test func aCacheKeepsTheNetworkOfItsOwner() throws {
        let id = try create()
        try converge(id)
        let network = try #require(try engine.inspect(name(id)).addresses.keys.first)
        try Networks(bench: try bench.workbench()).removeIfUnused(of: try #require(ID(owner.id)))
        _ = try engine.inspectNetwork(network)
        try delete(id)
        #expect(throws: EngineError.notFound) { try engine.inspectNetwork(network) }
    }

    @Test func theThreadsDoAllOfIt() throws {
        let bench = try Rig.shared.get().bench
        let cloud = try bench.cloud()
        let owner = try cloud.newOwner()
        let made = cloud.call(.post, "/caches", key: owner.key, json: ["name": "sessions", "memory_mb": 16])
        let id = try #require(made["data"]?["id"]?.string.flatMap { ID($0) }, "\(made)")
        func status() -> String {
            let answer = cloud.call(.get, "/caches/\(id)", key: owner.key)
            return answer["data"]?["status"]?.string ?? answer.code ?? ""
        }
        try eventually("it runs", holds: { status() == "RUNNING" })
        let first = try engine.inspect(bench.names.name("cache", id)).startedAt
        try engine.kill(bench.names.name("cache", id))
        try eventually(
            "it runs again",
            holds: {
                let present = try engine.inspect(bench.names.name("cache", id))
                return present.state == .running && present.startedAt != first
            })
        #expect(cloud.call(.delete, "/caches/\(id)", key: owner.key).status == 200)
        try eventually("it is gone", holds: { status() == "NOT_FOUND" })
        #expect(throws: EngineError.notFound) { try engine.inspectVolume(bench.names.name("cache", id)) }
    }
}
