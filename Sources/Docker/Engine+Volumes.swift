// Named volumes of the local driver. Docker does not limit their size.
import HTTP

package struct EngineVolume: Sendable, Equatable {
    package let name: String
    package let labels: [String: String]
}

extension Engine {
    /// Makes a volume; one of this name that exists is left as it is, which is no failure.
    package func createVolume(name: String, labels: [String: String]) throws(EngineError) {
        try call("POST", "/volumes/create", body: ["Name": .string(name), "Driver": "local", "Labels": JSON(labels)])
    }

    /// - Throws: `notFound`.
    package func inspectVolume(_ name: String) throws(EngineError) -> EngineVolume {
        EngineVolume(try json("GET", "/volumes/\(Self.escape(name))"))
    }

    package func volumeExists(_ name: String) throws(EngineError) -> Bool {
        do {
            _ = try inspectVolume(name)
            return true
        } catch .notFound {
            return false
        }
    }

    /// All volumes that carry all of the labels.
    package func volumes(labels: [String: String]) throws(EngineError) -> [EngineVolume] {
        (try json("GET", "/volumes", ["filters": Self.filters(labels)])["Volumes"]?.array ?? []).map(EngineVolume.init)
    }

    /// All volumes that carry all of the labels, with the bytes of their files; those whose size the engine can't tell are left out.
    /// It counts every file of every volume for that, which may take minutes; one such question at a time, others are refused (`other`).
    package func volumeSizes(labels: [String: String]) throws(EngineError) -> [(volume: EngineVolume, bytes: Int)] {
        // Engines before 1.42 don't know `type` and count images and containers as well.
        let answer = try json("GET", "/system/df", ["type": "volume"], timeout: 600_000)
        return (answer["Volumes"]?.array ?? []).compactMap { json in
            let volume = EngineVolume(json)
            guard let bytes = json["UsageData"]?["Size"]?.int, bytes >= 0 else { return nil }
            return labels.allSatisfy { volume.labels[$0.key] == $0.value } ? (volume, bytes) : nil
        }
    }

    /// Removes the volume and all that is in it.
    /// - Throws: `notFound`; `conflict` while any container, stopped ones too, has it.
    package func removeVolume(_ name: String) throws(EngineError) { try call("DELETE", "/volumes/\(Self.escape(name))") }
}

extension EngineVolume {
    fileprivate init(_ json: JSON) {
        name = json["Name"]?.string ?? ""
        labels = json["Labels"]?.texts ?? [:]
    }
}
