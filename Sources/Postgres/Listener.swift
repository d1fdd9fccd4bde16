// LISTEN on a session of its own (manual §34.9): PgBouncer in transaction mode must be gone around.
import CPostgres
import Glibc

package final class Listener {
    private let url: String
    private let channel: String
    private var session: OpaquePointer?

    /// - Parameter channel: one of our own lower-case names.
    package init(url: String, channel: String) {
        self.url = url
        self.channel = channel
    }

    deinit { if let session { PQfinish(session) } }

    /// Waits until somebody notifies the channel, or the time is over. Without a session it opens one and returns at once,
    /// because what was said in between was not heard.
    /// - Parameter milliseconds: longest wait.
    /// - Returns: what was said, in its order; `nil` where something may have been said unheard.
    @discardableResult
    package func wait(milliseconds: Int32) -> [String]? {
        guard let session else {
            if !open() { _ = poll(nil, 0, min(milliseconds, 500)) }
            return nil
        }
        var descriptor = pollfd(fd: PQsocket(session), events: Int16(POLLIN), revents: 0)
        guard poll(&descriptor, 1, milliseconds) > 0 else { return [] }
        if PQconsumeInput(session) == 0 || PQstatus(session) != CONNECTION_OK {
            PQfinish(session)
            self.session = nil
            return nil
        }
        var payloads: [String] = []
        while let notification = PQnotifies(session) {
            payloads.append(String(cString: notification.pointee.extra))
            PQfreemem(notification)
        }
        return payloads
    }

    private func open() -> Bool {
        guard let opened = PQconnectdb(url) else { return false }
        let answer = PQexec(opened, "listen " + channel)
        defer { PQclear(answer) }
        guard PQresultStatus(answer) == PGRES_COMMAND_OK else {
            PQfinish(opened)
            return false
        }
        session = opened
        return true
    }
}
