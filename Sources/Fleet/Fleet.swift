// The fleet's surface (seed "Authentication", ChatOps): /api/v1/servers and what their agents do. Credential Authorization: Bearer <jwt>.
package import API

package enum FleetSurface {
    package static let routes: [Route] =
        (Servers.routes + AgentKeys.routes + Metrics.routes + Commands.routes + Agents.routes + Watchers.routes).map { route in
            var route = route
            route.surface = .sessions
            return route
        }
}
