// thecloud-worker: the FastCGI pool. Alone it is the master; `--child POOL` is how the master starts the others; `--routes` prints the routes.
import API
import Chat
import Cloud
import Docker
import FastCGI
import Fleet
import FoundationEssentials
import Glibc
import HTTP
import Identity
import Postgres
import Sessions

do {
    let dispatcher = try Dispatcher(
        CloudSurface.routes + SessionsSurface.routes + FleetSurface.routes + ChatSurface.routes, resolvers: Credential.resolvers)
    let arguments = CommandLine.arguments.dropFirst()
    if arguments.first == "--routes" {
        for route in dispatcher.routes { puts(route.line) }
        exit(0)
    }
    let config = try Config(ProcessInfo.processInfo.environment)
    if Array(arguments) == ["--child", "sockets"] { config.serveSockets(dispatcher, log: PoolEvent.log) }
    if arguments.first == "--child", let pool = config.pools.first(where: { $0.pool.rawValue == arguments.last }) {
        let shared = pool.connections.map { ConnectionPool(url: config.databaseURL, connections: $0) }
        let sandboxes = pool.pool == .long ? SandboxHome(config) : nil
        Child.serve(pool: pool.fastCGI(config, dispatcher.routes), log: PoolEvent.log) {
            let engine = pool.pool == .long ? Engine(host: config.dockerHost) : nil
            let source = shared.map(ConnectionSource.init) ?? ConnectionSource(Connection(url: config.databaseURL))
            var equipment = Equipment(config: config, source: source, engine: engine, sandboxes: sandboxes)
            equipment.mayWait = pool.pool == .long
            if shared == nil { dispatcher.rehearse(with: equipment) }
            return { [equipment] in dispatcher.respond(to: $0, with: equipment) }
        }
    }
    Event.started(program: "thecloud-worker").log()
    exit(
        try Master.run(
            pools: config.pools.map { $0.fastCGI(config, dispatcher.routes) } + [config.socketPool], arguments: { ["--child", $0.name] },
            log: PoolEvent.log))
} catch {
    quit("thecloud-worker", because: error)
}
