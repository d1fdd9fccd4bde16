// WebSockets behind nginx: one thread moves bytes for all of them, a few others run handlers, one message of a socket at a time and in order.
// A socket's id begins with its process's, its home, so that whoever has something for the socket knows whom to tell.
import CWebSocket
import Dispatch
import Glibc
package import HTTP
import Synchronization
import System

package final class SocketServer: Sendable {
    /// 16 hexadecimal digits, of this process alone.
    package let home = SocketServer.digits(16)

    private let listener: Int32
    private let limit: Int
    private let wake: (read: Int32, write: Int32)
    private let pending = Mutex<[Request]>([])
    private let arrived = DispatchSemaphore(value: 0)
    private let orders = Mutex<[Order]>([])
    private let isDraining = Atomic(false)

    /// What other threads want of the loop.
    private enum Order: Sendable {
        case answered(socket: String, Response)
        case say(socket: String, [UInt8])
        case close(socket: String, code: UInt16)
    }

    /// Seconds between pings, which keep the connection through proxies and find out who has gone.
    private static let pingPeriod = 20

    /// - Parameters:
    ///   - listener: a listening stream socket.
    ///   - limit: sockets at once.
    package init(listener: Int32, limit: Int) {
        self.listener = listener
        self.limit = limit
        Self.raiseDescriptorLimit()
        var ends: [Int32] = [0, 0]
        precondition(pipe(&ends) == 0, "no descriptor to be had")
        // The listener too: a sibling may have taken whom it announced.
        for end in ends + [listener] { _ = fcntl(end, F_SETFL, fcntl(end, F_GETFL) | O_NONBLOCK) }
        wake = (ends[0], ends[1])
    }

    /// Says something to a socket; nothing happens where it has gone.
    package func say(_ text: [UInt8], to socket: String) { post(.say(socket: socket, text)) }

    /// Closes a socket (RFC 6455 §7.4: 1000 normal, 1008 policy, 1012 restart).
    package func close(_ socket: String, code: UInt16) { post(.close(socket: socket, code: code)) }

    /// Takes no more sockets, and closes those that are open.
    package func drain() {
        isDraining.store(true, ordering: .sequentiallyConsistent)
        ring()
    }

    private func post(_ order: Order) {
        orders.withLock { $0.append(order) }
        ring()
    }

    private func ring() {
        var byte: UInt8 = 1
        _ = Glibc.write(wake.write, &byte, 1)
    }

    /// Runs handlers, for ever: a request without a body is a socket that wants to open, one with a body is what it says.
    package func handle(with handler: (Request) -> Response) -> Never {
        while true {
            arrived.wait()
            guard let request = pending.withLock({ $0.isEmpty ? nil : $0.removeFirst() }), let socket = request.internalSubject else {
                continue
            }
            post(.answered(socket: socket, handler(request)))
        }
    }

    private func ask(_ request: Request) {
        pending.withLock { $0.append(request) }
        arrived.signal()
    }

    /// Each socket is a descriptor; most systems let a process ask for more than it is given.
    private static func raiseDescriptorLimit() {
        var files = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files) == 0 else { return }
        files.rlim_cur = files.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files)
    }

    private static func digits(_ count: Int) -> String {
        String((0..<count).map { _ in "0123456789abcdef".randomElement()! })
    }
}

// MARK: - The loop

extension SocketServer {
    /// A connection from nginx, from its first byte on.
    private final class Peer {
        let descriptor: Int32
        let id: String
        var head: [UInt8] = []
        var handshake: Handshake?
        var session: Session?
        /// A handler is at work for it.
        var isBusy = false
        /// What is written before a refused connection ends.
        var farewell: [UInt8]?
        var isOver = false
        let since = ContinuousClock.now
        var lastHeard = ContinuousClock.now

        init(descriptor: Int32, id: String) {
            self.descriptor = descriptor
            self.id = id
        }

        deinit { Glibc.close(descriptor) }
    }

    /// Serves until drained.
    /// - Parameter closed: told of every socket that was open and is no more.
    package func run(closed: (String) -> Void) {
        var peers: [String: Peer] = [:]
        var nextPing = ContinuousClock.now + .seconds(Self.pingPeriod)
        var deadline: ContinuousClock.Instant?
        while true {
            if isDraining.load(ordering: .sequentiallyConsistent), deadline == nil {
                deadline = .now + .seconds(10)
                for peer in peers.values { peer.session?.close(1012) }
            }
            if let deadline, peers.isEmpty || ContinuousClock.now > deadline { break }
            let present = Array(peers.values)
            var polled = [pollfd(fd: wake.read, events: Int16(POLLIN), revents: 0)]
            polled.append(pollfd(fd: deadline == nil && peers.count < limit ? listener : -1, events: Int16(POLLIN), revents: 0))
            for peer in present {
                let wantsToWrite = peer.session?.wantsToWrite ?? (peer.farewell != nil)
                polled.append(
                    pollfd(fd: peer.descriptor, events: Int16((isReading(peer) ? POLLIN : 0) | (wantsToWrite ? POLLOUT : 0)), revents: 0))
            }
            _ = poll(&polled, nfds_t(polled.count), 1000)
            if polled[0].revents != 0 { obey(&peers) }
            if polled[1].revents != 0 { accept(&peers) }
            for (peer, entry) in zip(present, polled[2...]) where entry.revents != 0 || peer.session?.wantsToWrite == true {
                serve(peer, readable: entry.revents & Int16(POLLIN | POLLHUP | POLLERR) != 0)
            }
            if ContinuousClock.now >= nextPing {
                nextPing = .now + .seconds(Self.pingPeriod)
                for peer in peers.values { tick(peer) }
            }
            for (id, peer) in peers where peer.isOver && !peer.isBusy {
                peers[id] = nil
                if peer.session != nil { closed(id) }
            }
        }
        for (id, peer) in peers where peer.session != nil { closed(id) }
    }

