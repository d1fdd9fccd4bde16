// What bodies of /cron may say. Schedule, time zone, URL and headers are judged here, so that what is stored can be run.
import API
import Crypto
import HTTP
import Outbound
import Schedules

/// A whole job.
struct CronDraft {
    /// A schedule and how it was written.
    struct Schedule {
        let text: String
        private let schedule: CronSchedule

        init(_ text: String) throws(CronSchedule.Problem) {
            self.text = text
            schedule = try CronSchedule(text)
        }

        func next(after now: Timestamp, in zone: ZoneName) -> Timestamp? { schedule.next(after: now, in: zone.zone) }
    }

    /// A zone and what it is called.
    struct ZoneName {
        let name: String
        fileprivate let zone: Zone

        init?(_ name: String) {
            guard let zone = Zone.named(name) else { return nil }
            (self.name, self.zone) = (name, zone)
        }
    }

    static let noPayload = "is not sent with GET; choose another method"

    let name: String
    let schedule: Schedule
    let zone: ZoneName
    let targetURL: String
    let change: CronChange

    init(_ body: Fields, _ egress: EgressRule) throws(APIError) {
        var body = body
        for name in ["name", "schedule", "target_url"] where !body.has(name) { body.report(name, "is required") }
        change = CronChange(reading: &body, egress)
        if change.method == "GET", change.payload != nil { body.report("payload", Self.noPayload) }
        guard let name = change.name, let schedule = change.schedule, let url = change.targetURL, let zone = change.zone ?? ZoneName("UTC"),
            body.problems == nil
        else { throw body.refusal }
        (self.name, self.schedule, self.zone, targetURL) = (name, schedule, zone, url)
    }
}

/// Those members of a job that a body has.
struct CronChange {
    let name: String?
    let schedule: CronDraft.Schedule?
    let zone: CronDraft.ZoneName?
    let targetURL: String?
    let method: String?
    let headers: [CronHeader]?
    /// An empty text takes the payload away.
    let payload: JSON?
    let hasPayload: Bool
    let timeout: Int?
    let retries: Int?
    let overlap: String?
    let missed: String?
    /// Of the members.
    let names: [String]

    private static let members = [
        "name", "schedule", "timezone", "target_url", "method", "headers", "payload", "timeout", "retries", "overlap", "missed",
    ]

    init(_ body: Fields, _ egress: EgressRule) throws(APIError) {
        var body = body
        self.init(reading: &body, egress)
        if names.isEmpty { body.report("schedule", "or another member is required") }
        if let problems = body.problems { throw problems }
    }

    /// What is bad is reported, and `nil` here.
    fileprivate init(reading body: inout Fields, _ egress: EgressRule) {
        names = Self.members.filter(body.has)
        name = body.optional("name", .resourceName)
        schedule = Self.schedule(&body)
        zone = body.optional("timezone", .zone)
        targetURL = body.optional("target_url", .targetURL).flatMap { body.target("target_url", $0, egress)?.url }
        method = body.optional("method", .oneOf(["GET", "POST", "PUT", "PATCH", "DELETE"]))
        headers = body.optional("headers", .headers)
        let payload = body.optional("payload", .payload)
        self.payload = payload == .string("") ? Optional<JSON>.none : payload
        hasPayload = payload != nil
        timeout = body.optional("timeout", .integer(1...300))
        retries = body.optional("retries", .integer(0...10))
        overlap = body.optional("overlap", .oneOf(["allow", "forbid"]))
        missed = body.optional("missed", .oneOf(["skip", "run_once"]))
    }

    private static func schedule(_ body: inout Fields) -> CronDraft.Schedule? {
        guard let text = body.optional("schedule", .scheduleText) else { return nil }
        do {
            return try CronDraft.Schedule(text)
        } catch {
            body.report("schedule", error.description)
            return nil
        }
    }
}

/// A header that a job's requests carry.
struct CronHeader: Equatable {
    let name: String
    let value: String

    /// What is ours to say, what belongs to one connection (RFC 9110 §7.6.1), and what would make another request of it.
    private static let reserved: Set<String> = [
        "host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "proxy-authenticate",
        "proxy-authorization", "te", "trailer", "upgrade", "expect", "user-agent",
    ]

    init?(_ member: JSON.Member) {
        guard let value = member.value.string, value != JSON.mask, (1...256).contains(member.name.utf8.count) else { return nil }
        let legal = member.name.utf8.allSatisfy { (0x21...0x7E).contains($0) && !"\"(),/:;<=>?@[\\]{}".utf8.contains($0) }
        guard legal, value.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 }) else { return nil }
        let key = member.name.lowercased()
        guard !Self.reserved.contains(key), !key.hasPrefix("x-cloud-cron-") else { return nil }
        (name, self.value) = (member.name, value)
    }

    /// - Returns: `nil` for none.
    static func seal(_ headers: [CronHeader], _ keyring: Keyring, of id: ID) -> [UInt8]? {
        guard !headers.isEmpty else { return nil }
        return keyring.seal(JSON.object(headers.map { JSON.Member($0.name, .string($0.value)) }).bytes, .cronHeaders, of: id)
    }
}

extension Rule where Value == String {
    /// What a URL is made of is told by `Fields.target`, what a schedule is by `CronSchedule`.
    fileprivate static let targetURL = Rule("must be an http or https URL") { $0.string }
    fileprivate static let scheduleText = Rule("must be a text such as \"0 3 * * *\" or @daily") { $0.string }
}

extension Rule where Value == CronDraft.ZoneName {
    fileprivate static let zone = Rule("must be a time zone of the IANA database such as Europe/London") { json in
        json.string.flatMap(CronDraft.ZoneName.init)
    }
}

extension Rule where Value == [CronHeader] {
    fileprivate static let headers = Rule(
        """
        must be an object of at most 50 texts by header names, 16 KiB in all; Host, Content-Length, User-Agent, X-Cloud-Cron-… and headers of \
        a connection are not for you to set, and ******** is no value: leave headers out to keep them
        """
    ) { json in
        guard case .object(let members) = json, members.count <= 50 else { return nil }
        let headers = members.compactMap(CronHeader.init)
        let size = headers.reduce(0) { $0 + $1.name.utf8.count + $1.value.utf8.count }
        guard headers.count == members.count, size <= 16384, Set(headers.map { $0.name.lowercased() }).count == headers.count else {
            return nil
        }
        return headers
    }
}

extension Rule where Value == JSON {
    fileprivate static let payload = Rule("must be a text or JSON of at most 64 KiB") { json in
        // JSON has a nil of its own, which is null.
        (json.string?.utf8.count ?? json.bytes.count) <= 65536 ? json : Optional<JSON>.none
    }
}
