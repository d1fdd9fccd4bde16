// What bodies of /functions may say. The zip file is read from end to end before anything of it is stored.
import API
import Archive
import Crypto
import HTTP
import Sandboxes

/// A function's code, good to its last byte.
struct FunctionCode {
    let zip: [UInt8]
    /// In hexadecimal digits.
    let sha256: String
    let unpackedSize: Int
    let files: Set<String>

    /// Bytes of a zip file.
    static let limit = 32 << 20

    init(_ zip: [UInt8]) throws {
        var (size, files) = (0, Set<String>())
        try Zip.read(zip, onFile: { files.insert($0.path) }, onBytes: { size += $0.count })
        self.zip = zip
        sha256 = SHA256.digest(zip).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        unpackedSize = size
        self.files = files
    }

    /// What is said to a handler whose file is not there; `nil` where it is.
    static func complaint(_ files: Set<String>, _ runtime: Runtime, _ handler: String) -> String? {
        let wanted = runtime.files(of: handler)
        return wanted.contains(where: files.contains) ? nil : "must have \(wanted.joined(separator: " or ")) for the handler \(handler)"
    }
}

/// A whole function.
struct FunctionDraft {
    let name: String
    let runtime: Runtime
    let code: FunctionCode
    let handler: String
    let change: FunctionChange

    init(_ body: Fields) throws(APIError) {
        var body = body
        for name in ["name", "runtime", "code_zip"] where !body.has(name) { body.report(name, "is required") }
        change = FunctionChange(reading: &body)
        handler = change.handler ?? Runtime.usualHandler
        if let code = change.code, let runtime = change.runtime, change.handler != nil || !body.has("handler"),
            let complaint = FunctionCode.complaint(code.files, runtime, handler)
        {
            body.report("code_zip", complaint)
        }
        guard let name = change.name, let runtime = change.runtime, let code = change.code, body.problems == nil else { throw body.refusal }
        (self.name, self.runtime, self.code) = (name, runtime, code)
    }
}

/// Those members of a function that a body has.
struct FunctionChange {
    let name: String?
    let runtime: Runtime?
    let code: FunctionCode?
    let handler: String?
    let timeout: Int?
    let memoryMB: Int?
    let env: [String: String]?
    /// Of the members.
    let names: [String]

    init(_ body: Fields) throws(APIError) {
        var body = body
        self.init(reading: &body)
        if names.isEmpty { body.report("code_zip", "or another member is required") }
        if let problems = body.problems { throw problems }
    }

    /// What is bad is reported, and `nil` here.
    fileprivate init(reading body: inout Fields) {
        names = ["name", "runtime", "code_zip", "handler", "timeout", "memory_mb", "env"].filter(body.has)
        name = body.optional("name", .resourceName)
        runtime = body.optional("runtime", .runtime)
        code = Self.code(&body)
        handler = body.optional("handler", .handler)
        timeout = body.optional("timeout", .integer(1...900))
        memoryMB = body.optional("memory_mb", .integer(64...10240))
        env = body.optional("env", .functionEnv)
    }

    private static func code(_ body: inout Fields) -> FunctionCode? {
        guard let zip = body.optional("code_zip", .zipText) else { return nil }
        do {
            return try FunctionCode(zip)
        } catch {
            body.report("code_zip", "\(error)")
            return nil
        }
    }

    /// Whether what sandboxes are made of is another from now on.
    var needsNewSandboxes: Bool { runtime != nil || code != nil || handler != nil || memoryMB != nil || env != nil }
}

/// What is asked of a function.
struct InvocationWish {
    /// An empty object where the body has none.
    let payload: JSON
    let isAsync: Bool

    init(_ body: Fields) throws(APIError) {
        var body = body
        payload = body["payload"] ?? (body.isNull("payload") ? .null : [:])
        isAsync = body.optional("async", .flag) ?? false
        if let problems = body.problems { throw problems }
    }
}

extension Rule where Value == Runtime {
    fileprivate static let runtime = Rule("must be one of \(Runtime.allCases.map(\.rawValue).joined(separator: ", "))") { json in
        json.string.flatMap(Runtime.init)
    }
}

extension Rule where Value == String {
    fileprivate static let handler = Rule("must be a file without its extension, a dot and a name, such as index.handler or src/app.main") {
        json in
        guard let text = json.string, text.utf8.count <= 128 else { return nil }
        return text.wholeMatch(of: /([A-Za-z0-9_\-]+\/)*[A-Za-z0-9_\-]+\.[A-Za-z_$][A-Za-z0-9_$]*/) == nil ? nil : text
    }
}

extension Rule where Value == Bool {
    fileprivate static let flag = Rule("must be true or false") { json in if case .bool(let flag) = json { flag } else { nil } }
}

extension Rule where Value == [UInt8] {
    /// Line ends, as `base64` makes them, do no harm.
    fileprivate static let zipText = Rule("must be a zip file of at most \(FunctionCode.limit) bytes in base64") { json in
        guard var text = json.string?.utf8[...], text.count <= FunctionCode.limit * 3 / 2 else { return nil }
        if text.contains(where: { $0 == 0x0A || $0 == 0x0D }) {
            text = String(decoding: text.filter { $0 != 0x0A && $0 != 0x0D }, as: UTF8.self).utf8[...]
        }
        guard text.count % 4 == 0 else { return decoded(text) }
        for _ in 0..<2 where text.last == UInt8(ascii: "=") { text.removeLast() }
        return decoded(text)
    }

    private static func decoded(_ text: Substring.UTF8View) -> [UInt8]? {
        Base64.standard.decode(Substring(text)).flatMap { (1...FunctionCode.limit).contains($0.count) ? $0 : nil }
    }
}

extension Rule where Value == [String: String] {
    fileprivate static let functionEnv = Rule("\(env.requirement); ******** is no value: leave env out to keep it") { json in
        env.parse(json).flatMap { $0.values.contains(JSON.mask) ? nil : $0 }
    }
}
