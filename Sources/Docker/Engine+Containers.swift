// The life of a container. `container` is an id or a name everywhere.
// Calls that wait for the container's own processes take longer than the rest; each has its limit.
import HTTP

extension Engine {
    /// Makes a container, not yet started.
    /// - Returns: its id.
    /// - Throws: `imageMissing`, `conflict` when the name is taken, `notFound` for an unknown network.
    package func createContainer(_ spec: ContainerSpec) throws(EngineError) -> String {
        try json("POST", "/containers/create", ["name": spec.name], body: spec.json)["Id"]?.string ?? ""
    }

    /// - Throws: `notModified` when it runs, `portTaken` or `addressTaken` (it then stays, not started), `notFound`.
    package func start(_ container: String) throws(EngineError) { try call("POST", path(container, "start"), timeout: 60_000) }

    /// SIGTERM (or the image's signal), then SIGKILL.
    /// - Parameter timeout: seconds in between.
    /// - Throws: `notModified` when it does not run, `notFound`.
    package func stop(_ container: String, timeout: Int = 10) throws(EngineError) {
        try call("POST", path(container, "stop"), ["t": String(timeout)], timeout: timeout * 1000 + 30_000)
    }

    /// - Throws: `conflict` when it does not run or is paused already, `notFound`.
    package func pause(_ container: String) throws(EngineError) { try call("POST", path(container, "pause")) }

    /// - Throws: `conflict` when it is not paused, `notFound`.
    package func unpause(_ container: String) throws(EngineError) { try call("POST", path(container, "unpause")) }

    /// Sends a signal.
    /// - Throws: `conflict` when it does not run, `notFound`.
    package func kill(_ container: String, signal: String = "SIGKILL") throws(EngineError) {
        try call("POST", path(container, "kill"), ["signal": signal])
    }

    /// Waits until the container does not run; one that was never started counts as such.
    /// - Parameters:
    ///   - timeout: milliseconds, at least 1.
    ///   - isCancelled: asked at least once a second.
    /// - Returns: its exit code; `nil` when it still runs after the timeout.
    /// - Throws: `notFound`, `cancelled`.
    package func wait(_ container: String, timeout: Int, isCancelled: (() -> Bool)? = nil) throws(EngineError) -> Int? {
        try awaited(path(container, "wait"), ["condition": "not-running"], timeout: timeout, isCancelled: isCancelled)?["StatusCode"]?.int
    }

    /// - Parameters:
    ///   - force: a running one too.
    ///   - volumes: its nameless volumes as well; named ones always stay.
    /// - Throws: `notFound`; `conflict` when it runs, or is just being removed.
    package func remove(_ container: String, force: Bool = false, volumes: Bool = true) throws(EngineError) {
        try call("DELETE", path(container), ["force": force ? "1" : "0", "v": volumes ? "1" : "0"], timeout: 60_000)
    }

    /// - Throws: `notFound`.
    package func inspect(_ container: String) throws(EngineError) -> Container { Container(try json("GET", path(container, "json"))) }

    /// All containers that carry all of the labels, in any state.
    package func containers(labels: [String: String]) throws(EngineError) -> [ContainerSummary] {
        (try json("GET", "/containers/json", ["all": "1", "filters": Self.filters(labels)]).array ?? []).map(ContainerSummary.init)
    }

    func path(_ container: String, _ action: String? = nil) -> String {
        "/containers/\(Self.escape(container))" + (action.map { "/\($0)" } ?? "")
    }
}
