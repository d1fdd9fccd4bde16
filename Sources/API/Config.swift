// The settings (README, "Settings"): read once from the environment, all bad and missing ones reported together. Both programs share it.
package import Crypto
import Docker
import FoundationEssentials
package import HTTP
package import Outbound

package struct Config: Sendable {
    package let databaseURL: String
    package let runFolder: String
    package let mailFolder: String
    package let publicURL: String
    package let publicHost: String
    package let dockerHost: String
    package let scrypt: ScryptCost
    package let keyring: Keyring
    package let registration: Registration
    package let corsOrigins: Set<String>
    package let smtpURL: String?
    package let mailFrom: MailAddress
    /// Blocks that networks are cut out of, the first that has room first.
    package let networkPools: [CIDR]
    /// Blocks that URLs of users may lead to although they are not public.
    package let egressAllow: [CIDR]
    package let images: ManagedImages
    package let quota: Quota
    package let pools: [PoolSize]
    package let sockets: SocketPoolSize
    /// Idle sandboxes of functions that a process keeps.
    package let warmSandboxes: Int
    package let users: Users
    package let retentionDays: Retention

    /// Who may make an account.
    package enum Registration: Sendable, Equatable {
        case open
        case closed
        /// Only addresses of these mail domains, lower case.
        case domains([String])

        package func admits(_ email: String) -> Bool {
            switch self {
            case .open: true
            case .closed: false
            case .domains(let domains): domains.contains { email.lowercased().hasSuffix("@" + $0) }
            }
        }
    }

    /// What one owner may have at once.
    package struct Quota: Sendable {
        package var instances: Int
        package var memoryMB: Int
        /// Requests that wait for the engine at once, in one child.
        package var engineWaits: Int
        package var webhooks: Int
        package var routes: Int
        /// Of one client of Chat.
        package var members: Int
        package var rooms: Int
        /// Within 24 hours, of one client.
        package var notifications: Int
        package var cronJobs: Int
        package var queues: Int
        /// Requests that wait for messages at once, in one child.
        package var polls: Int
        package var topics: Int
        package var subscriptions: Int
        package var vpcs: Int
        package var volumes: Int
        /// Gibibytes of all volumes.
        package var volumeGB: Int
        package var loadBalancers: Int
        package var groups: Int
        package var caches: Int
        package var functions: Int
        /// Invocations that run at once; further ones wait.
        package var invocations: Int
    }

    /// How much of the machine one pool of workers gets.
    package struct PoolSize: Sendable {
        package let pool: Route.Pool
        package let children: Int
        package let threads: Int
        /// Database connections that the threads of a child share; `nil`: each has its own.
        package var connections: Int?
    }

    /// The process that holds WebSockets.
    package struct SocketPoolSize: Sendable {
        /// That judge what sockets say.
        package let threads: Int
        /// Sockets at once.
        package let limit: Int
    }

    /// The OS users that processes become when they are started as root, and the group that may connect to the pools' sockets.
    package struct Users: Sendable {
        package let worker: String?
        package let long: String?
        package let cron: String?
        package let socketGroup: String?
    }

    /// In days.
    package struct Retention: Sendable {
        package let audit: Int
        package let events: Int
        package let deliveries: Int
        package let notifications: Int
        /// Reports and commands of servers.
        package let metrics: Int
        /// What became of cron jobs.
        package let runs: Int
        package let invocations: Int
    }

    package struct Problems: Error, CustomStringConvertible {
        package let lines: [String]
        package var description: String { (["Settings that need attention:"] + lines.map { "  " + $0 }).joined(separator: "\n") }
    }

    /// - Parameter database: the setting that holds this program's libpq URL.
    /// - Throws: `Problems`, naming every setting that is missing or bad.
    package init(_ environment: [String: String], database: String = "THECLOUD_DATABASE_URL") throws {
        var settings = Settings(environment)
        databaseURL = settings.required(database, "a libpq URL such as postgresql:///thecloud?host=/run/postgresql&user=thecloud_api")
        let state = settings.text("THECLOUD_STATE", default: ".thecloud")
        runFolder = settings.text("THECLOUD_RUN", default: state + "/run")
        mailFolder = settings.text("THECLOUD_MAIL", default: state + "/mail")
        publicURL = settings.text("THECLOUD_PUBLIC_URL", default: "http://localhost:8080")
        publicHost = settings.text("THECLOUD_PUBLIC_HOST", default: "127.0.0.1")
        dockerHost = settings.parsed("DOCKER_HOST", default: Engine.defaultHost, "unix:///path or tcp://host:port") {
            Engine(host: $0) == nil ? nil : $0
        }
        scrypt = settings.parsed("THECLOUD_SCRYPT", default: .standard, "a cost such as ln=17,r=8,p=1") { ScryptCost($0) }
        registration = settings.parsed("THECLOUD_REGISTRATION", default: .open, "open, closed, or a list of mail domains") { text in
            switch text {
            case "open": .open
            case "closed": .closed
            default: text.contains(".") ? .domains(Settings.list(text.lowercased())) : nil
            }
        }
        corsOrigins = Set(settings.parsed("THECLOUD_CORS_ORIGINS", default: [], "a comma-separated list of origins") { Settings.list($0) })
        smtpURL = settings.parsed("THECLOUD_SMTP_URL", default: nil, "smtp://user:password@host:port or smtps://…") { text in
            text.hasPrefix("smtp://") || text.hasPrefix("smtps://") ? .some(text) : nil
        }
        mailFrom = settings.parsed("THECLOUD_MAIL_FROM", default: MailAddress("The Cloud <thecloud@localhost>")!, "an e-mail address") {
            MailAddress($0)
        }
        networkPools = settings.parsed(
            "THECLOUD_NETWORK_POOL", default: [CIDR("10.192.0.0/11")!, CIDR("10.64.0.0/11")!],
            "IPv4 blocks of /8–/24 such as 10.192.0.0/11,10.64.0.0/11"
        ) {
            let texts = Settings.list($0)
            let blocks = texts.compactMap(CIDR.init).filter { $0.isIPv4 && (8...24).contains($0.prefixLength) }
            return blocks.count == texts.count && !blocks.isEmpty ? blocks : nil
        }
        egressAllow = settings.parsed("THECLOUD_EGRESS_ALLOW", default: [], "address blocks such as 10.0.0.0/8,fc00::/7, without host bits")
        {
            let texts = Settings.list($0)
            let blocks = texts.compactMap(CIDR.init)
            return blocks.count == texts.count ? blocks : nil
        }
        images = ManagedImages { image in
            settings.parsed(image.setting, default: image.official, "an image reference such as nginx:1.27") { ImageReference($0) }
        }
        quota = Quota(
            instances: settings.number("THECLOUD_QUOTA_INSTANCES", default: 100, 0...1_000_000),
            memoryMB: settings.number("THECLOUD_QUOTA_MEMORY_MB", default: 65536, 0...1_000_000_000),
            engineWaits: settings.number("THECLOUD_QUOTA_ENGINE_WAITS", default: 8, 1...1024),
            webhooks: settings.number("THECLOUD_QUOTA_WEBHOOKS", default: 50, 0...10000),
            routes: settings.number("THECLOUD_QUOTA_ROUTES", default: 100, 0...10000),
            members: settings.number("THECLOUD_QUOTA_MEMBERS", default: 100_000, 0...10_000_000),
            rooms: settings.number("THECLOUD_QUOTA_ROOMS", default: 10_000, 0...1_000_000),
            notifications: settings.number("THECLOUD_QUOTA_NOTIFICATIONS", default: 1000, 0...1_000_000),
            cronJobs: settings.number("THECLOUD_QUOTA_CRON", default: 1000, 0...1_000_000),
            queues: settings.number("THECLOUD_QUOTA_QUEUES", default: 1000, 0...1_000_000),
            polls: settings.number("THECLOUD_QUOTA_POLLS", default: 64, 1...1024),
            topics: settings.number("THECLOUD_QUOTA_TOPICS", default: 1000, 0...1_000_000),
            subscriptions: settings.number("THECLOUD_QUOTA_SUBSCRIPTIONS", default: 1000, 0...1_000_000),
            vpcs: settings.number("THECLOUD_QUOTA_VPCS", default: 20, 0...1_000_000),
            volumes: settings.number("THECLOUD_QUOTA_VOLUMES", default: 1000, 0...1_000_000),
            volumeGB: settings.number("THECLOUD_QUOTA_VOLUME_GB", default: 65536, 0...1_000_000_000),
            loadBalancers: settings.number("THECLOUD_QUOTA_LOAD_BALANCERS", default: 50, 0...1_000_000),
            groups: settings.number("THECLOUD_QUOTA_GROUPS", default: 50, 0...1_000_000),
            caches: settings.number("THECLOUD_QUOTA_CACHES", default: 50, 0...1_000_000),
            functions: settings.number("THECLOUD_QUOTA_FUNCTIONS", default: 1000, 0...1_000_000),
            invocations: settings.number("THECLOUD_QUOTA_INVOCATIONS", default: 16, 1...1024))
        let cores = ProcessInfo.processInfo.activeProcessorCount
        pools = [
            PoolSize(
                pool: .api, children: settings.number("THECLOUD_API_CHILDREN", default: max(1, cores / 2), 1...64),
                threads: settings.number("THECLOUD_API_THREADS", default: 8, 1...256)),
            PoolSize(
                pool: .auth, children: 1,
                threads: settings.number("THECLOUD_AUTH_THREADS", default: cores, 1...256)),
            PoolSize(
                pool: .long, children: 1, threads: settings.number("THECLOUD_LONG_THREADS", default: 128, 1...1024),
                connections: settings.number("THECLOUD_LONG_CONNECTIONS", default: 16, 1...256)),
        ]
        sockets = SocketPoolSize(
            threads: settings.number("THECLOUD_SOCKET_THREADS", default: 4, 1...256),
            limit: settings.number("THECLOUD_SOCKET_LIMIT", default: 10_000, 1...100_000))
        warmSandboxes = settings.number("THECLOUD_WARM_SANDBOXES", default: 16, 0...1024)
        users = Users(
            worker: environment["THECLOUD_USER"], long: environment["THECLOUD_LONG_USER"], cron: environment["THECLOUD_CRON_USER"],
            socketGroup: environment["THECLOUD_SOCKET_GROUP"])
        retentionDays = Retention(
            audit: settings.number("THECLOUD_RETENTION_AUDIT", default: 365, 1...36500),
            events: settings.number("THECLOUD_RETENTION_EVENTS", default: 7, 1...36500),
            deliveries: settings.number("THECLOUD_RETENTION_DELIVERIES", default: 30, 1...36500),
            notifications: settings.number("THECLOUD_RETENTION_NOTIFICATIONS", default: 30, 1...36500),
            metrics: settings.number("THECLOUD_RETENTION_METRICS", default: 30, 1...36500),
            runs: settings.number("THECLOUD_RETENTION_RUNS", default: 30, 1...36500),
            invocations: settings.number("THECLOUD_RETENTION_INVOCATIONS", default: 30, 1...36500))
        keyring = settings.keyring("THECLOUD_SECRET_FILE", default: state + "/secret")
        guard settings.problems.isEmpty else { throw Problems(lines: settings.problems) }
    }

    /// The rule for every URL that users choose.
    package var egress: EgressRule { EgressRule(allow: egressAllow) }
}

