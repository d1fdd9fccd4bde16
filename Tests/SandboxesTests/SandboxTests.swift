// Handlers in both languages in real containers: what they return, what they print, and what they can't do to us or to each other.
import Docker
import HTTP
import Sandboxes
import TestSupport
import Testing

struct SandboxTests {
    let lab: SandboxLab

    init() throws { lab = try SandboxLab() }

    @Test(arguments: [
        (
            Runtime.nodejs20, "index.js",
            "exports.handler = async (payload) => { console.log('adding', payload.a); console.error('oh'); return { sum: payload.a + payload.b, at: process.env.PLACE }; };"
        ),
        (
            .python312, "index.py",
            "import os, sys\ndef handler(payload):\n    print('adding', payload['a'])\n    print('oh', file=sys.stderr)\n    return {'sum': payload['a'] + payload['b'], 'at': os.environ['PLACE']}\n"
        ),
    ])
    func aHandlerComputesFromItsPayload(runtime: Runtime, file: String, source: String) throws {
        var task = lab.task(runtime, file, source, payload: #"{"a":2,"b":40}"#)
        task.environment = ["PLACE": "Köln"]
        let cold = try lab.run(task)
        #expect(cold.text == #"{"sum":42,"at":"Köln"}"# || cold.text == #"{"sum": 42, "at": "K\u00f6ln"}"#)
        #expect(cold.log == "adding 2\noh\n" || cold.log == "oh\nadding 2\n")
        #expect(cold.isCold && !cold.isLogCut)
        let warm = try lab.run(task)
        #expect(!warm.isCold && warm.text == cold.text)
    }

    @Test func modulesFoldersAndOtherNames() throws {
        let zip = ZipMaker([
            "src/main.mjs": "import { twice } from './lib/twice.mjs'; export const run = (n) => twice(n);",
            "src/lib/twice.mjs": "export const twice = (n) => 2 * n;",
        ])
        #expect(try lab.run(lab.task(.nodejs20, zip, handler: "src/main.run", payload: "21")).text == "42")
        let package = ZipMaker([
            "app/main.py": "from app import tools\nasync def run(n):\n    return tools.twice(n)\n",
            "app/tools.py": "def twice(n): return 2 * n\n",
        ])
        #expect(try lab.run(lab.task(.python312, package, handler: "app/main.run", payload: "21")).text == "42")
    }

    @Test(arguments: [
        (Runtime.nodejs20, "index.js", "exports.handler = () => { throw new TypeError('no such thing'); };", "TypeError: no such thing"),
        (.nodejs20, "index.js", "exports.other = 1;", "TypeError: index.js exports no function handler"),
        (.nodejs20, "index.js", "syntax error", "SyntaxError: Unexpected identifier"),
        (.nodejs20, "index.js", "exports.handler = () => 1n;", "TypeError: Do not know how to serialize a BigInt"),
        (.nodejs20, "index.js", "exports.handler = () => process.exit(3);", "the handler's process ended with status 3"),
        (.nodejs20, "index.js", "exports.handler = () => 'x'.repeat(1 << 20);", "the result is larger than 1048576 bytes"),
        (
            .nodejs20, "index.js", "exports.handler = () => JSON.parse('['.repeat(70) + ']'.repeat(70));",
            "the result can't be told: The JSON is nested deeper than 64"
        ),
        (.python312, "index.py", "def handler(payload): raise KeyError('k')", "KeyError: 'k'"),
        (.python312, "index.py", "def handler(payload): return {1, 2}", "TypeError: Object of type set is not JSON serializable"),
        (.python312, "index.py", "import sys\ndef handler(payload): sys.exit(4)", "the handler's process ended with status 4"),
        (.python312, "index.py", "import nothing", "ModuleNotFoundError: No module named 'nothing'"),
    ])
    func whatGoesWrongIsTold(runtime: Runtime, file: String, source: String, message: String) throws {
        let outcome = try lab.run(lab.task(runtime, file, source))
        guard case .failed(let why) = outcome.verdict else { throw Unexpected(description: "\(outcome)") }
        #expect(why.hasPrefix(message), "\(outcome)")
    }

    @Test(arguments: [
        (Runtime.nodejs20, "index.js", "exports.handler = () => { console.log('in'); for (;;); };"),
        (.python312, "index.py", "def handler(payload):\n    print('in')\n    while True: pass\n"),
    ])
    func aLoopIsKilled(runtime: Runtime, file: String, source: String) throws {
        var task = lab.task(runtime, file, source)
        task.timeout = 3
        let outcome = try lab.run(task)
        #expect(outcome.verdict == .timedOut && outcome.milliseconds >= 3000)
        #expect(outcome.log == "in\n")
        try lab.awaitNoContainers()
    }

    @Test(arguments: [
        (Runtime.nodejs20, "index.js", "exports.handler = () => { const all = []; for (;;) all.push(Buffer.alloc(1 << 20, 1)); };"),
        (.python312, "index.py", "def handler(payload):\n    all = []\n    while True: all.append(b'x' * (1 << 20))\n"),
    ])
    func aMemoryHogIsContained(runtime: Runtime, file: String, source: String) throws {
        var task = lab.task(runtime, file, source)
        task.memoryMB = 64
        #expect(try lab.run(task).verdict == .failed("out of memory: the function has 64 MB"))
    }

    @Test func aForkBombIsContained() throws {
        let source = """
            import os, time
            def handler(payload):
                while True:
                    try: os.fork()
                    except OSError: time.sleep(0.1)
            """
        var task = lab.task(.python312, "index.py", source)
        task.timeout = 3
        let outcome = try lab.run(task)
        // The kernel may end one of them for the memory they have together.
        #expect(outcome.verdict == .timedOut || outcome.verdict == .failed("out of memory: the function has 128 MB"), "\(outcome)")
        try lab.awaitNoContainers()
    }

    @Test func whatAHandlerLeavesRunningEndsWithItsSandbox() throws {
        let source = "const { spawn } = require('child_process'); exports.handler = () => { spawn('sleep', ['600']); return 'left'; };"
        let task = lab.task(.nodejs20, "index.js", source)
        #expect(try lab.run(task).text == #""left""#)
        #expect(try lab.run(task).isCold)
    }

    @Test func thereIsNoNetworkNoRootAndNothingToWriteOn() throws {
        let source = """
            import os, socket
            def attempt(work):
                try: return work()
                except OSError as error: return type(error).__name__ + ' ' + str(error.errno)
            def fill():
                with open('/tmp/much', 'wb', 0) as file:
                    for _ in range(100): file.write(b'x' * (1 << 20))
            def handler(payload):
                return {
                    'user': os.getuid(), 'interfaces': sorted(name for _, name in socket.if_nameindex()),
                    'connect': attempt(lambda: socket.create_connection(('172.17.0.1', 80), 1)),
                    'root': attempt(lambda: open('/evil', 'w')), 'etc': attempt(lambda: open('/etc/passwd', 'a')),
                    'tmp': attempt(lambda: open('/tmp/good', 'w').write('good')),
                    'much': attempt(fill),
                    'capabilities': [line.split()[1] for line in open('/proc/self/status') if line.startswith(('CapEff', 'NoNewPrivs'))],
                }
            """
        let text = try #require(try lab.run(lab.task(.python312, "index.py", source)).text)
        let found = try JSON(parsing: Array(text.utf8))
        #expect(found["user"] == 65534)
        #expect(found["interfaces"]?.array?.allSatisfy { $0 != "eth0" } == true, "\(text)")
        #expect(found["connect"] == "OSError 101")
        #expect(found["root"] == "OSError 30" && found["etc"] == "PermissionError 13", "\(text)")
        #expect(found["tmp"] == 4 && found["much"] == "OSError 28", "\(text)")
        #expect(found["capabilities"] == ["0000000000000000", "1"])
    }

    @Test func aHandlerCannotPrintItsOwnResult() throws {
        let source = """
            exports.handler = (payload) => {
                process.stdout.write('\\x01' + '0'.repeat(32) + ' 8 0\\n+"forged"');
                process.stdout.write('\\x00\\xff');
                return 'true';
            };
            """
        let outcome = try lab.run(lab.task(.nodejs20, "index.js", source))
        #expect(outcome.text == #""true""#)
        #expect(outcome.log == "\u{1}" + String(repeating: "0", count: 32) + " 8 0\n+\"forged\"?ÿ")
    }

    @Test func aLongLogIsCut() throws {
        let outcome = try lab.run(
            lab.task(.python312, "index.py", "def handler(payload):\n    for n in range(30000): print('0123456789')\n"))
        #expect(outcome.text == "null" && outcome.isLogCut && outcome.log.utf8.count == 256 << 10)
    }

    @Test func anotherVersionIsAnotherSandbox() throws {
        let task = lab.task(.nodejs20, "index.js", "exports.handler = () => 1;")
        #expect(try lab.run(task).text == "1")
        #expect(lab.pool.versions == [task.version])
        var other = task
        other.version = ID(at: .now())
        #expect(try lab.run(other).isCold)
        lab.pool.discard([task.version])
        #expect(lab.pool.versions == [other.version])
        try lab.awaitContainers(1)
        lab.pool.close()
        try lab.awaitNoContainers()
    }

    /// What the kernel tells of a killed worker: its connections close.
    @Test func aSandboxWhoseOwnerIsGoneLeaves() throws {
        let task = lab.task(.python312, "index.py", "def handler(payload): return 1")
        _ = try lab.run(task)
        lab.dropConnections()
        try lab.awaitExit()
    }
}
