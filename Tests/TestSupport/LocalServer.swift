// A server for one test: plain POSIX sockets, a thread for each connection, stopped with the object.
import Glibc
import Synchronization

/// One accepted connection, blocking.
package final class Peer {
    private let descriptor: Int32
    private var held: [UInt8] = []

    package init(_ descriptor: Int32) { self.descriptor = descriptor }

    deinit { close(descriptor) }

    /// The next line without its end; `nil` when the other side is done.
    package func line() -> String? {
        while true {
            if let end = held.firstIndex(of: 0x0A) {
                defer { held.removeFirst(end + 1) }
                return String(decoding: held[..<end].filter { $0 != 0x0D }, as: UTF8.self)
            }
            guard fill() else { return nil }
        }
    }

    package func bytes(_ count: Int) -> [UInt8] {
        while held.count < count, fill() {}
        defer { held.removeFirst(min(count, held.count)) }
        return Array(held.prefix(count))
    }

    /// `false` when the other side is gone.
    @discardableResult
    package func write(_ text: String) -> Bool { write(Array(text.utf8)) }

    /// `false` when the other side is gone.
    @discardableResult
    package func write(_ bytes: [UInt8]) -> Bool {
        send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count
    }

    /// Blocks until the other side closes.
    package func awaitEnd() { while fill() {} }

    private func fill() -> Bool {
        var room = [UInt8](repeating: 0, count: 65536)
        let count = recv(descriptor, &room, room.count, 0)
        guard count > 0 else { return false }
        held.append(contentsOf: room[..<count])
        return true
    }
}

package final class LocalServer: Sendable {
    private let listener: Int32
    private let path: String?
    package let port: Int
    private let accepted = Mutex(0)

    /// Connections so far.
    package var connections: Int { accepted.withLock { $0 } }

    /// On a free port of 127.0.0.1 (or of every address of the machine, both families), or on a unix socket.
    package init(unixSocket path: String? = nil, everywhere: Bool = false, serve: @escaping @Sendable (Peer) -> Void) {
        self.path = path
        let family = path != nil ? AF_UNIX : everywhere ? AF_INET6 : AF_INET
        let listener = socket(family, Int32(SOCK_STREAM.rawValue), 0)
        self.listener = listener
        if let path {
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
            let bound = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
            }
            precondition(bound == 0)
            port = 0
        } else if everywhere {
            var off: Int32 = 0
            setsockopt(listener, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &off, socklen_t(MemoryLayout<Int32>.size))
            var address = sockaddr_in6()
            address.sin6_family = sa_family_t(AF_INET6)
            var count = socklen_t(MemoryLayout<sockaddr_in6>.size)
            let bound = withUnsafeMutablePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(listener, $0, count) == 0 && getsockname(listener, $0, &count) == 0
                }
            }
            precondition(bound)
            port = Int(UInt16(bigEndian: address.sin6_port))
        } else {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
            var count = socklen_t(MemoryLayout<sockaddr_in>.size)
            let bound = withUnsafeMutablePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(listener, $0, count) == 0 && getsockname(listener, $0, &count) == 0
                }
            }
            precondition(bound)
            port = Int(UInt16(bigEndian: address.sin_port))
        }
        precondition(listen(listener, 16) == 0)
        inThread { [weak self] in
            while true {
                let descriptor = accept(listener, nil, nil)
                guard descriptor >= 0 else { break }
                self?.accepted.withLock { $0 += 1 }
                inThread { serve(Peer(descriptor)) }
            }
            close(listener)
        }
    }

    deinit {
        shutdown(listener, Int32(SHUT_RDWR))
        if let path { unlink(path) }
    }

    /// A request as it came.
    package struct Received: Sendable {
        package let line: String
        package let headers: [String]
        package let body: [UInt8]

        /// The first value of a header; the name's case does not matter.
        package func header(_ name: String) -> String? {
            headers.first { $0.lowercased().hasPrefix(name.lowercased() + ":") }.map { header in
                String(header.dropFirst(name.count + 1).drop { $0 == " " })
            }
        }
    }

    /// An HTTP/1.1 server that keeps connections; the answer is the whole text on the wire.
    package static func http(
        unixSocket path: String? = nil, everywhere: Bool = false, answer: @escaping @Sendable (Received) -> String
    ) -> LocalServer {
        LocalServer(unixSocket: path, everywhere: everywhere) { peer in
            while let request = received(peer) { guard peer.write(answer(request)) else { return } }
        }
    }

    /// The next request, `nil` at the end of the connection.
    package static func received(_ peer: Peer) -> Received? {
        guard let line = peer.line() else { return nil }
        var headers: [String] = []
        while let header = peer.line(), !header.isEmpty { headers.append(header) }
        let length = headers.first { $0.lowercased().hasPrefix("content-length:") }?.split(separator: " ").last.flatMap { Int($0) } ?? 0
        return Received(line: line, headers: headers, body: peer.bytes(length))
    }
}

/// An answer with its length.
package func ok(_ body: String, status: String = "200 OK", _ headers: String...) -> String {
    "HTTP/1.1 \(status)\r\n\(headers.map { $0 + "\r\n" }.joined())Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
}

private final class Work {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}

package func inThread(_ run: @escaping @Sendable () -> Void) {
    var thread = pthread_t()
    let started = pthread_create(
        &thread, nil,
        { context in
            if let context { Unmanaged<Work>.fromOpaque(context).takeRetainedValue().run() }
            return nil
        }, Unmanaged.passRetained(Work(run)).toOpaque())
    precondition(started == 0)
    pthread_detach(thread)
}

/// What a server's threads saw, in order.
package final class Recorder<Value: Sendable>: Sendable {
    private let held = Mutex<[Value]>([])
    package init() {}
    package var values: [Value] { held.withLock { $0 } }
    package func add(_ value: Value) { held.withLock { $0.append(value) } }
}

/// A folder that is gone with the object, whatever lies in it.
package final class Folder: Sendable {
    package let path: String

    package init() {
        var template = Array("/tmp/outbound-XXXXXX".utf8CString)
        path = String(cString: mkdtemp(&template))
    }

    package var names: [String] {
        guard let folder = opendir(path) else { return [] }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            names.append(withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) })
        }
        return names.filter { $0 != "." && $0 != ".." }.sorted()
    }

    deinit {
        for name in names { unlink("\(path)/\(name)") }
        rmdir(path)
    }
}
