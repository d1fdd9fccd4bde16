// One attempt to hand a message to a URL that a user chose, by Standard Webhooks 1.0: signed, under the egress rule, judged by its status.
// Knows no tables: whatever delivers (webhooks, topics) stores what comes out of here.
import Crypto
import HTTP
import Outbound

struct WebhookAttempt {
    /// The `webhook-id`: the same at every attempt.
    let id: ID
    /// JSON.
    let body: String
    let url: String
    let secret: WebhookSecret

    /// The whole attempt, in milliseconds.
    static let timeout = 15_000
    /// Bytes of an answer that are read at most, and kept of it.
    static let (answerLimit, excerptLimit) = (64 << 10, 1 << 10)

    enum Verdict: Equatable {
        case delivered
        /// 410: the receiver wants no more of these.
        case gone
        /// retryAfter: seconds that it asked us to wait.
        case failed(retryAfter: Int?)
    }

    struct Result {
        let verdict: Verdict
        /// `nil` without an answer.
        let status: Int?
        /// The beginning of the answer's body; no NUL.
        let excerpt: String?
        /// Why there is no answer, or none that counts.
        let error: String?
        /// Milliseconds.
        let duration: Int

        /// An attempt that ended before anything was sent.
        static func unsent(_ error: String) -> Result {
            Result(verdict: .failed(retryAfter: nil), status: nil, excerpt: nil, error: error, duration: 0)
        }
    }

    /// Sends it once.
    /// - Parameter now: what it is signed with.
    func send(at now: Timestamp, under egress: EgressRule, timeout: Int = Self.timeout) -> Result {
        let (seconds, bytes) = (now.microseconds / 1_000_000, Array(body.utf8))
        let request = OutboundRequest(
            method: "POST", url: url,
            headers: [("content-type", "application/json"), ("user-agent", "TheCloud-Webhooks/1.0")]
                + secret.headers(id: id.description, timestamp: seconds, body: bytes),
            body: bytes, timeout: timeout, responseLimit: Self.answerLimit, isCut: true)
        let start = ContinuousClock.now
        func elapsed() -> Int { Int((ContinuousClock.now - start) / .milliseconds(1)) }
        do {
            let answer = try HTTPClient(egress: egress).send(request)
            let (verdict, error) = Self.judge(answer, now: seconds)
            return Result(
                verdict: verdict, status: answer.status, excerpt: Self.excerpt(answer.body), error: error, duration: elapsed())
        } catch {
            let why = error == .forbidden ? "TARGET_FORBIDDEN: \(error)" : "\(error)"
            return Result(verdict: .failed(retryAfter: nil), status: nil, excerpt: nil, error: why, duration: elapsed())
        }
    }

    private static func judge(_ answer: OutboundResponse, now: Int) -> (Verdict, String?) {
        switch answer.status {
        case 200..<300: (.delivered, nil)
        case 410: (.gone, "the receiver answered 410 Gone")
        case 300..<400: (.failed(retryAfter: nil), "the receiver answered \(answer.status); redirects are not followed")
        default: (.failed(retryAfter: answer.retryAfter(now: now)), "the receiver answered \(answer.status)")
        }
    }

    /// What PostgreSQL takes as text, cut between characters.
    static func excerpt(_ body: [UInt8]) -> String {
        var text = String(decoding: body.prefix(excerptLimit).filter { $0 != 0 }, as: UTF8.self)
        while text.utf8.count > excerptLimit || body.count > excerptLimit && text.hasSuffix("\u{FFFD}") { text.removeLast() }
        return text
    }
}

/// When a message that was not taken goes out again: the schedule that Standard Webhooks recommends.
enum RetrySchedule {
    /// Seconds between an attempt and the next; the first attempt is made at once.
    static let pauses = [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    /// The longest wait that a receiver may ask for.
    static let longestWish = 86400

    /// Seconds until the next attempt; `nil` when it was the last one.
    /// - Parameters:
    ///   - attempts: how many were made, at least one.
    ///   - retryAfter: what the receiver asked for; it counts where it is longer than the schedule.
    static func pause(after attempts: Int, retryAfter: Int?, jitter: Double = .random(in: 0.9...1.1)) -> Double? {
        guard attempts <= pauses.count else { return nil }
        return max(Double(pauses[attempts - 1]) * jitter, Double(min(retryAfter ?? 0, longestWish)))
    }
}
