// A moment as text: RFC 3339 in UTC with `Z`. PostgreSQL does the arithmetic, so the text is all that travels.
package import FoundationEssentials

package struct Timestamp: Hashable, Sendable, CustomStringConvertible {
    /// Such as `2026-01-05T23:00:00.123Z`.
    package let description: String

    /// - Parameter text: any RFC 3339 date-time of the years 1970–9999, with `Z` or an offset; `nil` for anything else.
    package init?(rfc3339 text: String) {
        guard text.utf8.count <= 40 else { return nil }
        let style = Date.ISO8601FormatStyle(includingFractionalSeconds: text.contains("."))
        guard let date = try? style.parse(text) else { return nil }
        self.init(date)
        guard date.timeIntervalSince1970 >= 0, description.utf8.count <= 24 else { return nil }
    }

    /// Milliseconds are kept.
    package init(_ date: Date) {
        description = date.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
    }

    /// - Parameter postgres: what PostgreSQL prints for a timestamptz with DateStyle ISO in UTC: `2026-01-05 23:00:00.123456+00`.
    package init(postgres text: UnsafeBufferPointer<UInt8>) {
        let count = max(text.count - 3, 0)
        description = String(unsafeUninitializedCapacity: count + 1) { buffer in
            _ = buffer.update(fromContentsOf: text.prefix(count))
            if count > 10 { buffer[10] = UInt8(ascii: "T") }
            buffer[count] = UInt8(ascii: "Z")
            return count + 1
        }
    }
}
