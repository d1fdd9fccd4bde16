// Threads that send the requests of cron jobs. They hold nothing while they wait for a target, no connection above all, so there can be many;
// one is started when all others are busy.
import API
import Dispatch
import HTTP
import Outbound
import Synchronization
import System

final class CronSenders: Sendable {
    private struct State {
        var queue: [CronAttempt] = []
        var idle = 0
        var threads: [WorkerThread] = []
    }

    private let config: Config
    private let now: @Sendable () -> Timestamp
    /// Rung with every result.
    private let bell: Bell
    private let state = Mutex(State())
    private let work = DispatchSemaphore(value: 0)
    private let results = Mutex<[(CronAttempt, CronAttempt.Result)]>([])
    private let isCut = Atomic(false)

    init(config: Config, now: @escaping @Sendable () -> Timestamp, bell: Bell) {
        self.config = config
        self.now = now
        self.bell = bell
    }

    func send(_ attempts: [CronAttempt]) {
        state.withLock { state in
            state.queue += attempts
            for _ in 0..<max(state.queue.count - state.idle, 0) where state.threads.count < CronDispatcher.limit {
                state.threads.append(WorkerThread { [self] in work(.init(egress: config.egress)) })
                state.idle += 1
            }
        }
        for _ in attempts { work.signal() }
    }

    /// What has come back since the last time.
    func take() -> [(CronAttempt, CronAttempt.Result)] {
        results.withLock { results in
            defer { results = [] }
            return results
        }
    }

    /// Ends all requests within a second; each comes back as interrupted.
    func cut() { isCut.store(true, ordering: .relaxed) }

    /// Waits for the threads; none may have anything to do.
    func close() {
        let threads = state.withLock { $0.threads }
        for _ in threads { work.signal() }
        for thread in threads { thread.join() }
    }

    private func work(_ client: HTTPClient) {
        while true {
            work.wait()
            let attempt = state.withLock { state -> CronAttempt? in
                guard !state.queue.isEmpty else { return nil }
                state.idle -= 1
                return state.queue.removeFirst()
            }
            guard let attempt else { return }
            let result = attempt.send(client, keyring: config.keyring, now: now()) { isCut.load(ordering: .relaxed) }
            state.withLock { $0.idle += 1 }
            results.withLock { $0.append((attempt, result)) }
            bell.ring()
        }
    }
}
