// What processes that were killed leave behind, and that the living lose nothing. Alone in its installation: whoever clears away sees all homes.
import API
import Crypto
import Docker
import HTTP
import Postgres
import TestSupport
import Testing

@testable import Jobs

struct SandboxKeepingTests {
    @Test func whatADeadProcessLeavesIsClearedAway() throws {
        try StandInImages.prepare(["python:3.12-alpine"])
        let bench = try Bench("keeping")
        let cloud = try TestCloud(database: bench.database, engine: Engine())
        let owner = try cloud.newOwner()
        let zip = Base64.standard.padded(ZipMaker(["index.py": "def handler(payload): return 1"]).bytes)
        let made = cloud.call(
            .post, "/functions", key: owner.key, json: ["name": "f", "runtime": "python312", "code_zip": .string(zip), "timeout": 60])
        let path = "/functions/" + (try #require(made["data"]?["id"]?.string, "\(made)"))
        #expect(cloud.call(.post, path + "/invoke", key: owner.key)["data"]?["status"] == "SUCCEEDED")
        let living = try #require(cloud.sandboxes)

        // A home that says nothing any more, with a sandbox and an invocation; and a sandbox of a home that nobody knows.
        let (dead, unknown) = (ID(at: .now()), ID(at: .now()))
        try cloud.admin("insert into sandbox_homes (id) values (\(dead))")
        let workbench = try bench.workbench()
        let containers = try [dead, unknown].map { try sandbox(of: $0, bench, workbench.engine) }
        let lost = try #require(
            try cloud.admin(
                """
                insert into invocations (id, owner_id, function_id, is_async, status, home, leased_until)
                select new_id(), owner_id, id, false, 'RUNNING', \(dead), now() + interval '1 hour' from functions
                where owner_id = \(owner.id)::uuid returning id::text
                """
            ).scalar(String.self))
        func found() -> JSON? { cloud.call(.get, "\(path)/invocations/\(lost)", key: owner.key)["data"] }
        func present() throws -> Set<String> {
            Set(try workbench.engine.containers(labels: bench.names.labels(kind: "sandbox")).map(\.id))
        }
        let keeping = SandboxKeeping(workbench, silence: .zero)
        try keeping.run()
        #expect(found()?["status"] == "RUNNING", "nobody is dead at first sight")
        #expect(try present().contains(containers[0]) && !present().contains(containers[1]))

        func pulse() throws -> Timestamp? { try cloud.admin("select seen_at from sandbox_homes where id = \(living.id)").scalar() }
        let before = try pulse()
        try eventually("the living speak again") { try pulse() != before }
        try keeping.run()
        #expect(found()?["status"] == "FAILED" && found()?["error"] == "the worker was lost")
        #expect(try !present().contains(containers[0]))
        #expect(cloud.call(.post, path + "/invoke", key: owner.key)["data"]?["cold_start"] == false, "the living keep their sandboxes")

        living.close()
        #expect(try present().isEmpty)
        #expect(try pulse() == nil)
    }

    private func sandbox(of home: ID, _ bench: Bench, _ engine: Engine) throws -> String {
        let id = ID(at: .now())
        let labels = bench.names.labels(kind: "sandbox", id: id, owner: id).merging(["thecloud.home": home.description]) { $1 }
        let limits = ContainerSpec.Limits(nanoCPUs: 100_000_000, memory: 32 << 20, pids: 8)
        let image = try #require(ImageReference("thecloud-test-busybox"))
        let container = try engine.createContainer(
            ContainerSpec(name: bench.names.name("sandbox", id), image: image, limits: limits, labels: labels, command: ["sleep", "600"]))
        try engine.start(container)
        return container
    }
}
