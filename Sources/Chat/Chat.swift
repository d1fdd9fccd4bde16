// The Chat surface (contract §3): clients with master keys, their users with scoped keys, bodies without an envelope.
// A resource is one file; this is the only other place that names it.
package import API

package enum ChatSurface {
    package static let routes: [Route] =
        Clients.routes + Members.routes + Profile.routes + Rooms.routes + Seats.routes + Messages.routes + Notifications.routes
        + Webhooks.routes + Analytics.routes + ChatSocket.routes
}
