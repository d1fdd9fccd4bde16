// FastCGI parameters → what a Request is made of. One pass, byte comparisons only: this runs for every request.
// Bytes that are not UTF-8 are repaired (U+FFFD), so a hostile header never becomes an error of ours.
import CFastCGI
import Glibc
import HTTP

struct Parameters {
    enum ContentLength: Equatable {
        case bytes(Int)
        case notANumber
    }

    private(set) var method = Method(rawValue: "")
    private(set) var path = ""
    private(set) var query = ""
    private(set) var remoteAddress = ""
    private(set) var requestID = ""
    private(set) var internalSubject: String?
    private(set) var contentLength = ContentLength.bytes(0)
    private(set) var headers = Headers()

    /// - Parameter environment: libfcgi's list of `NAME=value`, ended by a null pointer; nothing of it is kept.
    init(_ environment: UnsafePointer<UnsafeMutablePointer<CChar>?>) {
        var next = environment
        while let entry = next.pointee {
            next += 1
            guard let separator = strchr(entry, 0x3D) else { continue }
            let name = UnsafeRawPointer(entry)
            let nameLength = separator - entry
            let value = UnsafeRawBufferPointer(start: separator + 1, count: strlen(separator + 1))
            if nameLength > 5, memcmp(name, "HTTP_", 5) == 0 {
                // nginx sends these two also as CONTENT_TYPE and CONTENT_LENGTH.
                if Self.equal(name, nameLength, "HTTP_CONTENT_TYPE") || Self.equal(name, nameLength, "HTTP_CONTENT_LENGTH") { continue }
                headers.append(Self.headerName(UnsafeRawBufferPointer(start: name + 5, count: nameLength - 5)), Self.text(value))
            } else {
                take(name, nameLength, value)
            }
        }
        if requestID.isEmpty { requestID = Self.freshID() }
    }

    private mutating func take(_ name: UnsafeRawPointer, _ length: Int, _ value: UnsafeRawBufferPointer) {
        switch length {
        case 10 where Self.equal(name, length, "REQUEST_ID"): if Self.isSane(value) { requestID = Self.text(value) }
        case 11 where Self.equal(name, length, "REMOTE_ADDR"): remoteAddress = Self.text(value)
        case 12 where Self.equal(name, length, "DOCUMENT_URI"): path = Self.text(value)
        case 12 where Self.equal(name, length, "QUERY_STRING"): query = Self.text(value)
        case 12 where Self.equal(name, length, "CONTENT_TYPE"): if !value.isEmpty { headers.append("content-type", Self.text(value)) }
        case 14 where Self.equal(name, length, "REQUEST_METHOD"): method = Method(rawValue: Self.text(value))
        case 14 where Self.equal(name, length, "CONTENT_LENGTH"): contentLength = Self.number(value)
        case 16 where Self.equal(name, length, "INTERNAL_SUBJECT"): if !value.isEmpty { internalSubject = Self.text(value) }
        default: break
        }
    }

    private static func equal(_ name: UnsafeRawPointer, _ length: Int, _ wanted: StaticString) -> Bool {
        length == wanted.utf8CodeUnitCount && memcmp(name, wanted.utf8Start, length) == 0
    }

    private static func text(_ bytes: UnsafeRawBufferPointer) -> String { String(decoding: bytes, as: UTF8.self) }

    /// `X_API_KEY` → `x-api-key`; nginx lets only letters, digits, `-` and `_` of a header's name through.
    private static func headerName(_ bytes: UnsafeRawBufferPointer) -> String {
        String(unsafeUninitializedCapacity: bytes.count) { name in
            for (index, byte) in bytes.enumerated() {
                switch byte {
                case 0x41...0x5A: name[index] = byte | 0x20
                case 0x5F: name[index] = 0x2D
                default: name[index] = byte
                }
            }
            return bytes.count
        }
    }

    private static func number(_ digits: UnsafeRawBufferPointer) -> ContentLength {
        var number = 0
        for digit in digits {
            guard (0x30...0x39).contains(digit) else { return .notANumber }
            let (tens, overflow) = number.multipliedReportingOverflow(by: 10)
            let (sum, carry) = tens.addingReportingOverflow(Int(digit & 0x0F))
            guard !overflow, !carry else { return .notANumber }
            number = sum
        }
        return .bytes(number)
    }

    private static func isSane(_ id: UnsafeRawBufferPointer) -> Bool {
        (1...64).contains(id.count)
            && id.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F: true
                default: false
                }
            }
    }

    /// 32 random hexadecimal digits, the form of nginx's own `$request_id`.
    private static func freshID() -> String {
        var left = UInt64.random(in: .min ... .max)
        var right = UInt64.random(in: .min ... .max)
        return String(unsafeUninitializedCapacity: 32) { digits in
            for index in 0..<16 {
                digits[15 - index] = hexDigit(left)
                digits[31 - index] = hexDigit(right)
                left >>= 4
                right >>= 4
            }
            return 32
        }
    }

    private static func hexDigit(_ bits: UInt64) -> UInt8 {
        let value = UInt8(truncatingIfNeeded: bits & 0x0F)
        return value < 10 ? 0x30 + value : 0x57 + value
    }
}
