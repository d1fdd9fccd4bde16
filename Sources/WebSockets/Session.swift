// One open WebSocket over libwslay, which does the frames: fragments, masks, pings, the closing handshake, UTF-8, and the limit of a message.
// All of it happens on the server's one input and output thread.
import CWebSocket
import Glibc

final class Session {
    /// Bytes of one message.
    private static let messageLimit = 256 << 10
    /// Bytes that may wait for a peer that does not read; then it is let go.
    private static let backlogLimit = 1 << 20

    let id: String
    /// Whole messages that nobody has taken yet.
    var inbox: [[UInt8]] = []

    private let descriptor: Int32
    private var context: wslay_event_context_ptr?
    /// What came behind the handshake.
    private var early: [UInt8]

    init(id: String, descriptor: Int32, early: [UInt8]) {
        self.id = id
        self.descriptor = descriptor
        self.early = early
        var callbacks = wslay_event_callbacks()
        callbacks.recv_callback = { context, room, count, _, session in Session.of(session).receive(context, room, count) }
        callbacks.send_callback = { context, bytes, count, _, session in Session.of(session).send(context, bytes, count) }
        callbacks.on_msg_recv_callback = { context, message, session in
            guard let message = message?.pointee else { return }
            switch UInt32(message.opcode) {
            case WSLAY_TEXT_FRAME.rawValue:
                Session.of(session).inbox.append(Array(UnsafeBufferPointer(start: message.msg, count: message.msg_length)))
            case WSLAY_BINARY_FRAME.rawValue: wslay_event_queue_close(context, UInt16(WSLAY_CODE_UNSUPPORTED_DATA.rawValue), nil, 0)
            default: break
            }
        }
        let made = wslay_event_context_server_init(&context, &callbacks, Unmanaged.passUnretained(self).toOpaque())
        precondition(made == 0, "libwslay can't be started")
        wslay_event_config_set_max_recv_msg_length(context, UInt64(Self.messageLimit))
    }

    deinit { wslay_event_context_free(context) }

    private static func of(_ pointer: UnsafeMutableRawPointer?) -> Session {
        guard let pointer else { preconditionFailure("a callback without its session") }
        return Unmanaged<Session>.fromOpaque(pointer).takeUnretainedValue()
    }

    private func receive(_ context: wslay_event_context_ptr?, _ room: UnsafeMutablePointer<UInt8>?, _ count: Int) -> Int {
        if !early.isEmpty, let room {
            let taken = min(count, early.count)
            early.withUnsafeBufferPointer { room.update(from: $0.baseAddress!, count: taken) }
            early.removeFirst(taken)
            return taken
        }
        return judged(recv(descriptor, room, count, Int32(MSG_DONTWAIT)), context)
    }

    private func send(_ context: wslay_event_context_ptr?, _ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int {
        judged(Glibc.send(descriptor, bytes, count, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL)), context)
    }

    /// The end of the stream is a failure to libwslay.
    private func judged(_ count: Int, _ context: wslay_event_context_ptr?) -> Int {
        guard count <= 0 else { return count }
        let wouldBlock = count < 0 && (errno == EAGAIN || errno == EINTR)
        wslay_event_set_error(context, (wouldBlock ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE).rawValue)
        return -1
    }

    /// Queues a text. A peer that has left too much unread is closed instead.
    func say(_ text: [UInt8]) {
        guard wslay_event_get_queued_msg_length(context) < Self.backlogLimit else { return close(1008) }
        text.withUnsafeBufferPointer { bytes in
            var message = wslay_event_msg(opcode: UInt8(WSLAY_TEXT_FRAME.rawValue), msg: bytes.baseAddress, msg_length: bytes.count)
            wslay_event_queue_msg(context, &message)
        }
    }

    func ping() {
        var message = wslay_event_msg(opcode: UInt8(WSLAY_PING.rawValue), msg: nil, msg_length: 0)
        wslay_event_queue_msg(context, &message)
    }

    /// Begins the closing handshake (RFC 6455 §7.1.2).
    func close(_ code: UInt16) { wslay_event_queue_close(context, code, nil, 0) }

    var wantsToWrite: Bool { wslay_event_want_write(context) != 0 }

    /// Moves bytes both ways as far as they go now.
    /// - Returns: false when the session is over.
    func advance(readable: Bool) -> Bool {
        if readable || !early.isEmpty, wslay_event_want_read(context) != 0, wslay_event_recv(context) != 0 { return false }
        if wslay_event_want_write(context) != 0, wslay_event_send(context) != 0 { return false }
        return wslay_event_want_read(context) != 0 || wslay_event_want_write(context) != 0
    }
}
