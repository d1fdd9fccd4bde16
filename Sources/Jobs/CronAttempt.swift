// One request of a cron job: what it carries, and how its answer is judged. Knows no tables.
// After a crash the same run may be sent once more: `X-Cloud-Cron-Run` is then the same.
import API
import Crypto
import HTTP
import Outbound

struct CronAttempt: Sendable {
    let run: ID
    let job: ID
    let owner: ID
    let due: Timestamp
    /// Counted from one.
    let attempt: Int
    let url: String
    let method: String
    let sealedHeaders: [UInt8]?
    /// JSON text; of a text the text itself is sent.
    let payload: String?
    /// Seconds.
    let timeout: Int
    let retries: Int

    struct Result: Sendable {
        enum Verdict: Equatable { case succeeded, failed, interrupted }

        let verdict: Verdict
        /// Seconds that the target asked us to wait.
        var retryAfter: Int?
        var status: Int?
        var excerpt: String?
        var error: String?
        /// Milliseconds.
        var duration: Int?
    }

    /// Sends it once.
    /// - Parameter isCancelled: ends it; it is as if it had not been tried.
    func send(_ client: HTTPClient, keyring: Keyring, now: Timestamp, isCancelled: () -> Bool) -> Result {
        guard let headers = headers(keyring) else {
            return Result(verdict: .failed, error: "the job's headers can't be opened any more; set them again")
        }
        let (body, type) = content
        let ours = [
            ("user-agent", "TheCloud-Cron/1.0"), ("x-cloud-cron-job", job.description), ("x-cloud-cron-run", run.description),
            ("x-cloud-cron-due", due.description),
        ]
        let typed = type == nil || headers.contains { $0.name.lowercased() == "content-type" } ? [] : [("content-type", type ?? "")]
        let request = OutboundRequest(
            method: method, url: url, headers: headers + typed + ours, body: body, timeout: timeout * 1000,
            responseLimit: WebhookAttempt.answerLimit, isCut: true)
        let start = ContinuousClock.now
        func elapsed() -> Int { Int((ContinuousClock.now - start) / .milliseconds(1)) }
        do {
            let answer = try withoutActuallyEscaping(isCancelled) { try client.send(request, isCancelled: $0) }
            let isGood = (200..<300).contains(answer.status)
            let note = (300..<400).contains(answer.status) ? "; redirects are not followed" : ""
            return Result(
                verdict: isGood ? .succeeded : .failed, retryAfter: answer.retryAfter(now: now.microseconds / 1_000_000),
                status: answer.status, excerpt: WebhookAttempt.excerpt(answer.body),
                error: isGood ? nil : "the target answered \(answer.status)\(note)", duration: elapsed())
        } catch let error as OutboundError {
            if error == .cancelled { return Result(verdict: .interrupted) }
            let why = error == .forbidden ? "TARGET_FORBIDDEN: \(error)" : "\(error)"
            return Result(verdict: .failed, error: why, duration: elapsed())
        } catch {
            return Result(verdict: .failed, error: "\(error)", duration: elapsed())
        }
    }

    private func headers(_ keyring: Keyring) -> [(name: String, value: String)]? {
        guard let sealedHeaders else { return [] }
        guard let plain = try? keyring.open(sealedHeaders, .cronHeaders, of: job), case .object(let members)? = try? JSON(parsing: plain)
        else { return nil }
        return members.map { ($0.name, $0.value.string ?? "") }
    }

    private var content: (body: [UInt8]?, type: String?) {
        guard let payload else { return (nil, nil) }
        let bytes = Array(payload.utf8)
        // A text by itself is no JSON text for every reader, so it is wrapped.
        if payload.hasPrefix("\""), let text = (try? JSON(parsing: Array("[".utf8) + bytes + Array("]".utf8)))?[0]?.string {
            return (Array(text.utf8), "text/plain; charset=utf-8")
        }
        return (bytes, "application/json")
    }

    /// Seconds until the next attempt; `nil` when this one was the last. They double from five on.
    func pause(retryAfter: Int?, jitter: Double = .random(in: 0.9...1.1)) -> Double? {
        guard attempt <= retries else { return nil }
        let pause = min(5 * Double(1 << min(attempt - 1, 10)), 300)
        return max(pause * jitter, Double(min(retryAfter ?? 0, 3600)))
    }
}
