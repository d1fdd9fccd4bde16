// Chat's surface: below /api/v1, flat bodies.
package import API

package enum ChatSurface {
    package static let routes: [Route] = Webhooks.routes
}
