// The channels of GET /ws, with a server that plays nchan's process: what it is told, and what it is told once more after it began anew.
import API
import Glibc
import HTTP
import Postgres
import Synchronization
import System
import TestSupport
import Testing

@testable import Jobs

/// nchan's process: it knows what it was told since it began.
private final class Nchan: Sendable {
    private struct Memory {
        var messages: [(channel: String, event: String)] = []
        /// How many there were when sockets were first let in.
        var whenFilled: [Int] = []
        /// So many more are taken, then one is refused.
        var patience = Int.max
    }

    private let memory = Mutex(Memory())
    private let second: Int
    private let folder = Folder()
    private let server = Mutex<LocalServer?>(nil)

    /// - Parameter second: of all that is published.
    init(second: Int) {
        self.second = second
        _ = mkdir(folder.path + "/publish", 0o700)
        let serving = LocalServer.http(unixSocket: folder.path + "/publish/channels.sock") { [unowned self] in answer($0) }
        server.withLock { $0 = serving }
    }

    var runFolder: String { folder.path }
    var events: [String] { memory.withLock { $0.messages.map(\.event) } }
    var channels: Set<String> { memory.withLock { Set($0.messages.map(\.channel)) } }
    var whenFilled: [Int] { memory.withLock { $0.whenFilled } }

    func refuse(after count: Int) { memory.withLock { $0.patience = count } }
    func beginAnew() { memory.withLock { $0 = Memory() } }

    private func answer(_ request: LocalServer.Received) -> String {
        let words = request.line.split(separator: " ")
        return memory.withLock { memory in
            let receipt = ok("{\"subscribers\":0,\"last_message_id\":\"\(second):\(memory.messages.count)\"}")
            switch (words[0], words[1]) {
            case ("GET", "/filled"): return memory.whenFilled.isEmpty ? ok("", status: "404 Not Found") : receipt
            case ("POST", "/filled"): memory.whenFilled.append(memory.messages.count)
            default:
                guard memory.patience > 0 else {
                    memory.patience = .max
                    return ok("", status: "500 Internal Server Error")
                }
                memory.patience -= 1
                memory.messages.append((String(words[1]), (try? JSON(parsing: request.body))?["id"]?.string ?? "?"))
            }
            return receipt
        }
    }
}

@Suite(.serialized) struct RefillingTests {
    private static let database = Result { try TestDatabase.fresh("live") }

    private let cloud: TestCloud
    private let owner: Owner
    private let nchan = Nchan(second: Int(Timestamp.now().microseconds / 1_000_000))

    /// The suite has a database of its own, and each test an empty table in it.
    init() throws {
        cloud = try TestCloud(database: try Self.database.get())
        owner = try cloud.newOwner()
        try cloud.admin("delete from events")
    }

    private func realtime() throws -> (publishing: Realtime, refilling: Refilling) {
        let bench = Workbench(
            config: try TestCloud.config(["THECLOUD_RUN": nchan.runFolder], url: cloud.database.cron),
            connection: Connection(url: cloud.database.cron), engine: try #require(TestCloud.deadEngine()),
            names: EngineNames(stack: ID(at: .now())))
        let channels = Channels(runFolder: nchan.runFolder)
        return (
            Realtime(bench: bench, isStopping: { false }), Refilling(connection: Connection(url: cloud.database.cron), channels: channels)
        )
    }

    private func emit(_ types: String...) throws -> [String] {
        try types.map { type in
            // Ids of one millisecond come in no order.
            usleep(2000)
            let id = ID(at: .now())
            try cloud.admin("insert into events (id, owner_id, type, data) values (\(id), \(owner.id)::uuid, \(type), '{}')")
            return id.description
        }
    }

    /// The published events in the order of the table's numbers, and the places that are noted of them.
    private func noted() throws -> (events: [String], places: [String]) {
        var found: (events: [String], places: [String]) = ([], [])
        for var row in try cloud.admin("select id, message_id from events where is_published order by published_no") {
            found.events.append(row.next(ID.self).description)
            found.places.append(row.next())
        }
        return found
    }

    @Test func `a process that began anew gets the last minute again, in order, before it lets sockets in`() throws {
        let (publishing, refilling) = try realtime()
        try refilling.keep()
        #expect(nchan.whenFilled == [0], "nothing has happened yet")
        let old = try emit("run.created")
        _ = try publishing.publish()
        try cloud.admin("update events set message_id = (extract(epoch from now()) - 200)::bigint || ':0'")
        let made = try emit("run.created", "server.created", "run.updated")
        _ = try publishing.publish()
        #expect(nchan.events == old + made)
        try refilling.keep()
        #expect(nchan.whenFilled == [0] && nchan.events == old + made, "it has them all")

        nchan.beginAnew()
        try refilling.keep()
        #expect(nchan.events == made && nchan.whenFilled == [3])
        #expect(nchan.channels == ["/channels/u/\(owner.id)/run", "/channels/u/\(owner.id)/server"])
        let noted = try noted()
        #expect(noted.events == old + made, "the order of before")
        #expect(noted.places.suffix(3).map { $0.split(separator: ":")[1] } == ["0", "1", "2"], "the places of now")
        let later = try emit("run.deleted")
        _ = try publishing.publish()
        #expect(nchan.events == made + later)
    }

    @Test func `where it is refused midway, what was taken is noted and the rest comes again`() throws {
        let (publishing, refilling) = try realtime()
        try refilling.keep()
        let made = try emit("run.created", "run.updated", "run.deleted")
        nchan.refuse(after: 2)
        #expect(throws: (any Error).self) { try publishing.publish() }
        #expect(try noted().events == Array(made.prefix(2)))
        _ = try publishing.publish()
        #expect(try noted().events == made && nchan.events == made, "none of them twice")

        nchan.beginAnew()
        nchan.refuse(after: 1)
        #expect(throws: (any Error).self) { try refilling.keep() }
        #expect(nchan.whenFilled == [], "half of it lets nobody in")
        try refilling.keep()
        #expect(nchan.whenFilled == [4] && nchan.events.suffix(3) == made[...])
        #expect(try noted().places.map { $0.split(separator: ":")[1] } == ["1", "2", "3"], "those that came last")
    }

    @Test func `of several that see it one fills`() throws {
        let (publishing, refilling) = try realtime()
        try refilling.keep()
        let made = try emit("run.created", "run.updated")
        _ = try publishing.publish()
        nchan.beginAnew()
        let (url, folder) = (cloud.database.cron, nchan.runFolder)
        let threads = (0..<4).map { _ in
            WorkerThread { try? Refilling(connection: Connection(url: url), channels: Channels(runFolder: folder)).keep() }
        }
        for thread in threads { thread.join() }
        #expect(nchan.events == made && nchan.whenFilled == [2])
    }

    @Test func `a client that comes behind an event which is being published is told to wait`() throws {
        let (publishing, refilling) = try realtime()
        try refilling.keep()
        let event = try emit("run.created")[0]
        func open() -> Answer {
            cloud.call(
                .post, "/_sockets/live/open?last_event_id=\(event)", key: owner.key, socket: ID(at: .now()).description.filter { $0 != "-" }
            )
        }
        #expect(open().status == 503, "\(open())")
        _ = try publishing.publish()
        let answer = open()
        #expect(answer.status == 204)
        #expect(answer.header("X-Since")?.contains("[0]") == true, "\(answer.header("X-Since") ?? "none")")
    }
}
