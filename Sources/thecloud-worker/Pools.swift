// From settings to pools, and from the pools' events to log lines.
import API
import FastCGI

extension Config.PoolSize {
    /// - Parameter routes: of all pools; it reads bodies as long as the most patient of its own.
    func fastCGI(_ config: Config, _ routes: [Route]) -> Pool {
        Pool(
            name: pool.rawValue, socket: "\(config.runFolder)/\(pool.rawValue).sock", children: children, threads: threads,
            bodyLimit: routes.filter { $0.pool == pool }.map(\.bodyLimit).max() ?? Route.usualBodyLimit,
            user: pool == .long ? config.users.long : config.users.worker,
            socketGroup: config.users.socketGroup,
            // A hash keeps a processor for a third of a second, and five processes have a part in answering any other request.
            niceness: pool == .auth ? 10 : 0)
    }
}

extension PoolEvent {
    static let log: @Sendable (PoolEvent) -> Void = { Event.pool(what: "\($0)").log() }
}
