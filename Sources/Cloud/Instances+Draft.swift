// What a create body of /instances may say: image, ports, environment, command, type.
import API
import Docker
import Glibc
import HTTP
import Postgres

/// Size of an instance: the container's limits.
enum InstanceType: String, CaseIterable {
    case nano, micro, small, medium, large

    var cpus: Double {
        switch self {
        case .nano: 0.25
        case .micro: 0.5
        case .small: 1
        case .medium: 2
        case .large: 4
        }
    }

    var memoryMB: Int {
        switch self {
        case .nano: 64
        case .micro: 128
        case .small: 512
        case .medium: 2048
        case .large: 8192
        }
    }

    var json: JSON { ["name": .string(rawValue), "cpus": .double(cpus), "memory_mb": .int(memoryMB)] }
}

/// A TCP port of the host that leads to one of the instance's; host 0 wants one picked.
struct PortMapping: Equatable {
    let host: Int
    let container: Int
}

extension [PortMapping] {
    /// The form of create bodies: `80:80,20001:443`.
    var text: String { map { "\($0.host):\($0.container)" }.joined(separator: ",") }
}

extension Instances {
    /// Fills the zeros with ports that nobody holds; costs a round trip only where there are any.
    static func pick(_ ports: [PortMapping], busy: Set<Int>, _ context: Context) throws -> [PortMapping] {
        let count = ports.count { $0.host == 0 }
        guard count > 0 else { return ports }
        let taken = busy.union(ports.map(\.host)).sorted()
        var free = try context.query("select free_ports(\(count), \(taken)::int[])").scalar([Int].self) ?? []
        guard free.count == count else { throw APIError.conflict("No free host port is left") }
        return ports.map { $0.host == 0 ? PortMapping(host: free.removeLast(), container: $0.container) : $0 }
    }
}

/// Ports of this machine that somebody listens on, from Linux's /proc/net (proc(5)). Empty where that can't be read.
enum HostPorts {
    static func listening() -> Set<Int> {
        var ports: Set<Int> = []
        for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
            guard let stream = fopen(file, "re") else { continue }
            defer { fclose(stream) }
            var line: UnsafeMutablePointer<CChar>?
            var capacity = 0
            defer { free(line) }
            while getline(&line, &capacity, stream) > 0, let text = line {
                let columns = String(cString: text).split(separator: " ")
                // local_address is hex address:port; state 0A is LISTEN.
                guard columns.count > 3, columns[3] == "0A", let colon = columns[1].lastIndex(of: ":") else { continue }
                if let port = Int(columns[1][columns[1].index(after: colon)...], radix: 16) { ports.insert(port) }
            }
        }
        return ports
    }
}

extension Rule where Value == ImageReference {
    static let image = Rule("must be an image reference such as nginx:1.27 or registry.example:5000/team/app@sha256:…") { json in
        json.string.flatMap(ImageReference.init)
    }
}

extension Rule where Value == InstanceType {
    static let instanceType = Rule("must be one of \(InstanceType.allCases.map(\.rawValue).joined(separator: ", "))") { json in
        json.string.flatMap(InstanceType.init)
    }
}

extension Rule where Value == [PortMapping] {
    static let ports = Rule("must be up to 10 pairs host:container such as 80:80,0:443; ports 1–65535, host 0 picks a free one") { json in
        guard let text = json.string else { return nil }
        if text.isEmpty { return [] }
        let mappings = text.split(separator: ",", omittingEmptySubsequences: false).map { pair -> PortMapping? in
            let halves = pair.split(separator: ":", omittingEmptySubsequences: false).map { port in
                port.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) } ? Int(port) : nil
            }
            guard halves.count == 2, let host = halves[0], let container = halves[1] else { return nil }
            return (0...65535).contains(host) && (1...65535).contains(container) ? PortMapping(host: host, container: container) : nil
        }
        let ports = mappings.compactMap { $0 }
        let named = ports.map(\.host).filter { $0 != 0 }
        return ports.count == mappings.count && ports.count <= 10 && Set(named).count == named.count ? ports : nil
    }
}

extension Rule where Value == [String: String] {
    /// Environment variables (POSIX.1-2017 §8.1 names): at most 100, 64 KiB in all.
    static let env = Rule("must be an object of up to 100 texts, 64 KiB in all, by names of letters, digits and '_'") { json in
        guard case .object(let members) = json, members.count <= 100 else { return nil }
        var env: [String: String] = [:]
        for member in members {
            guard let value = member.value.string, let first = member.name.utf8.first, first < 0x30 || first > 0x39 else { return nil }
            guard member.name.wholeMatch(of: /[A-Za-z0-9_]{1,128}/) != nil else { return nil }
            env[member.name] = value
        }
        return env.reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count } <= 65536 ? env : nil
    }
}

extension Rule where Value == [String] {
    /// A list of arguments, or one line for the shell.
    static let command = Rule("must be a shell line or a list of 1–100 arguments, 64 KiB in all") { json in
        let arguments = json.string.map { ["/bin/sh", "-c", $0] } ?? json.array?.compactMap(\.string)
        guard let arguments, (1...100).contains(arguments.count), json.array.map({ $0.count == arguments.count }) ?? true else {
            return nil
        }
        return arguments.reduce(0) { $0 + $1.utf8.count } <= 65536 && !arguments[0].isEmpty ? arguments : nil
    }
}
