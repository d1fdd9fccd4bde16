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
    /// View and event of each.
    var told: [String] { memory.withLock { $0.messages.map { "\($0.channel.split(separator: "/").last ?? "") \($0.event)" } } }
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
        try listen("run+server")
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

    /// Somebody has sockets with this view.
    private func listen(_ view: String) throws {
        try cloud.admin("insert into live_views (owner_id, view) values (\(owner.id)::uuid, \(view))")
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
        for var row in try cloud.admin(
            "select id, coalesce(places ->> 'run+server', '') from events where is_published order by published_no")
        {
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
        try cloud.admin("update events set places = jsonb_build_object('run+server', (extract(epoch from now()) - 200)::bigint || ':0')")
        let made = try emit("run.created", "server.created", "run.updated")
        _ = try publishing.publish()
        #expect(nchan.events == old + made)
        try refilling.keep()
        #expect(nchan.whenFilled == [0] && nchan.events == old + made, "it has them all")

        nchan.beginAnew()
        try refilling.keep()
        #expect(nchan.events == made && nchan.whenFilled == [3])
        #expect(nchan.channels == ["/channels/u/\(owner.id)/run+server"])
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

    @Test func `each view gets the events of its kinds, once, though nginx fails between two of them`() throws {
        let (publishing, refilling) = try realtime()
        try refilling.keep()
        try listen("run")
        let made = try emit("run.created", "server.created", "queue.created")
        nchan.refuse(after: 1)
        #expect(throws: (any Error).self) { try publishing.publish() }
        #expect(try nchan.told == ["run \(made[0])"] && noted().events.isEmpty, "the other view is still to get it")
        _ = try publishing.publish()
        #expect(nchan.told == ["run \(made[0])", "run+server \(made[0])", "run+server \(made[1])"])
        #expect(try noted().events == made, "nobody hears of queues, which is no reason to wait")

        nchan.beginAnew()
        try refilling.keep()
        #expect(nchan.told == ["run \(made[0])", "run+server \(made[0])", "run+server \(made[1])"])
    }

    @Test func `views that no socket has go after some minutes, but for those that are in use`() throws {
        let keeping = SocketKeeping(connection: Connection(url: cloud.database.cron), channels: Channels(runFolder: nchan.runFolder))
        try listen("run")
        try listen("server")
        let socket = ID(at: .now()).description.filter { $0 != "-" }
        try cloud.admin("insert into sockets (id, kind, owner_id, view) values (\(socket), 'live', \(owner.id)::uuid, 'run')")
        try cloud.admin("update live_views set used_at = now() - interval '6 minutes' where view <> 'run+server'")
        try keeping.closeEnded()
        let views = try cloud.admin("select view from live_views where owner_id = \(owner.id)::uuid order by view").map { row in
            var row = row
            return row.next(String.self)
        }
        #expect(views == ["run", "run+server"])
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
        func open(_ query: String = "") -> Answer {
            cloud.call(
                .post, "/_sockets/live/open\(query)", key: owner.key, socket: ID(at: .now()).description.filter { $0 != "-" })
        }
        let channels = try #require(open().header("X-Channels"), "what it may read")
        #expect(channels.contains(",u/\(owner.id)/") && channels.contains("+instance+") && channels.hasSuffix(",m/\(owner.id)"))
        let event = try emit("run.created")[0]
        let behind = "?last_event_id=\(event)"
        #expect(open(behind).status == 503)
        _ = try publishing.publish()
        // The first of the two views that are told.
        #expect(open(behind).header("X-Since")?.wholeMatch(of: /[0-9]{10}:-,\[0\],-/) != nil, "\(open(behind).header("X-Since") ?? "none")")
        #expect(open("?last_event_id=\(ID(at: .now()))").header("X-Since") == "1:0")
    }

    @Test func `an owner's sockets have so many different views at most`() throws {
        for number in 1...32 { try listen("run\(number)") }
        let answer = cloud.call(.post, "/_sockets/live/open", key: owner.key, socket: ID(at: .now()).description.filter { $0 != "-" })
        #expect(answer.status == 403 && answer["error_code"] == "QUOTA_EXCEEDED")
    }
}
