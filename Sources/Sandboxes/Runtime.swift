// The languages that functions are written in: what runs in a sandbox's container, and which files may hold a handler.
// Which image belongs to a runtime is a setting.

package enum Runtime: String, Sendable, CaseIterable {
    case nodejs20
    case python312

    /// A function's handler: `folder/file.name`, the file without its extension.
    package static let usualHandler = "index.handler"

    /// The files that could hold a handler, by path within the archive.
    package func files(of handler: String) -> [String] {
        let module = handler.prefix { $0 != "." }
        return extensions.map { "\(module).\($0)" }
    }

    private var extensions: [String] {
        switch self {
        case .nodejs20: ["js", "mjs", "cjs"]
        case .python312: ["py"]
        }
    }

    /// What the container runs, whatever the image's entrypoint is.
    var command: [String] {
        switch self {
        case .nodejs20: ["node", "-e", Runner.node]
        case .python312: ["python3", "-u", "-c", Runner.python]
        }
    }
}
