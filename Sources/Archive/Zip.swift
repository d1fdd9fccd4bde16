// Zip files that strangers made, read with libarchive by their central directory; the only importer of CArchive.
// Nothing is believed: sizes are counted while reading, and a file whose place could lead out of its folder spoils the whole archive.
import CArchive

package enum Zip {
    /// How much one archive may hold.
    package struct Limits: Sendable {
        /// Files and folders.
        package var entries: Int
        /// Bytes of all files together, unpacked.
        package var unpacked: Int
        /// How many times its packed size an archive may unpack to, once that is more than a mebibyte: code packs three- to tenfold.
        package var ratio: Int

        package init(entries: Int = 10_000, unpacked: Int = 256 << 20, ratio: Int = 100) {
            self.entries = entries
            self.unpacked = unpacked
            self.ratio = ratio
        }
    }

    package struct File: Sendable, Equatable {
        /// Relative, of 1–64 parts that are neither empty nor `.` nor `..`; at most 512 bytes of UTF-8.
        package let path: String
        package let isExecutable: Bool
    }

    /// Reads an archive from front to back.
    /// - Parameters:
    ///   - onFile: is told of a file before its bytes come.
    ///   - onBytes: gets the bytes in pieces; they are gone when it returns.
    /// - Throws: `ZipError`, or what the two throw. What was handed over until then is not to be used.
    package static func read(
        _ bytes: [UInt8], limits: Limits = Limits(), onFile: (File) throws -> Void, onBytes: (UnsafeRawBufferPointer) throws -> Void
    ) throws {
        guard let archive = archive_read_new() else { throw ZipError.broken("out of memory") }
        defer { archive_read_free(archive) }
        archive_read_support_format_zip_seekable(archive)
        try bytes.withUnsafeBytes { raw in
            guard archive_read_open_memory(archive, raw.baseAddress, raw.count) == ARCHIVE_OK else { throw ZipError.notAZip }
            var reading = Reading(archive, packed: raw.count, limits)
            try reading.run(onFile, onBytes)
        }
    }

    /// The files of an archive that is good to its last byte.
    package static func files(_ bytes: [UInt8], limits: Limits = Limits()) throws(ZipError) -> [File] {
        var files: [File] = []
        do {
            try read(bytes, limits: limits, onFile: { files.append($0) }, onBytes: { _ in })
        } catch let error as ZipError {
            throw error
        } catch {
            preconditionFailure("nobody else throws here: \(error)")
        }
        return files
    }
}

/// One reading of one archive.
private struct Reading {
    private let archive: OpaquePointer
    private let limits: Zip.Limits
    private let most: Int
    private var places = Places()
    private var count = 0
    private var unpacked = 0

    init(_ archive: OpaquePointer, packed: Int, _ limits: Zip.Limits) {
        self.archive = archive
        self.limits = limits
        most = min(limits.unpacked, max(packed * limits.ratio, 1 << 20))
    }

    mutating func run(_ onFile: (Zip.File) throws -> Void, _ onBytes: (UnsafeRawBufferPointer) throws -> Void) throws {
        var entry: OpaquePointer?
        while true {
            let code = archive_read_next_header(archive, &entry)
            if code == ARCHIVE_EOF { return }
            // A warning is a name in no known character set; such a name is judged below.
            guard code == ARCHIVE_OK || code == ARCHIVE_WARN, let entry else { throw count == 0 ? ZipError.notAZip : broken() }
            count += 1
            guard count <= limits.entries else { throw ZipError.tooManyEntries(limit: limits.entries) }
            guard let file = try judge(entry) else { continue }
            try onFile(file)
            try copy(onBytes)
        }
    }

    /// - Returns: `nil` for a folder: those that files need follow from their paths.
    private mutating func judge(_ entry: OpaquePointer) throws(ZipError) -> Zip.File? {
        guard let raw = archive_entry_pathname(entry), let path = String(validatingCString: raw) else { throw .badPath("(no UTF-8)") }
        guard archive_entry_is_encrypted(entry) == 0 else { throw .encrypted }
        let isFolder = archive_entry_filetype(entry) == 0o040000
        guard isFolder || archive_entry_filetype(entry) == 0o100000, archive_entry_hardlink(entry) == nil,
            archive_entry_symlink(entry) == nil
        else { throw .notAFile(path) }
        try places.take(path, isFolder: isFolder)
        return isFolder ? nil : Zip.File(path: path, isExecutable: archive_entry_perm(entry) & 0o100 != 0)
    }

    private mutating func copy(_ onBytes: (UnsafeRawBufferPointer) throws -> Void) throws {
        try withUnsafeTemporaryAllocation(byteCount: 64 << 10, alignment: 16) { buffer in
            while true {
                let read = archive_read_data(archive, buffer.baseAddress, buffer.count)
                guard read >= 0 else { throw broken() }
                if read == 0 { return }
                unpacked += read
                guard unpacked <= most else { throw ZipError.tooLarge(limit: most) }
                try onBytes(UnsafeRawBufferPointer(rebasing: buffer[..<read]))
            }
        }
    }

    private func broken() -> ZipError {
        if archive_read_has_encrypted_entries(archive) == 1 { return .encrypted }
        return .broken(archive_error_string(archive).map { String(cString: $0) } ?? "it can't be read")
    }
}

/// The places that are taken within an archive.
private struct Places {
    private var files: Set<String> = []
    private var folders: Set<String> = []

    /// - Throws: where a path could lead elsewhere, or to what another entry made.
    mutating func take(_ path: String, isFolder: Bool) throws(ZipError) {
        var text = Substring(path)
        if isFolder, text.hasSuffix("/") { text.removeLast() }
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        let legal =
            parts.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." }
            && !text.unicodeScalars.contains { $0 == "\\" || $0.value < 0x20 || $0.value == 0x7F }
        guard legal, parts.count <= 64, text.utf8.count <= 512, parts.allSatisfy({ $0.utf8.count <= 255 }) else { throw .badPath(path) }
        var folder = ""
        for part in parts.dropLast() {
            folder += folder.isEmpty ? String(part) : "/\(part)"
            guard !files.contains(folder) else { throw .duplicate(path) }
            folders.insert(folder)
        }
        let place = String(text)
        if isFolder {
            guard !files.contains(place) else { throw .duplicate(path) }
            folders.insert(place)
        } else {
            guard !folders.contains(place), files.insert(place).inserted else { throw .duplicate(path) }
        }
    }
}
