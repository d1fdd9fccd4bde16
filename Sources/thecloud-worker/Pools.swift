// From settings to pools, and from the pools' events to log lines.
import API
import FastCGI

extension Config.PoolSize {
    func fastCGI(_ config: Config) -> Pool {
        Pool(
            name: pool.rawValue, socket: "\(config.runFolder)/\(pool.rawValue).sock", children: children, threads: threads,
            bodyLimit: Route.usualBodyLimit, user: pool == .long ? config.users.long : config.users.worker,
            socketGroup: config.users.socketGroup)
    }
}

extension PoolEvent {
    static let log: @Sendable (PoolEvent) -> Void = { Event.pool(what: "\($0)").log() }
}
