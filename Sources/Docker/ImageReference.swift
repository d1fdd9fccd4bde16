// An image's name by the distribution reference grammar: `[domain/]path[:tag][@digest]`, for example `registry:5000/team/web:1.2`.
// What passes is safe in a URL as it is. A name that Docker would take for an image's id (64 hexadecimal digits) is refused.

package struct ImageReference: Sendable, Hashable, CustomStringConvertible {
    /// As it was written, without tag and digest.
    package let name: String
    package let tag: String?
    /// `sha256:…`; it outranks the tag.
    package let digest: String?

    /// `nil` for text outside the grammar, names above 255 bytes, and digests other than SHA-256, -384 and -512.
    package init?(_ text: String) {
        guard text.utf8.count <= 600, text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else { return nil }
        let halves = text.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
        var name = halves[0]
        var tag: String?
        let lastPart = name.lastIndex(of: "/").map { name.index(after: $0) } ?? name.startIndex
        if let colon = name[lastPart...].firstIndex(of: ":") {
            tag = String(name[name.index(after: colon)...])
            name = name[..<colon]
        }
        self.name = String(name)
        self.tag = tag
        digest = halves.count > 1 ? String(halves[1]) : nil
        guard Self.isName(self.name), tag.map(Self.isTag) ?? true, digest.map(Self.isDigest) ?? true else { return nil }
    }

    /// As it was written.
    package var description: String { name + (tag.map { ":\($0)" } ?? "") + (digest.map { "@\($0)" } ?? "") }

    /// Never without a tag or digest, which the engine could take for the beginning of an id.
    package var canonical: String { digest.map { "\(name)@\($0)" } ?? "\(name):\(tag ?? "latest")" }

    /// What `POST /images/create` wants; without a tag it would pull all of them.
    package var pullParameters: (fromImage: String, tag: String) { (name, digest ?? tag ?? "latest") }

    private static func isName(_ name: String) -> Bool {
        guard !name.isEmpty, name.utf8.count <= 255, !(name.utf8.count == 64 && name.utf8.allSatisfy(isHex)) else { return false }
        var parts = name.split(separator: "/", omittingEmptySubsequences: false)
        // As Docker decides it: only then is the first part a registry's address.
        if parts.count > 1, parts[0] == "localhost" || parts[0].contains(where: { $0 == "." || $0 == ":" || $0.isUppercase }) {
            guard isDomain(parts.removeFirst()) else { return false }
        }
        return parts.allSatisfy(isPathComponent)
    }

    /// Lower-case letters and digits; between them one of `.`, `_`, `__`, or any number of `-`.
    private static func isPathComponent(_ part: Substring) -> Bool {
        let runs = part.utf8.split(whereSeparator: { !isLower($0) && !isDigit($0) })
        guard let first = part.utf8.first, let last = part.utf8.last, isLower(first) || isDigit(first), isLower(last) || isDigit(last)
        else {
            return false
        }
        return zip(runs, runs.dropFirst()).allSatisfy { before, after in
            let separator = part[before.endIndex..<after.startIndex]
            return separator == "." || separator == "_" || separator == "__" || separator.allSatisfy { $0 == "-" }
        }
    }

    private static func isDomain(_ domain: Substring) -> Bool {
        var host = domain
        if let colon = domain.lastIndex(of: ":"), !domain.hasSuffix("]") {
            let port = domain[domain.index(after: colon)...]
            guard (1...5).contains(port.utf8.count), port.utf8.allSatisfy(isDigit) else { return false }
            host = domain[..<colon]
        }
        if host.hasPrefix("["), host.hasSuffix("]") {
            return host.utf8.count > 2 && host.utf8.dropFirst().dropLast().allSatisfy { isHex($0) || $0 == UInt8(ascii: ":") }
        }
        return host.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).allSatisfy { label in
            guard let first = label.first, let last = label.last, isAlphanumeric(first), isAlphanumeric(last) else { return false }
            return label.allSatisfy { isAlphanumeric($0) || $0 == UInt8(ascii: "-") }
        }
    }

    private static func isTag(_ tag: String) -> Bool {
        guard let first = tag.utf8.first, tag.utf8.count <= 128, isAlphanumeric(first) || first == UInt8(ascii: "_") else { return false }
        return tag.utf8.allSatisfy { isAlphanumeric($0) || "_.-".utf8.contains($0) }
    }

    private static func isDigest(_ digest: String) -> Bool {
        let halves = digest.split(separator: ":", omittingEmptySubsequences: false)
        guard halves.count == 2, let count = ["sha256": 64, "sha384": 96, "sha512": 128][halves[0]] else { return false }
        return halves[1].utf8.count == count && halves[1].utf8.allSatisfy(isHex)
    }

    private static func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }
    private static func isLower(_ byte: UInt8) -> Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) }
    private static func isHex(_ byte: UInt8) -> Bool { isDigit(byte) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte) }
    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        isDigit(byte) || isLower(byte) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
    }
}
