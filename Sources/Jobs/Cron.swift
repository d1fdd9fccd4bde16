// All of thecloud-cron: threads for each lane of jobs, one that follows the engine, one that sweeps and tidies. Any number of processes may run.
package import API
import Docker
import Glibc
import HTTP
import Postgres
import Synchronization
import System

package final class Cron: Sendable {
    private let config: Config
    private let stopping = Atomic(false)
    private let done = Atomic(false)
    private let leases = Leases()
    private let sandboxes: SandboxHome

    private static let sweepSeconds = 15
    private static let tidySeconds = 600
    private static let keepingSeconds = 10

    package init(_ config: Config) {
        self.config = config
        sandboxes = SandboxHome(config)
    }

    /// Works until SIGTERM or SIGINT, then lets the jobs at hand finish. Call it from the main thread, before any other is started.
    package func run() {
        var awaited = sigset_t()
        sigemptyset(&awaited)
        sigaddset(&awaited, SIGTERM)
        sigaddset(&awaited, SIGINT)
        pthread_sigmask(SIG_BLOCK, &awaited, nil)
        signal(SIGPIPE, SIG_IGN)
        let threads = start()
        let keeper = WorkerThread { [self] in keepLeases() }
        var signal: Int32 = 0
        while sigwait(&awaited, &signal) != 0 {}
        stopping.store(true, ordering: .relaxed)
        for thread in threads { thread.join() }
        sandboxes.close()
        done.store(true, ordering: .relaxed)
        keeper.join()
    }

    private func start() -> [WorkerThread] {
        let lanes = Job.Lane.start(url: config.databaseURL, leases: leases, isStopping: isStopping) { [self] in bench() }
        let watch = WorkerThread { [self] in
            if let bench = bench() { EngineWatch(bench: bench, isStopping: isStopping).follow() }
        }
        let realtime = WorkerThread { [self] in
            if let bench = bench() { Realtime(bench: bench, isStopping: isStopping).run() }
        }
        let metrics = WorkerThread { [self] in
            if let bench = bench() { InstanceMetrics(bench: bench, isStopping: isStopping).run() }
        }
        let keeping = WorkerThread { [self] in
            guard let bench = bench() else { return }
            let keeping = SandboxKeeping(bench)
            while !stopping.load(ordering: .relaxed) {
                do { try keeping.run() } catch { Event.trouble("clearing sandboxes away: \(error)").log() }
                pause(seconds: Self.keepingSeconds)
            }
        }
        let scaling = WorkerThread { [self] in
            guard let bench = bench() else { return }
            let readings = CoreReadings(bench: bench)
            let round = ScalingRound(bench: bench, cores: readings.percent)
            Leadership(bench: bench, name: "scaling", period: ScalingRound.period, isStopping: isStopping).run {
                readings.beginRound()
                try round.run()
            }
        }
        return lanes + clock() + [keeping, watch, realtime, metrics, scaling, WorkerThread { [self] in tidy() }]
    }

    /// Those that see to cron jobs: what is due becomes runs, runs are sent, and both are woken by whoever changes something.
    private func clock() -> [WorkerThread] {
        let (scheduling, sending) = (Bell(), Bell())
        let scheduler = WorkerThread { [self] in
            if let bench = bench() { CronScheduler(bench: bench, dispatch: sending).run(waking: scheduling, isStopping: isStopping) }
        }
        let dispatcher = WorkerThread { [self] in
            if let bench = bench() { CronDispatcher(bench: bench, bell: sending).run(isStopping: isStopping) }
        }
        return [scheduler, dispatcher, Bell.ringing([scheduling, sending], on: "cron", url: config.databaseURL, isStopping: isStopping)]
    }

    /// Goes on until the last job at hand is finished.
    private func keepLeases() {
        let connection = Connection(url: config.databaseURL)
        while !done.load(ordering: .relaxed) {
            do {
                try leases.renew(on: connection)
            } catch {
                Event.trouble("renewing leases: \(error)").log()
            }
            for _ in 0..<(Leases.renewal * 5) where !done.load(ordering: .relaxed) { _ = poll(nil, 0, 200) }
        }
    }

    private var isStopping: @Sendable () -> Bool { { [self] in stopping.load(ordering: .relaxed) } }

    /// Waits for the database as long as it takes; `nil` when told to stop meanwhile.
    private func bench() -> Workbench? {
        let connection = Connection(url: config.databaseURL)
        guard let engine = Engine(host: config.dockerHost) else { preconditionFailure("Config has checked DOCKER_HOST") }
        while !stopping.load(ordering: .relaxed) {
            do {
                guard let stack = try connection.begin().commit("select id from installation").scalar(ID.self) else { return nil }
                return Workbench(
                    config: config, connection: connection, engine: engine, names: EngineNames(stack: stack), sandboxes: sandboxes)
            } catch {
                Event.trouble("waiting for the database: \(error)").log()
                pause(seconds: 1)
            }
        }
        return nil
    }

    private func tidy() {
        guard let bench = bench() else { return }
        let watch = EngineWatch(bench: bench, isStopping: isStopping)
        var round = 0
        while !stopping.load(ordering: .relaxed) {
            do {
                if round % (Self.tidySeconds / Self.sweepSeconds) == 0 { try Housekeeping(bench: bench).run() }
                try QueueKeeping(connection: bench.connection).bury()
                try watch.sweep()
                try VolumeJob.sweep(bench)
                try VolumeUsage.begin(bench.connection)
            } catch {
                Event.trouble("sweeping: \(error)").log()
            }
            round += 1
            pause(seconds: Self.sweepSeconds)
        }
    }

    /// Ends early when told to stop.
    private func pause(seconds: Int) {
        for _ in 0..<(seconds * 5) where !stopping.load(ordering: .relaxed) { _ = poll(nil, 0, 200) }
    }
}
