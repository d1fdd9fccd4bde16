// The sessions' surface: /api/v1/auth and /api/v1/runs, credential Authorization: Bearer <jwt>, bodies without an envelope.
package import API

package enum SessionsSurface {
    package static let routes: [Route] = (Auth.routes + AuthAccount.routes + AuthSessions.routes + Runs.routes).map { route in
        var route = route
        route.surface = .sessions
        return route
    }
}
