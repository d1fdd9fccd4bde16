// What a sandbox is to run, and what came of it.
package import Docker
package import HTTP

package struct SandboxTask: Sendable {
    /// Sandboxes of the same version are interchangeable: code, handler, environment, runtime and memory are the same.
    package var version: ID
    package var owner: ID
    package var runtime: Runtime
    package var image: ImageReference
    package var handler: String
    package var environment: [String: String]
    /// For the handler and what it puts into /tmp; the code's own room comes on top.
    package var memoryMB: Int
    /// Bytes and number of the code's files.
    package var codeSize: Int
    package var codeFiles: Int
    /// Seconds that the handler has, loading it included.
    package var timeout: Int
    /// JSON.
    package var payload: [UInt8]

    package init(
        version: ID, owner: ID, runtime: Runtime, image: ImageReference, handler: String, environment: [String: String], memoryMB: Int,
        codeSize: Int, codeFiles: Int, timeout: Int, payload: [UInt8]
    ) {
        self.version = version
        self.owner = owner
        self.runtime = runtime
        self.image = image
        self.handler = handler
        self.environment = environment
        self.memoryMB = memoryMB
        self.codeSize = codeSize
        self.codeFiles = codeFiles
        self.timeout = timeout
        self.payload = payload
    }
}

package struct SandboxOutcome: Sendable, Equatable {
    package enum Verdict: Sendable, Equatable {
        /// The handler's value, as JSON text of at most 1 MiB.
        case succeeded([UInt8])
        /// Why there is none, in a sentence for the function's owner.
        case failed(String)
        case timedOut
    }

    package let verdict: Verdict
    /// What the handler wrote, both outputs as they came: the first 256 KiB.
    package let log: String
    package let isLogCut: Bool
    /// From handing over the payload to the answer.
    package let milliseconds: Int
    /// A container was made for it.
    package let isCold: Bool
}

extension SandboxOutcome {
    /// That of an invocation whose handler was never asked.
    package static func notRun(_ why: String) -> SandboxOutcome {
        SandboxOutcome(verdict: .failed(why), log: "", isLogCut: false, milliseconds: 0, isCold: true)
    }
}

/// A sandbox that could not be made. Nothing of the function was run.
package enum SandboxError: Error, Sendable, CustomStringConvertible {
    case engine(EngineError)
    /// The container ended before it was ready.
    case stillborn(String)

    package var description: String {
        switch self {
        case .engine(let error): "\(error)"
        case .stillborn(let why): "the sandbox did not start: \(why)"
        }
    }
}
