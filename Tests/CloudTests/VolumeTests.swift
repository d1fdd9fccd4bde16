// /volumes as a client sees them, and the volumes of instances. The engine is not asked: what cron would write is written by hand here.
import HTTP
import Postgres
import TestSupport
import Testing

struct VolumeTests {
    let cloud: TestCloud
    let owner: Owner

    init() throws {
        cloud = try TestCloud()
        owner = try cloud.newOwner()
    }

    private func volume(_ name: String, made: Bool = true) throws -> String {
        let answer = cloud.call(.post, "/volumes", key: owner.key, json: ["name": .string(name), "size_gb": 10])
        let id = try #require(answer["data"]?["id"]?.string, "\(answer)")
        if made { try cloud.admin("update volumes set made_at = now() where id = \(id)::uuid") }
        return id
    }

    private func instance(_ name: String, volumes: JSON = []) throws -> String {
        let answer = cloud.call(
            .post, "/instances", key: owner.key,
            json: ["name": .string(name), "image": "nginx", "instance_type": "nano", "volumes": volumes])
        return try #require(answer["data"]?["id"]?.string, "\(answer)")
    }

    private func attach(_ volume: String, to instance: String, at path: String = "/data") -> Answer {
        cloud.call(
            .post, "/volumes/\(volume)/attach", key: owner.key, json: ["instance_id": .string(instance), "mount_path": .string(path)])
    }

    private func detach(_ volume: String) -> Answer { cloud.call(.post, "/volumes/\(volume)/detach", key: owner.key) }

    /// In pairs of volume and path, in the answer's order.
    private func mounts(_ instance: String) -> [[String?]]? {
        let volumes = cloud.call(.get, "/instances/\(instance)", key: owner.key)["data"]?["volumes"]?.array
        return volumes?.map { [$0["volume_id"]?.string, $0["mount_path"]?.string] }
    }

