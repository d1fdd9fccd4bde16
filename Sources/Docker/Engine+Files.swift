// Files into a container, running or not. They go as a tar archive of POSIX's ustar form, small enough to be written by hand.
import HTTP

/// A file to put into a container; it is root's, and everybody there may read it.
package struct ContainerFile: Sendable, Equatable {
    /// At most 99 bytes, without a slash.
    package let name: String
    package let content: [UInt8]

    package init(_ name: String, _ content: [UInt8]) {
        self.name = name
        self.content = content
    }
}

extension Engine {
    /// Writes the files, over what is there.
    /// - Parameter folder: absolute; it exists.
    /// - Throws: `notFound` for the container as for the folder.
    package func put(_ files: [ContainerFile], into folder: String, of container: String) throws(EngineError) {
        try put(path(container, "archive"), ["path": folder], bytes: Tar.archive(files), type: "application/x-tar")
    }
}

enum Tar {
    private static let block = 512

    static func archive(_ files: [ContainerFile]) -> [UInt8] {
        var out: [UInt8] = []
        for file in files {
            out += header(file)
            out += file.content
            out += padding(file.content.count)
        }
        // Two empty blocks are the end.
        return out + [UInt8](repeating: 0, count: 2 * block)
    }

    private static func padding(_ count: Int) -> [UInt8] { [UInt8](repeating: 0, count: (block - count % block) % block) }

    private static func header(_ file: ContainerFile) -> [UInt8] {
        precondition(file.name.utf8.count < 100, "a longer name needs another form")
        var header = [UInt8](repeating: 0, count: block)
        func set(_ text: String, at offset: Int) { header.replaceSubrange(offset..<(offset + text.utf8.count), with: text.utf8) }
        func octal(_ number: Int, _ digits: Int) -> String {
            let text = String(number, radix: 8)
            return String(repeating: "0", count: digits - text.utf8.count) + text
        }
        set(file.name, at: 0)
        set(octal(0o644, 7), at: 100)
        set(octal(0, 7), at: 108)
        set(octal(0, 7), at: 116)
        set(octal(file.content.count, 11), at: 124)
        set(octal(0, 11), at: 136)
        // The sum is taken with blanks in its own place.
        set("        ", at: 148)
        set("0", at: 156)
        set("ustar", at: 257)
        set("00", at: 263)
        set(octal(header.reduce(0) { $0 + Int($1) }, 6), at: 148)
        header[154] = 0
        return header
    }
}
