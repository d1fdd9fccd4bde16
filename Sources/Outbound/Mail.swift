// Sending a mail: to a relay by SMTP (RFC 5321, through libcurl) or into a folder of `.eml` files.
// The relay's URL holds its password: no error carries the URL, nor libcurl's own text about it.
import CCurl
import Glibc

package enum MailTransport: Sendable, Equatable {
    /// libcurl's `smtp(s)://user:password@host:port`, both parts percent-encoded. `smtp` uses STARTTLS when it is offered, `smtps` TLS from the start.
    case smtp(url: String)
    /// A folder, made if missing; one file for each message, mode 0600, names in the order of time.
    case directory(String)
}

package enum MailError: Error, Equatable, Sendable {
    /// The message can't be written down as a mail.
    case illegal(String)
    /// The relay's URL is no `smtp` or `smtps` URL.
    case badTransport
    /// The relay does not take our login.
    case loginRefused
    /// The relay answered with this code (RFC 5321 §4.2); 5xx means that sending again is useless.
    case refused(code: Int)
    /// No relay, no TLS, no answer, or no room on the disk; the reason is fixed text.
    case failed(String)

    package var isPermanent: Bool {
        switch self {
        case .illegal: true
        case .refused(let code): code >= 500
        case .badTransport, .loginRefused, .failed: false
        }
    }
}

package enum Mail {
    /// Hands the message over; returns when the relay has taken responsibility for it, or the file is on the disk.
    /// - Parameter timeout: milliseconds for all of it, 1–600000.
    package static func send(_ message: MailMessage, via transport: MailTransport, timeout: Int = 30_000) throws(MailError) {
        switch transport {
        case .smtp(let url): try relay(message, url, timeout)
        case .directory(let folder): try save(message, folder)
        }
    }

    /// What libcurl reads the message from.
    private final class Source {
        var rest: ArraySlice<UInt8>
        init(_ bytes: [UInt8]) { rest = bytes[...] }
    }

    private static func relay(_ message: MailMessage, _ url: String, _ timeout: Int) throws(MailError) {
        let scheme = url.lowercased()
        guard scheme.hasPrefix("smtp://") || scheme.hasPrefix("smtps://"), !url.utf8.contains(0), url.utf8.count < 4096 else {
            throw .badTransport
        }
        let handle = EasyHandle()
        let timeout = min(max(timeout, 1), 600_000)
        handle.reset(protocols: "smtp,smtps", timeout: timeout, connectTimeout: min(timeout, 10_000), caFile: nil)
        handle.set(CURLOPT_URL, url)
        handle.set(CURLOPT_USE_SSL, Int(CURLUSESSL_TRY.rawValue))
        handle.set(CURLOPT_MAIL_FROM, "<\(message.from.address)>")
        let receivers = TextList(["<\(message.to.address)>"])
        thecloud_set_list(handle.curl, CURLOPT_MAIL_RCPT, receivers.list)
        let source = Source(message.bytes)
        handle.set(CURLOPT_UPLOAD, 1)
        thecloud_set_bytes(handle.curl, CURLOPT_READFUNCTION) { room, size, count, context in
            guard let room, let context else { return 0 }
            let source = Unmanaged<Source>.fromOpaque(context).takeUnretainedValue()
            let piece = source.rest.prefix(size * count)
            source.rest = source.rest.dropFirst(piece.count)
            UnsafeMutableRawBufferPointer(start: room, count: size * count).copyBytes(from: piece)
            return piece.count
        }
        thecloud_set_pointer(handle.curl, CURLOPT_READDATA, Unmanaged.passUnretained(source).toOpaque())
        let code = withExtendedLifetime((receivers, source)) { handle.perform() }
        guard code != CURLE_OK else { return }
        switch code {
        case CURLE_URL_MALFORMAT, CURLE_UNSUPPORTED_PROTOCOL: throw .badTransport
        case CURLE_LOGIN_DENIED: throw .loginRefused
        default: throw handle.status >= 400 ? .refused(code: handle.status) : .failed(EasyHandle.name(of: code))
        }
    }

    private static func save(_ message: MailMessage, _ folder: String) throws(MailError) {
        guard mkdir(folder, 0o700) == 0 || errno == EEXIST else { throw failure() }
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        // Nanoseconds since 1970 have 19 digits until 2286.
        let name = "\(now.tv_sec * 1_000_000_000 + now.tv_nsec)-\(String(UInt32.random(in: .min ... .max), radix: 36)).eml"
        let draft = "\(folder)/.\(name)"
        let descriptor = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw failure() }
        defer { unlink(draft) }
        var rest = message.bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            guard count > 0 else { break }
            rest = rest.dropFirst(count)
        }
        let synced = fsync(descriptor) == 0
        guard close(descriptor) == 0, synced, rest.isEmpty, rename(draft, "\(folder)/\(name)") == 0 else { throw failure() }
    }

    private static func failure() -> MailError { .failed(String(cString: strerror(errno))) }
}
