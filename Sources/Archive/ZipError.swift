// Why an archive is refused, in words that complete "code_zip …".

package enum ZipError: Error, Equatable, Sendable {
    case notAZip
    case encrypted
    /// Absolute, leading out of its folder, with a backslash or a control character, or simply too long.
    case badPath(String)
    /// A link, a device or the like.
    case notAFile(String)
    /// Two entries for one place.
    case duplicate(String)
    case tooManyEntries(limit: Int)
    case tooLarge(limit: Int)
    /// It ends early, or what is in it is not what its checksums say.
    case broken(String)
}

extension ZipError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .notAZip: "is no zip file"
        case .encrypted: "is encrypted"
        case .badPath(let path): "has an entry with a forbidden path: \(Self.shown(path))"
        case .notAFile(let path): "has an entry that is neither file nor folder: \(Self.shown(path))"
        case .duplicate(let path): "has two entries for one place: \(Self.shown(path))"
        case .tooManyEntries(let limit): "has more than \(limit) entries"
        case .tooLarge(let limit): "unpacks to more than \(limit) bytes"
        case .broken(let why): "can't be read to its end: \(Self.shown(why))"
        }
    }

    /// Fit for an error message, whatever an archive says.
    private static func shown(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.prefix(100).map { $0.value < 0x20 || $0.value == 0x7F ? "?" : $0 }))
    }
}
