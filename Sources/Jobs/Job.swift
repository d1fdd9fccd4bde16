// Background work: one kind a file, one `Job` each. A job names a subject; what is to be done stands in the tables, so running one twice does no harm.
package import API
package import Docker
package import HTTP
package import Postgres

/// What one thread of thecloud-cron has.
package struct Workbench {
    package let config: Config
    package let connection: Connection
    package let engine: Engine
    package let names: EngineNames
    /// Of the whole process.
    package var sandboxes: SandboxHome?
    package var now: @Sendable () -> Timestamp = Timestamp.now
}

package struct Job: Sendable {
    /// Kinds of one lane share its threads, so that slow kinds can't starve the others.
    package enum Lane: String, Sendable, CaseIterable {
        case engine, mail, delivery, resolving, measuring, invocation, scaling

        var threads: Int {
            switch self {
            case .engine: 4
            case .mail: 2
            case .delivery: 16
            case .resolving: 4
            case .measuring: 1
            // More than one owner may have at once.
            case .invocation: 12
            case .scaling: 2
            }
        }
    }

    package enum Outcome: Sendable, Equatable {
        case done
        /// Not finished, though nothing went wrong: look again.
        case again(seconds: Double)
    }

    let kind: String
    let lane: Lane
    /// Then the job is dead: kept for inspection, revived by the next wish.
    let attempts: Int
    /// Longest pause between attempts, in seconds; they double from one second on.
    let patience: Double
    let run: @Sendable (Workbench, _ subject: String) throws -> Outcome

    /// All kinds there are.
    package static let all: [Job] = [
        InstanceJob.job, VPCJob.job, VolumeJob.job, VolumeUsage.job, CacheJob.job, LoadBalancerJob.job, ScalingGroupJob.job,
        InvocationJob.job, PasswordResetMail.job, WebhookDelivery.job, SubscriptionDelivery.job, NotificationJob.job, GatewayTarget.job,
    ]
}
