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

    /// All volumes that carry all of the labels.
    package func volumes(labels: [String: String]) throws(EngineError) -> [EngineVolume] {
        (try json("GET", "/volumes", ["filters": Self.filters(labels)])["Volumes"]?.array ?? []).map(EngineVolume.init)
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
