// The main job through nginx and a real engine: what the README's first session does, and the engine agrees at each step.
import Docker
import HTTP
import Outbound
import Testing

@Suite struct InstanceSessionTests {
    let visitor = Visitor()

    private func status(_ id: String) throws -> String {
        try visitor.call("GET", "/instances/\(id)").json["data"]?["status"]?.string ?? "gone"
    }

    @Test func `an instance is launched, answers on its port, is stopped, started and deleted, and the engine agrees`() throws {
        try visitor.join()
        let engine = try #require(Engine())
        let launch = try visitor.call("POST", "/instances", ["name": "web-01", "image": "nginx", "ports": "0:80"])
        #expect(launch.status == 201)
        let id = try #require(launch.json["data"]?["id"]?.string)
        func containers() throws -> [ContainerState] { try engine.containers(labels: ["thecloud.id": id]).map(\.state) }

        _ = try eventually {
            try status(id)
        } until: {
            $0 == "RUNNING"
        }
        #expect(try containers() == [.running])
        let instance = try #require(try visitor.call("GET", "/instances/\(id)").json["data"])
        let port = (instance["ports"]?.string ?? "").prefix { $0 != ":" }
        let page = try eventually {
            try? HTTPClient().send(OutboundRequest(url: "http://127.0.0.1:\(port)/"))
        } until: {
            $0 != nil
        }
        let text = String(decoding: page?.body ?? [], as: UTF8.self)
        #expect(text.contains("Welcome to nginx!"))
        let address = instance["private_ip"]?.string
        #expect(try engine.containers(labels: ["thecloud.id": id]).first?.addresses.values.first == address)

        let log = try eventually {
            try visitor.call("GET", "/instances/\(id)/logs?tail=5").json["data"]?["logs"]?.string ?? ""
        } until: {
            $0.contains("GET / HTTP/1.1")
        }
        #expect(log.contains("200"))
        let stats = try visitor.call("GET", "/instances/\(id)/stats").json["data"]
        #expect(stats?["memory_limit_bytes"] == .int(512 << 20))

        #expect(try visitor.call("PUT", "/instances/\(id)", ["status": "STOPPED"]).status == 200)
        _ = try eventually {
            try status(id)
        } until: {
            $0 == "STOPPED"
        }
        #expect(try containers() == [.exited])
        #expect(try visitor.call("GET", "/instances/\(id)/stats").status == 409)

        #expect(try visitor.call("PUT", "/instances/\(id)", ["status": "RUNNING"]).status == 200)
        _ = try eventually {
            try status(id)
        } until: {
            $0 == "RUNNING"
        }
        #expect(try containers() == [.running])

        #expect(try visitor.call("DELETE", "/instances/\(id)").json == ["message": "Instance is being terminated"])
        _ = try eventually {
            try status(id)
        } until: {
            $0 == "gone"
        }
        #expect(try containers() == [])
    }

    @Test func `two owners' instances are on networks of their own`() throws {
        let other = Visitor()
        try visitor.join()
        try other.join()
        let body: JSON = ["name": "n", "image": "nginx", "instance_type": "micro"]
        let ids = try [visitor, other].map { try #require(try $0.call("POST", "/instances", body).json["data"]?["id"]?.string) }
        let addresses = try zip([visitor, other], ids).map { visitor, id in
            try eventually {
                try visitor.call("GET", "/instances/\(id)").json["data"]?["private_ip"]?.string
            } until: {
                $0 != nil
            }
        }
        let networks = addresses.map { $0?.split(separator: ".").prefix(3).joined(separator: ".") }
        #expect(networks[0] != networks[1])
        for (visitor, id) in zip([visitor, other], ids) { _ = try visitor.call("DELETE", "/instances/\(id)") }
    }
}
