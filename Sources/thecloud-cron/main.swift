// thecloud-cron: the background process. Any number of them may run beside each other.
import API
import FoundationEssentials
import Jobs
import System

do {
    let config = try Config(ProcessInfo.processInfo.environment, database: "THECLOUD_CRON_DATABASE_URL")
    if let user = config.users.cron { try Privileges.become(user) }
    Event.started(program: "thecloud-cron").log()
    Cron(config).run()
    Event.stopped(program: "thecloud-cron").log()
} catch {
    quit("thecloud-cron", because: error)
}
