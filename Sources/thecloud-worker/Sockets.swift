// The pool that holds WebSockets: nginx passes them on as they are, and what they say goes through the same dispatcher as any request.
import API
import FastCGI
import Glibc
import HTTP
import Postgres
import System
import WebSockets

extension Config {
    var socketPool: Pool {
        Pool(
            name: "sockets", socket: "\(runFolder)/sockets.sock", children: 1, threads: sockets.threads, bodyLimit: Route.usualBodyLimit,
            user: users.worker, socketGroup: users.socketGroup, drainSeconds: 15)
    }

    /// Serves the pool's sockets in a child, until it is told to drain.
    func serveSockets(_ dispatcher: Dispatcher, log: @escaping @Sendable (PoolEvent) -> Void) -> Never {
        Child.serve(pool: socketPool, log: log) { listener in
            let server = SocketServer(listener: listener, limit: sockets.limit)
            let desk = SocketDesk(
                url: databaseURL, home: server.home, say: { server.say($0, to: $1) }, close: { server.close($0, code: 1001) })
            let keeper = try desk.start()
            for _ in 0..<sockets.threads {
                _ = WorkerThread {
                    let equipment = Equipment(config: self, connection: Connection(url: databaseURL), engine: nil)
                    server.handle { dispatcher.respond(to: $0, with: equipment) }
                }
            }
            let loop = WorkerThread { server.run(closed: desk.forget) }
            return {
                server.drain()
                loop.join()
                desk.leave()
                keeper.join()
            }
        }
    }
}
