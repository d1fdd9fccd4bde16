// What a container uses. Processor percent needs two readings: the engine takes a second for that, or the caller brings an earlier one.
package import HTTP

package struct ContainerStats: Sendable, Equatable {
    /// 100 is one core, busy all the time; `nil` without two readings.
    package let cpuPercent: Double?
    /// Bytes, without the file cache that the kernel can drop at once.
    package let memoryUsed: Int
    package let memoryLimit: Int
    package let pids: Int
    /// Bytes since the start, over all networks.
    package let networkReceived: Int
    package let networkSent: Int

    /// Nanoseconds of processor time, of the container and of the whole host, since their starts.
    private let cpuTime: Int
    private let systemTime: Int
}

extension Engine {
    /// Reads the usage; of a container that does not run, all is zero.
    /// - Parameters:
    ///   - earlier: an earlier reading of the same container: the answer then comes at once and covers the time in between.
    ///     Without it this takes one to two seconds.
    ///   - waits: false: it never does, and there is no percentage without an earlier reading.
    /// - Throws: `notFound`.
    package func stats(_ container: String, since earlier: ContainerStats? = nil, waits: Bool = true) throws(EngineError) -> ContainerStats
    {
        let isQuick = earlier != nil || !waits
        let json = try json("GET", path(container, "stats"), ["stream": "0", "one-shot": isQuick ? "1" : "0"], timeout: 10_000)
        return ContainerStats(json, since: earlier)
    }
}

extension ContainerStats {
    /// As answers and events show it.
    package var json: JSON {
        [
            "cpu_percent": cpuPercent.map(JSON.double) ?? .null, "memory_bytes": .int(memoryUsed), "memory_limit_bytes": .int(memoryLimit),
            "pids": .int(pids), "network_received_bytes": .int(networkReceived), "network_sent_bytes": .int(networkSent),
        ]
    }

    init(_ json: JSON, since earlier: ContainerStats?) {
        let memory = json["memory_stats"]
        let cache = memory?["stats"]?["inactive_file"]?.int ?? memory?["stats"]?["total_inactive_file"]?.int ?? 0
        memoryUsed = max(0, (memory?["usage"]?.int ?? 0) - cache)
        memoryLimit = memory?["limit"]?.int ?? 0
        pids = json["pids_stats"]?["current"]?.int ?? 0
        let networks = (json["networks"]?.members ?? [:]).values
        networkReceived = networks.reduce(0) { $0 + ($1["rx_bytes"]?.int ?? 0) }
        networkSent = networks.reduce(0) { $0 + ($1["tx_bytes"]?.int ?? 0) }

        let now = Self.times(json["cpu_stats"])
        (cpuTime, systemTime) = now
        let before = earlier.map { ($0.cpuTime, $0.systemTime) } ?? Self.times(json["precpu_stats"])
        let cores = json["cpu_stats"]?["online_cpus"]?.int ?? 1
        let elapsed = now.system - before.1
        // A restart sets the container's clock back.
        if before.1 > 0, elapsed > 0, now.cpu >= before.0 {
            cpuPercent = Double(now.cpu - before.0) / Double(elapsed) * Double(cores) * 100
        } else {
            cpuPercent = nil
        }
    }

    private static func times(_ json: JSON?) -> (cpu: Int, system: Int) {
        (json?["cpu_usage"]?["total_usage"]?.int ?? 0, json?["system_cpu_usage"]?.int ?? 0)
    }
}
