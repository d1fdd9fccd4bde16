// The database's side of a process that holds WebSockets: brings what is to be said to its sockets, finds those that must end, and keeps the
// table sockets true. One thread, one connection and one for LISTEN. Tables, by functions: socket_homes, socket_orders, sockets, server_metrics.
import Glibc
import HTTP
import Postgres
import Synchronization
package import System

package final class SocketDesk: Sendable {
    /// Wakes a home, by its name, or all of them without one.
    package static let channel = "sockets"

    private let url: String
    private let home: String
    private let say: @Sendable (_ text: [UInt8], _ socket: String) -> Void
    private let close: @Sendable (_ socket: String) -> Void
    private let gone = Mutex<[String]>([])
    private let isOver = Atomic(false)

    /// - Parameters: what is called with a text for a socket, and with a socket that is to be closed; on any thread.
    package init(
        url: String, home: String, say: @escaping @Sendable (_ text: [UInt8], _ socket: String) -> Void,
        close: @escaping @Sendable (_ socket: String) -> Void
    ) {
        self.url = url
        self.home = home
        self.say = say
        self.close = close
    }

    /// Takes note of a socket that has ended.
    package func forget(_ socket: String) { gone.withLock { $0.append(socket) } }

    /// Works until `leave`.
    /// - Returns: once the home is known to others.
    package func start() throws -> WorkerThread {
        let connection = Connection(url: url)
        _ = try connection.begin().commit("select keep_socket_home(\(home))")
        connection.close()
        return WorkerThread { [self] in run() }
    }

    /// Ends `run`, which then takes all of the home's sockets out of the table.
    package func leave() { isOver.store(true, ordering: .sequentiallyConsistent) }

    private func run() {
        let (connection, listener) = (Connection(url: url), Listener(url: url, channel: Self.channel))
        var sent: [String: ID] = [:]
        var (nextKeeping, nextReports) = (ContinuousClock.now, ContinuousClock.now)
        while !isOver.load(ordering: .sequentiallyConsistent) {
            do {
                let now = ContinuousClock.now
                if now >= nextKeeping {
                    _ = try connection.begin().commit("select keep_socket_home(\(home))")
                    nextKeeping = now + .seconds(5)
                }
                try forgetGone(connection)
                for var row in try connection.begin().commit("select socket_id, body from take_socket_orders(\(home))") {
                    let socket: String = row.next()
                    if let text: String = row.next() { say(Array(text.utf8), socket) } else { close(socket) }
                }
                for var row in try connection.begin().commit("select id from sockets_to_close(\(home))") { close(row.next()) }
                if now >= nextReports {
                    sent = try report(connection, sent)
                    nextReports = now + .seconds(1)
                }
                wait(listener)
            } catch {
                Event.trouble("the sockets' desk is interrupted: \(error)").log()
                _ = poll(nil, 0, 500)
            }
        }
        _ = try? connection.begin().commit("select leave_socket_home(\(home))")
    }

    /// Half a second at most; sooner when it concerns us.
    private func wait(_ listener: Listener) {
        let deadline = ContinuousClock.now + .milliseconds(500)
        while !isOver.load(ordering: .sequentiallyConsistent) {
            let left = ContinuousClock.now.duration(to: deadline) / .milliseconds(1)
            guard left > 0, let told = listener.wait(milliseconds: Int32(left) + 1) else { return }
            if told.isEmpty || told.contains(where: { $0.isEmpty || $0 == home }) { return }
        }
    }

    private func forgetGone(_ connection: Connection) throws {
        let ids = gone.withLock { $0 }
        guard !ids.isEmpty else { return }
        _ = try connection.begin().commit("select forget_sockets(\(ids)::text[])")
        gone.withLock { $0.removeFirst(ids.count) }
    }

    /// Sends each browser the newest report of the server that it watches, once.
    /// - Returns: which each has by now.
    private func report(_ connection: Connection, _ sent: [String: ID]) throws -> [String: ID] {
        var present: [String: ID] = [:]
        let rows = try connection.begin().commit(
            """
            select socket_id, id, server_id, cpu_percent, memory_percent, disk_usage, network, reported_at from watched_reports(\(home))
            """)
        for var row in rows {
            let (socket, report): (String, ID) = (row.next(), row.next())
            present[socket] = report
            guard sent[socket] != report else { continue }
            let message = JSON.written { out in
                out.member("type", "metrics")
                out.id("server_id", &row)
                out.member("cpu_percent", .double(row.next()))
                out.member("memory_percent", .double(row.next()))
                out.json("disk_usage", &row)
                out.json("network", &row)
                out.time("timestamp", &row)
            }
            say(message.bytes, socket)
        }
        return present
    }
}