    /// Backpressure: what a peer says waits in the kernel while its last words are being judged.
    private func isReading(_ peer: Peer) -> Bool {
        guard let session = peer.session else { return peer.handshake == nil && peer.farewell == nil }
        return session.inbox.count < 8
    }

    private func accept(_ peers: inout [String: Peer]) {
        while peers.count < limit {
            let descriptor = accept4(listener, nil, nil, Int32(SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue))
            guard descriptor >= 0 else { return }
            let id = home + Self.digits(16)
            peers[id] = Peer(descriptor: descriptor, id: id)
        }
    }

    private func serve(_ peer: Peer, readable: Bool) {
        if let session = peer.session {
            if readable { peer.lastHeard = .now }
            if !session.advance(readable: readable) { peer.isOver = true }
            next(peer)
        } else if peer.farewell != nil {
            write(farewellOf: peer)
        } else if readable {
            read(headOf: peer)
        }
    }

    private func read(headOf peer: Peer) {
        var room = [UInt8](repeating: 0, count: 8192)
        let count = recv(peer.descriptor, &room, room.count, 0)
        guard count > 0 else {
            if count == 0 || errno != EAGAIN { peer.isOver = true }
            return
        }
        // nginx has gone while the handler is at work: nothing more is read until it has answered.
        guard peer.handshake == nil else { return }
        peer.head += room.prefix(count)
        guard let end = peer.head.firstRange(of: Array("\r\n\r\n".utf8))?.upperBound else {
            if peer.head.count > Handshake.limit { peer.isOver = true }
            return
        }
        guard let handshake = Handshake(Array(peer.head[..<end])) else {
            peer.isOver = true
            return
        }
        peer.head = Array(peer.head[end...])
        peer.handshake = handshake
        peer.isBusy = true
        var request = handshake.request
        request.internalSubject = peer.id
        request.path += "/open"
        ask(request)
    }

    private func write(farewellOf peer: Peer) {
        guard let farewell = peer.farewell else { return }
        let count = farewell.withUnsafeBytes { send(peer.descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        if count < 0, errno == EAGAIN { return }
        peer.farewell = Array(farewell.dropFirst(max(count, 0)))
        if count <= 0 || peer.farewell?.isEmpty == true { peer.isOver = true }
    }

    /// Has the oldest message judged that nobody has judged yet.
    private func next(_ peer: Peer) {
        guard !peer.isBusy, let session = peer.session, !session.inbox.isEmpty, let handshake = peer.handshake else { return }
        peer.isBusy = true
        var request = handshake.request
        request.internalSubject = peer.id
        request.headers = Headers(["content-type": "application/json"])
        request.query = Query("")
        request.body = .bytes(session.inbox.removeFirst())
        ask(request)
    }

    private func obey(_ peers: inout [String: Peer]) {
        var bytes = [UInt8](repeating: 0, count: 4096)
        while Glibc.read(wake.read, &bytes, bytes.count) > 0 {}
        let todo = orders.withLock { orders in
            defer { orders.removeAll(keepingCapacity: true) }
            return orders
        }
        for order in todo {
            switch order {
            case .answered(let id, let response):
                guard let peer = peers[id] else { continue }
                peer.isBusy = false
                if peer.session == nil { settle(peer, response) } else { answer(peer, response) }
            case .say(let id, let text): if let peer = peers[id] { tell(peer) { $0.say(text) } }
            case .close(let id, let code): if let peer = peers[id] { tell(peer) { $0.close(code) } }
            }
        }
    }

    private func tell(_ peer: Peer, _ what: (Session) -> Void) {
        guard let session = peer.session, !peer.isOver else { return }
        what(session)
        if !session.advance(readable: false) { peer.isOver = true }
    }

    /// The verdict on a socket that wants to open.
    private func settle(_ peer: Peer, _ response: Response) {
        guard let handshake = peer.handshake, (200..<300).contains(response.status) else {
            peer.farewell = Handshake.refusal(response)
            return write(farewellOf: peer)
        }
        let acceptance = handshake.acceptance
        let sent = acceptance.withUnsafeBytes { send(peer.descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        peer.session = Session(id: peer.id, descriptor: peer.descriptor, early: peer.head)
        peer.head = []
        // A few hundred bytes on a new connection always fit, or nobody is there.
        guard sent == acceptance.count else {
            peer.isOver = true
            return
        }
        serve(peer, readable: false)
    }

    /// What a message came to: words for the sender, silence, or trouble of ours, which ends the socket so that its client comes again.
    private func answer(_ peer: Peer, _ response: Response) {
        tell(peer) { session in
            switch response.status {
            case 200: session.say(response.body)
            case 204: break
            default: session.close(1011)
            }
        }
        next(peer)
    }

    /// Every 20 s: who has said nothing to two pings has gone; who has not finished its handshake by now never will.
    private func tick(_ peer: Peer) {
        let silence = peer.lastHeard.duration(to: .now)
        if peer.session == nil ? peer.since.duration(to: .now) > .seconds(30) : silence > .seconds(3 * Self.pingPeriod) {
            peer.isOver = true
        }
        tell(peer) { $0.ping() }
    }
}
