// Clients of Chat are islands: no key of another client gets anything of this one by any route, and nothing of it is changed.
import API
import HTTP
import Identity
import Postgres
import TestSupport
import Testing

struct IslandTests {
    let cloud: TestCloud

    init() throws { cloud = try TestCloud() }

    /// All rows of a client; keys are left out, because their use is noted in them.
    private func snapshot(_ client: Owner) throws -> [String] {
        try ["members", "clients", "rooms", "participants", "messages", "notifications", "events"].map { table in
            let rows = try cloud.admin(
                """
                select coalesce(string_agg(t::text, E'\\n' order by t::text), '') from \(verbatim: table) t where owner_id = \(client.id)::uuid
                """)
            return table + " " + (rows.scalar(String.self) ?? "")
        }
    }

    @Test(arguments: Probe.chat.filter { !$0.route.access.isOpen })
    func anotherClientsKeysReachNothing(probe: Probe) throws {
        let victim = try cloud.newMember()
        let intruder = try cloud.newMember()
        let room = try cloud.newRoom(of: victim, joinedBy: [victim])
        let message = cloud.call(
            .post, "/api/v1/messages", key: victim.key, json: ["room_id": .string(room), "content": "canary in the message"])
        #expect(message.status == 201)
        let owner = probe.route.access.permission.map { Role.member.permissions.contains($0) } == true ? victim : victim.client
        let id = try Samples.object(probe, of: owner, cloud) ?? room
        let secrets = [id, room, victim.id, victim.memberID ?? "", victim.email, "canary"]
        let target = probe.path(id) + (probe.name == "GET /api/v1/messages" ? "?room_id=\(room)" : "")
        var body = try Samples.body(probe, intruder.client)
        if probe.name == "POST /api/v1/users/login" { body = ["email": .string(victim.email)] }
        for (field, change) in Samples.references(probe, stranger: room) {
            guard field == "room_id", case .object(let members)? = body else { continue }
            body = JSON.object(members.filter { $0.name != field }).adding(change)
        }
        let before = try snapshot(victim)
        for key in [intruder.key, intruder.master] {
            let answer = cloud.call(probe.route.method, target, key: key, json: body)
            if probe.route.path.contains(":id") || target.contains("?") {
                #expect([403, 404].contains(answer.status) || answer.badFields == ["user_id"], "\(answer)")
            }
            if answer.status < 400 {
                for secret in secrets { #expect(!answer.text.contains(secret), "\(answer)") }
            }
        }
        #expect(try snapshot(victim) == before)
        #expect(cloud.call(.get, "/api/v1/users/profile", key: victim.key).status == 200)
    }
}
