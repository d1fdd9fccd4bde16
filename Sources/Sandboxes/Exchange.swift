// Listens to a sandbox until the runner has answered, and sorts what comes into reply and log.
import Docker

struct Exchange {
    enum End {
        case replied(Reply)
        case timedOut
        /// The container's process is gone, or says what no runner says.
        case ended
    }

    private(set) var log = BoundedLog()
    private var output: MarkedStream
    private var errors: MarkedStream

    /// How long the standard error may lag behind the reply.
    private static let lag: Duration = .seconds(1)

    init(nonce: String) {
        output = MarkedStream(nonce: nonce)
        errors = MarkedStream(nonce: nonce)
    }

    mutating func take(_ frames: [LogFrame]) {
        for frame in frames {
            switch frame.source {
            case .stdout: log.add(output.take(frame.bytes))
            case .stderr: log.add(errors.take(frame.bytes))
            }
        }
    }

    mutating func run(_ attachment: ContainerStreams, until deadline: ContinuousClock.Instant) -> End {
        var deadline = deadline
        var reply: Reply?
        while true {
            do {
                if reply == nil, let whole = try output.reply() {
                    reply = whole
                    deadline = .now + Self.lag
                }
            } catch {
                return .ended
            }
            if let reply, errors.tail != nil { return .replied(reply) }
            switch attachment.receive(deadline: deadline) {
            case .output(let frames): take(frames)
            case .nothing:
                settle()
                return reply.map(End.replied) ?? .timedOut
            case .ended:
                settle()
                return reply.map(End.replied) ?? .ended
            }
        }
    }

    /// Nothing more will come.
    private mutating func settle() {
        log.add(output.rest())
        log.add(errors.rest())
    }
}
