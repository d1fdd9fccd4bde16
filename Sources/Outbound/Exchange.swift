// What libcurl's callbacks fill while one exchange runs. The callbacks run on the thread that called `perform`.
import CCurl
import Glibc
import HTTP

final class Exchange {
    /// The longest header section that is taken; the limit of most servers and proxies.
    private static let headerLimit = 64 << 10

    private(set) var headers: [(name: String, value: String)] = []
    private(set) var body: [UInt8] = []
    /// The body was over the limit, or the headers were.
    private(set) var exceeded: Int?
    /// The receiver has had enough.
    private(set) var isEnded = false
    /// libcurl wanted to connect where it may not.
    private(set) var isForbidden = false

    private let handle: EasyHandle
    private let limit: Int
    private let isCut: Bool
    /// Where sockets may lead; `nil`: anywhere.
    private let admitted: [CIDR]?
    private let onBytes: (([UInt8]) -> Bool)?
    private let isCancelled: (() -> Bool)?
    private var headerCount = 0

    init(
        _ handle: EasyHandle, limit: Int, isCut: Bool, admitted: [CIDR]?, onBytes: (([UInt8]) -> Bool)?, isCancelled: (() -> Bool)?
    ) {
        self.handle = handle
        self.limit = limit
        self.isCut = isCut
        self.admitted = admitted
        self.onBytes = onBytes
        self.isCancelled = isCancelled
    }

    /// Points the handle's callbacks here; the exchange must outlive `perform`.
    func attach() {
        let context = Unmanaged.passUnretained(self).toOpaque()
        thecloud_set_bytes(handle.curl, CURLOPT_WRITEFUNCTION) { bytes, _, count, context in
            Exchange.of(context).take(UnsafeRawBufferPointer(start: bytes, count: count)) ? count : 0
        }
        thecloud_set_pointer(handle.curl, CURLOPT_WRITEDATA, context)
        thecloud_set_bytes(handle.curl, CURLOPT_HEADERFUNCTION) { bytes, _, count, context in
            Exchange.of(context).takeHeader(UnsafeRawBufferPointer(start: bytes, count: count)) ? count : 0
        }
        thecloud_set_pointer(handle.curl, CURLOPT_HEADERDATA, context)
        if admitted != nil {
            thecloud_set_opener(handle.curl) { context, _, address in Exchange.of(context).open(address) }
            thecloud_set_pointer(handle.curl, CURLOPT_OPENSOCKETDATA, context)
        }
        guard isCancelled != nil else { return }
        thecloud_set_progress(handle.curl) { context, _, _, _, _ in Exchange.of(context).isCancelled?() == true ? 1 : 0 }
        thecloud_set_pointer(handle.curl, CURLOPT_XFERINFODATA, context)
        handle.set(CURLOPT_NOPROGRESS, 0)
    }

    private static func of(_ context: UnsafeMutableRawPointer?) -> Exchange {
        guard let context else { preconditionFailure("a callback without its exchange") }
        return Unmanaged.fromOpaque(context).takeUnretainedValue()
    }

    private func take(_ bytes: UnsafeRawBufferPointer) -> Bool {
        if let onBytes, (200..<300).contains(handle.status) {
            isEnded = !onBytes(Array(bytes))
            return !isEnded
        }
        guard body.count + bytes.count <= limit else {
            if isCut {
                body.append(contentsOf: bytes.prefix(limit - body.count))
                isEnded = true
                return false
            }
            exceeded = limit
            return false
        }
        body.append(contentsOf: bytes)
        return true
    }

    /// A socket for an address that was judged, and for no other, whatever libcurl took the URL for.
    private func open(_ address: UnsafeMutablePointer<curl_sockaddr>?) -> curl_socket_t {
        guard let address, let offset = MemoryLayout<curl_sockaddr>.offset(of: \.addr),
            let place = CIDR(socketAddress: UnsafeRawPointer(address) + offset), admitted?.contains(place) != false
        else {
            isForbidden = true
            return -1
        }
        return socket(address.pointee.family, address.pointee.socktype | Int32(SOCK_CLOEXEC.rawValue), address.pointee.protocol)
    }

    private func takeHeader(_ line: UnsafeRawBufferPointer) -> Bool {
        headerCount += line.count
        guard headerCount <= Self.headerLimit else {
            exceeded = Self.headerLimit
            return false
        }
        if line.starts(with: "HTTP/".utf8) {
            headers = []
        } else if let colon = line.firstIndex(of: UInt8(ascii: ":")) {
            headers.append((text(line[..<colon]).lowercased(), text(line[(colon + 1)...])))
        }
        return true
    }

    /// UTF-8 without blanks and line ends around it.
    private func text(_ bytes: Slice<UnsafeRawBufferPointer>) -> String {
        let isBlank: (UInt8) -> Bool = { $0 == 0x20 || $0 == 0x09 || $0 == 0x0D || $0 == 0x0A }
        guard let first = bytes.firstIndex(where: { !isBlank($0) }), let last = bytes.lastIndex(where: { !isBlank($0) }) else { return "" }
        return String(decoding: bytes[first...last], as: UTF8.self)
    }
}
