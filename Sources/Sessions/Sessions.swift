// The sessions' surface: /api/v1/auth, credential Authorization: Bearer <jwt>, bodies without an envelope.
package import API

package enum SessionsSurface {
    package static let routes: [Route] = (Auth.routes + AuthSessions.routes).map { route in
        var route = route
        route.surface = .sessions
        return route
    }
}