/// Reads settings and remembers what was wrong; a bad one reads as its default.
private struct Settings {
    private let environment: [String: String]
    private(set) var problems: [String] = []

    init(_ environment: [String: String]) { self.environment = environment.filter { !$0.value.isEmpty } }

    mutating func required(_ name: String, _ form: String) -> String {
        guard let text = environment[name] else {
            problems.append("\(name) is missing: \(form)")
            return ""
        }
        return text
    }

    func text(_ name: String, default fallback: String) -> String { environment[name] ?? fallback }

    mutating func parsed<Value>(_ name: String, default fallback: Value, _ form: String, _ parse: (String) -> Value?) -> Value {
        guard let text = environment[name] else { return fallback }
        guard let value = parse(text) else {
            problems.append("\(name) must be \(form)")
            return fallback
        }
        return value
    }

    mutating func number(_ name: String, default fallback: Int, _ range: ClosedRange<Int>) -> Int {
        parsed(name, default: fallback, "a whole number from \(range.lowerBound) to \(range.upperBound)") { text in
            Int(text).flatMap { range.contains($0) ? $0 : nil }
        }
    }

    /// The installation's secret; made on first use.
    mutating func keyring(_ name: String, default fallback: String) -> Keyring {
        let file = text(name, default: fallback)
        do {
            _ = try Keyring.create(file: file)
            return try Keyring.load(file: file)
        } catch {
            problems.append("\(name): \(error)")
            return Keyring(secret: Random.bytes(Keyring.secretCount), previous: nil)
        }
    }

    static func list(_ text: String) -> [String] {
        text.split(separator: ",").map { $0.filter { !$0.isWhitespace } }.filter { !$0.isEmpty }
    }
}
