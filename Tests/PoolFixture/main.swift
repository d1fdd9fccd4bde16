// The program that FastCGITests runs: a master and its children whose handler does what a test's path asks for.
// Arguments: `master` or `child`, socket, children, threads, drain seconds, user or `-`, limit of kept connections, niceness. Events go to the standard error, one a line.
import FastCGI
import Glibc
import HTTP

struct NotNow: Error {}

let words = CommandLine.arguments
guard words.count == 9, let children = Int(words[3]), let threads = Int(words[4]), let drainSeconds = Int(words[5]),
    let keptLimit = Int(words[7]), let niceness = Int32(words[8])
else { exit(64) }
let pool = Pool(
    name: "test", socket: words[2], children: children, threads: threads, bodyLimit: 1 << 20, user: words[6] == "-" ? nil : words[6],
    socketGroup: geteuid() == 0 ? "daemon" : nil, keptLimit: keptLimit, niceness: niceness, drainSeconds: drainSeconds)

@Sendable func log(_ event: PoolEvent) {
    let line = "\(event)\n"
    _ = line.withCString { write(2, $0, strlen($0)) }
}

@Sendable func answer(_ request: Request) -> Response {
    switch request.path {
    case "/big":
        let count = request.query["n"].flatMap { Int($0) } ?? 0
        return Response(status: 200, headers: [("Content-Type", "text/plain")], body: (0..<count).map { UInt8(truncatingIfNeeded: $0) })
    case "/pid": return .json(["pid": .int(Int(getpid())), "uid": .int(Int(getuid())), "gid": .int(Int(getgid()))])
    case "/held":
        // Answers when the file is gone.
        while let file = request.query["file"], access(file, F_OK) == 0 { usleep(2000) }
        return .json(["pid": .int(Int(getpid()))])
    case "/headers":
        return Response(
            status: 201, headers: [("X-Plain", "one\r\nX-Evil: two\u{0}"), ("X-Request-Id", "own"), ("content-length", "2")],
            body: [0x6F, 0x6B])
    case "/none": return Response(status: 204)
    default:
        let body: JSON =
            switch request.body {
            case .bytes(let bytes): .string(String(decoding: bytes, as: UTF8.self))
            case .tooLarge: ["state": "tooLarge"]
            case .truncated: ["state": "truncated"]
            }
        return .json([
            "method": .string(request.method.rawValue), "path": .string(request.path), "q": .optional(request.query["q"]),
            "header": .optional(request.query["header"].flatMap { request.headers[$0] }), "remote": .string(request.remoteAddress),
            "id": .string(request.requestID), "body": body,
        ])
    }
}

if words[1] == "child" {
    Child.serve(pool: pool, log: log) {
        if access(pool.socket + ".refuse", F_OK) == 0 { throw NotNow() }
        return answer
    }
}
do {
    exit(try Master.run(pools: [pool], arguments: { _ in ["child"] + words.dropFirst(2) }, log: log))
} catch {
    _ = "\(error)\n".withCString { write(2, $0, strlen($0)) }
    exit(69)
}
