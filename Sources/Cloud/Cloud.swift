// The Cloud's surface (seeds "Authentication Guide" and "API Reference"): envelope {"data": …}, credential X-API-Key.
// A resource is one file; this is the only other place that names it.
package import API

package enum CloudSurface {
    package static let routes: [Route] =
        Health.routes + Auth.routes + AuthKeys.routes + AuthUsers.routes + Instances.routes + VPCs.routes + Subnets.routes
        + LoadBalancers.routes + ScalingGroups.routes + Volumes.routes + Caches.routes + Functions.routes + Live.routes
        + Queues.routes + Topics.routes + Subscriptions.routes
        + CronJobs.routes + GatewayRoutes.routes + GatewayTraffic.routes
}
