// /health: liveness asks nobody, readiness asks the database and the engine (so it is served by the long pool).
import API
import Docker
import HTTP
import Postgres

enum Health {
    static let routes: [Route] = [
        .get("/health/live", .anyone, live),
        .get("/health/ready", .anyone, pool: .long, ready),
    ]

    private static func live(_ context: Context) throws -> Response { .json(["status": "ok"]) }

    private static func ready(_ context: Context) throws -> Response {
        let database = (try? context.query("select 1")) != nil
        if database { try? context.release() }
        let docker = (try? context.engine.ping()) != nil
        func word(_ isUp: Bool) -> JSON { isUp ? "CONNECTED" : "DISCONNECTED" }
        let isUp = database && docker
        return .json(
            [
                "status": isUp ? "UP" : "DEGRADED", "checks": ["database": word(database), "docker": word(docker)],
                "time": .string(context.now.description),
            ], status: isUp ? 200 : 503)
    }
}