    @Test func theDocumentedBody() throws {
        let answer = cloud.call(.post, "/volumes", key: owner.key, text: #"{"name": "my-volume", "size_gb": 10}"#)
        let volume = """
            {"id": "$id", "name": "my-volume", "size_gb": 10, "status": "CREATING", "status_reason": null, "instance_id": null,
             "mount_path": null, "used_bytes": null, "measured_at": null, "created_at": "$time", "updated_at": "$time"}
            """
        expect(answer, 201, #"{"data": \#(volume)}"#)
        let id = try #require(answer["data"]?["id"]?.string)
        expect(cloud.call(.get, "/volumes/\(id)", key: owner.key), 200, #"{"data": \#(volume)}"#)
        expect(cloud.call(.get, "/volumes", key: owner.key), 200, #"{"data": [\#(volume)], "meta": {"next_cursor": null}}"#)
        #expect(try cloud.admin("select wanted from jobs where kind = 'volume' and subject = \(id)").scalar(Int.self) == 1)
        expect(
            cloud.call(.post, "/volumes", key: owner.key, json: ["name": "my-volume", "size_gb": 1]), 409,
            error: "conflict", "ALREADY_EXISTS", "You have a volume of this name already")
        expect(cloud.call(.delete, "/volumes/\(id)", key: owner.key), 200, #"{"message": "Volume is being deleted"}"#)
        #expect(cloud.call(.get, "/volumes/\(id)", key: owner.key)["data"]?["status"] == "TERMINATING")
        #expect(cloud.call(.delete, "/volumes/\(id)", key: owner.key).status == 200, "asking twice does no harm")
    }

    @Test func everyBadFieldIsNamedAtOnce() throws {
        for size in [0, 16385] {
            let bad = cloud.call(.post, "/volumes", key: owner.key, json: ["name": "a b", "size_gb": .int(size)])
            #expect(bad.status == 400 && bad.badFields == ["name", "size_gb"], "\(bad)")
        }
        #expect(cloud.call(.post, "/volumes", key: owner.key, json: [:]).badFields == ["name", "size_gb"])
        let bad = cloud.call(.post, "/volumes/\(try volume("v"))/attach", key: owner.key, json: ["instance_id": "x", "mount_path": "data"])
        #expect(bad.status == 400 && bad.badFields == ["instance_id", "mount_path"], "\(bad)")
    }

    @Test(arguments: [
        "", "/", "data", "./data", "/data/", "//data", "/a//b", "/a/./b", "/a/../b", "/..", "/proc", "/proc/1", "/sys", "/dev", "/dev/shm",
        "/etc/hosts", "/etc/resolv.conf", "/a\nb", "/" + String(repeating: "x", count: 255),
    ])
    func pathsThatAreNone(path: String) throws {
        let volume = try volume("v")
        let answer = attach(volume, to: try instance("web"), at: path)
        #expect(answer.status == 400 && answer.badFields == ["mount_path"], "\(answer)")
        let mounts: JSON = [["volume_id": .string(volume), "mount_path": .string(path)]]
        let launch = cloud.call(.post, "/instances", key: owner.key, json: ["name": "b", "image": "nginx", "volumes": mounts])
        #expect(launch.status == 400 && launch.badFields == ["volumes"], "\(launch)")
    }

    @Test(arguments: ["/data", "/a b", "/var/lib/postgresql/data", "/processes", "/é/…", "/.hidden", "/a..b"])
    func pathsThatAreSome(path: String) throws {
        let answer = attach(try volume("v"), to: try instance("web"), at: path)
        #expect(answer.status == 200 && answer["data"]?["mount_path"]?.string == path, "\(answer)")
    }

    @Test func anInstanceIsLaunchedWithVolumes() throws {
        let (first, second) = (try volume("first"), try volume("second", made: false))
        let id = try instance(
            "web",
            volumes: [["volume_id": .string(second), "mount_path": "/var/b"], ["volume_id": .string(first), "mount_path": "/var/a"]])
        #expect(mounts(id) == [[first, "/var/a"], [second, "/var/b"]])
        let shown = cloud.call(.get, "/volumes/\(first)", key: owner.key)["data"]
        #expect(shown?["status"] == "IN_USE" && shown?["instance_id"]?.string == id && shown?["mount_path"] == "/var/a")
        #expect(cloud.call(.get, "/volumes/\(second)", key: owner.key)["data"]?["status"] == "CREATING")
        let launch = cloud.call(
            .post, "/instances", key: owner.key,
            json: ["name": "other", "image": "nginx", "volumes": [["volume_id": .string(first), "mount_path": "/data"]]])
        expect(launch, 409, error: "conflict", "CONFLICT", "The volume first can't be attached: it is IN_USE")
        #expect(cloud.call(.get, "/instances", key: owner.key)["data"]?.array?.count == 1, "the refused one left nothing behind")
        let actions = cloud.call(.get, "/auth/audit?limit=3", key: owner.key)["data"]?.array?.map { $0["action"]?.string }
        #expect(actions == ["volume.attached", "volume.attached", "instance.created"])
    }

    @Test func volumesOfAnInstanceThatAreNone() throws {
        let other = try cloud.newOwner()
        let foreign = cloud.call(.post, "/volumes", key: other.key, json: ["name": "v", "size_gb": 1])["data"]?["id"]?.string ?? ""
        let mine = try volume("mine")
        func mount(_ id: String, _ path: String) -> JSON { ["volume_id": .string(id), "mount_path": .string(path)] }
        let lists: [JSON] = [
            [mount(foreign, "/a")], [mount(mine, "/a"), mount(foreign, "/b")], [mount(mine, "/a"), mount(mine, "/b")],
            [mount(mine, "/a"), mount(try volume("second"), "/a")], [["volume_id": .string(mine)]], [["mount_path": "/a"]], [.string(mine)],
            .string(mine), .array((0...10).map { mount("01890000-0000-7000-8000-\(100_000_000_000 + $0)", "/\($0)") }),
        ]
        for list in lists {
            let answer = cloud.call(.post, "/instances", key: owner.key, json: ["name": "web", "image": "nginx", "volumes": list])
            #expect(answer.status == 400 && answer.badFields == ["volumes"], "\(list.text): \(answer)")
        }
    }

    @Test func attachingAndDetaching() throws {
        let (data, web) = (try volume("data"), try instance("web"))
        expect(
            attach(data, to: web), 200,
            """
            {"message": "Volume is being attached", "data": {"id": "\(data)", "name": "data", "size_gb": 10, "status": "IN_USE",
             "status_reason": null, "instance_id": "\(web)", "mount_path": "/data", "used_bytes": null, "measured_at": null,
             "created_at": "$time", "updated_at": "$time"}}
            """)
        #expect(mounts(web) == [[data, "/data"]])
        let inUse = "The volume is attached to the instance \(web)"
        expect(attach(data, to: web), 409, error: "conflict", "CONFLICT", inUse)
        expect(attach(data, to: try instance("other")), 409, error: "conflict", "CONFLICT", inUse)
        expect(cloud.call(.delete, "/volumes/\(data)", key: owner.key), 409, error: "conflict", "CONFLICT", inUse)
        expect(
            attach(try volume("second"), to: web), 409, error: "conflict", "CONFLICT", "The instance has another volume at this path")
        #expect(detach(data)["message"] == "Volume is being detached")
        #expect(mounts(web) == [])
        #expect(cloud.call(.get, "/volumes/\(data)", key: owner.key)["data"]?["status"] == "IN_USE", "the container still has it")
        #expect(attach(data, to: web).status == 409)
        #expect(detach(data).status == 200, "asking twice does no harm")
        #expect(attach(try volume("third"), to: web).status == 200, "the path is free at once")
        try cloud.admin("update volumes set instance_id = null, mount_path = null, is_detaching = false where id = \(data)::uuid")
        #expect(cloud.call(.get, "/volumes/\(data)", key: owner.key)["data"]?["status"] == "AVAILABLE")
        expect(detach(data), 409, error: "conflict", "CONFLICT", "The volume is attached to no instance")
        let wanted = try cloud.admin("select wanted from jobs where kind = 'instance' and subject = \(web)").scalar(Int.self)
        #expect(wanted == 5)
        let types = try cloud.admin("select type from events where resource_id = \(data)::uuid order by id").map { row in
            var row = row
            return row.next(String.self)
        }
        #expect(types == ["volume.created", "volume.attached", "volume.detached", "volume.detached"])
    }

    @Test func whatCantBeAttached() throws {
        let (web, lost, going) = (try instance("web"), try volume("lost"), try volume("going"))
        try cloud.admin("update volumes set status_reason = 'lost' where id = \(lost)::uuid")
        expect(attach(lost, to: web), 409, error: "conflict", "CONFLICT", "The volume can't be attached: it is ERROR")
        #expect(cloud.call(.delete, "/volumes/\(going)", key: owner.key).status == 200)
        expect(attach(going, to: web), 409, error: "conflict", "CONFLICT", "The volume can't be attached: it is TERMINATING")
        let volumes = try (0...10).map { try volume("v\($0)") }
        for (number, id) in volumes.dropLast().enumerated() { #expect(attach(id, to: web, at: "/\(number)").status == 200) }
        expect(attach(volumes[10], to: web), 409, error: "conflict", "CONFLICT", "The instance has 10 volumes already")
        try cloud.admin("update instances set desired = 'PAUSED', status = 'PAUSED' where id = \(web)::uuid")
        let paused = "The instance is paused, and its container would have to be made anew"
        for answer in [attach(volumes[10], to: web), detach(volumes[0])] { expect(answer, 409, error: "conflict", "CONFLICT", paused) }
        #expect(cloud.call(.delete, "/instances/\(web)", key: owner.key).status == 200)
        for answer in [attach(volumes[10], to: web), detach(volumes[0])] {
            expect(answer, 409, error: "conflict", "CONFLICT", "The instance is being terminated")
        }
        let foreign = try cloud.newOwner()
        let theirs = cloud.call(.post, "/instances", key: foreign.key, json: ["name": "n", "image": "nginx"])["data"]?["id"]?.string ?? ""
        #expect(attach(volumes[10], to: theirs).badFields == ["instance_id"])
    }

    @Test func manyAtOnceAndOneGetsIt() throws {
        let volume = try volume("data")
        let instances = try (0..<6).map { try instance("web-\($0)") }
        let (key, next) = (owner.key, Numbers())
        let statuses = try sideBySide(6, threads: 6) {
            let cloud = try TestCloud()
            return {
                let body: JSON = ["instance_id": .string(instances[next.take()]), "mount_path": "/data"]
                return cloud.call(.post, "/volumes/\(volume)/attach", key: key, json: body).status
            }
        }
        #expect(statuses.sorted() == [200, 409, 409, 409, 409, 409])
    }

    @Test func quotasOfVolumesAndSize() throws {
        let small = try TestCloud(["THECLOUD_QUOTA_VOLUMES": "2", "THECLOUD_QUOTA_VOLUME_GB": "100"])
        func create(_ name: String, _ size: Int) -> Answer {
            small.call(.post, "/volumes", key: owner.key, json: ["name": .string(name), "size_gb": .int(size)])
        }
        #expect(create("a", 60).status == 201)
        expect(create("b", 41), 403, error: "forbidden", "QUOTA_EXCEEDED", "Quota exceeded: at most 100 GB in all volumes")
        #expect(create("b", 40).status == 201)
        expect(create("c", 1), 403, error: "forbidden", "QUOTA_EXCEEDED", "Quota exceeded: at most 2 volumes")
    }
}
