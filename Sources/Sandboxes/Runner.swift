// The programs that load a handler and call it, one for each language: the only process that a sandbox begins with.
//
// In: records of one letter, 32 bits of length (big-endian) and so many bytes. S: settings as JSON; F: a file (1 for an executable one, else 0,
// then its path); D: its bytes, in any number of records; G: that was all; I: an invocation (the 32 letters of its nonce, then the payload).
// Out, at the end of an invocation and after G: "\u{1}nonce length others\n" and so many bytes: "+" and the result as JSON, or "-" and why there
// is none. others: processes that the handler left behind. The same nonce alone ends the standard error. Whatever else is written is the log.

enum Runner {
    /// Where the code lies.
    static let codeFolder = "/var/task"

    /// Bytes of a result's JSON.
    static let resultLimit = 1 << 20

    static let node = """
        'use strict';
        const fs = require('fs'), path = require('path'), { createRequire } = require('module'), { pathToFileURL } = require('url');
        const say = process.stdout.write.bind(process.stdout), tell = process.stderr.write.bind(process.stderr);
        const root = '\(codeFolder)';
        let settings, file, handler, rest = Buffer.alloc(0), queue = Promise.resolve();
        const others = () => fs.readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name) && name !== '1' && +name !== process.pid).length;
        function end(nonce, body) {
            if (Buffer.byteLength(body) > \(resultLimit)) body = '-the result is larger than \(resultLimit) bytes';
            const bytes = Buffer.from(body);
            tell(`\\x01${nonce}\\n`);
            say(Buffer.concat([Buffer.from(`\\x01${nonce} ${bytes.length} ${others()}\\n`), bytes]));
        }
        async function load() {
            const dot = settings.handler.indexOf('.'), name = settings.handler.slice(dot + 1);
            const base = path.join(root, settings.handler.slice(0, dot));
            const found = ['.js', '.mjs', '.cjs'].map((kind) => base + kind).find((place) => fs.existsSync(place));
            let module;
            try {
                if (found.endsWith('.mjs')) throw { code: 'ERR_REQUIRE_ESM' };
                module = createRequire(root + '/')(found);
            } catch (error) {
                if (!error || error.code !== 'ERR_REQUIRE_ESM') throw error;
                module = await import(pathToFileURL(found));
            }
            const value = module[name] ?? module.default?.[name];
            if (typeof value !== 'function') throw new TypeError(`${path.basename(found)} exports no function ${name}`);
            return value;
        }
        function told(error) {
            try { return error instanceof Error ? `${error.name}: ${error.message}` : String(error); } catch { return 'an error that says nothing'; }
        }
        async function invoke(nonce, text) {
            let body;
            try {
                handler ??= await load();
                body = '+' + (JSON.stringify(await handler(JSON.parse(text))) ?? 'null');
            } catch (error) {
                console.error(error);
                body = '-' + told(error).slice(0, 4000);
            }
            end(nonce, body);
        }
        const take = {
            S(bytes) { settings = JSON.parse(bytes.toString()); Object.assign(process.env, settings.env); },
            F(bytes) {
                if (file !== undefined) fs.closeSync(file);
                const place = path.join(root, bytes.subarray(1).toString());
                fs.mkdirSync(path.dirname(place), { recursive: true });
                file = fs.openSync(place, 'w', bytes[0] ? 0o755 : 0o644);
            },
            D(bytes) { for (let done = 0; done < bytes.length;) done += fs.writeSync(file, bytes, done); },
            G() { if (file !== undefined) fs.closeSync(file); process.chdir(root); end(settings.nonce, '+null'); },
            I(bytes) { queue = queue.then(() => invoke(bytes.subarray(0, 32).toString(), bytes.subarray(32).toString())); },
        };
        process.stdin.on('data', (bytes) => {
            rest = rest.length ? Buffer.concat([rest, bytes]) : bytes;
            while (rest.length >= 5 && rest.length >= 5 + rest.readUInt32BE(1)) {
                const length = 5 + rest.readUInt32BE(1);
                take[String.fromCharCode(rest[0])](rest.subarray(5, length));
                rest = rest.subarray(length);
            }
        });
        process.stdin.on('end', () => process.exit(0));
        """

    static let python = """
        import importlib, json, os, sys, traceback
        root, own = '\(codeFolder)', os.getpid()
        source, sink, errors = os.fdopen(os.dup(0), 'rb'), os.dup(1), os.dup(2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        settings = file = handler = loop = None
        def write(fd, data):
            while data: data = data[os.write(fd, data):]
        def others(): return len([name for name in os.listdir('/proc') if name.isdigit() and name != '1' and int(name) != own])
        def end(nonce, body):
            if len(body) > \(resultLimit): body = b'-the result is larger than \(resultLimit) bytes'
            for stream in (sys.stdout, sys.stderr):
                try: stream.flush()
                except Exception: pass
            write(errors, b'\\x01%s\\n' % nonce)
            write(sink, b'\\x01%s %d %d\\n' % (nonce, len(body), others()) + body)
        def load():
            module, name = settings['handler'].split('.', 1)
            value = getattr(importlib.import_module(module.replace('/', '.')), name, None)
            if not callable(value): raise TypeError('%s.py defines no function %s' % (module, name))
            return value
        def wait(value):
            global loop
            import asyncio
            if loop is None: loop = asyncio.new_event_loop()
            async def awaited(): return await value
            return loop.run_until_complete(awaited())
        def invoke(nonce, text):
            global handler
            try:
                if handler is None: handler = load()
                result = handler(json.loads(text))
                if hasattr(result, '__await__'): result = wait(result)
                body = b'+' + json.dumps(result, allow_nan=False).encode()
            except SystemExit: raise
            except BaseException as error:
                if os.getpid() != own: os._exit(1)
                traceback.print_exc()
                body = b'-' + ('%s: %s' % (type(error).__name__, error))[:4000].encode(errors='replace')
            if os.getpid() != own: os._exit(0)
            end(nonce, body)
        while True:
            head = source.read(5)
            if len(head) < 5: os._exit(0)
            data = source.read(int.from_bytes(head[1:], 'big'))
            kind = head[:1]
            if kind == b'S':
                settings = json.loads(data)
                os.environ.update(settings['env'])
            elif kind == b'F':
                if file: file.close()
                place = os.path.join(root, data[1:].decode())
                os.makedirs(os.path.dirname(place), exist_ok=True)
                file = open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o755 if data[0] else 0o644), 'wb')
            elif kind == b'D': file.write(data)
            elif kind == b'G':
                if file: file.close()
                os.chdir(root)
                sys.path.insert(0, root)
                end(settings['nonce'].encode(), b'+null')
            elif kind == b'I': invoke(data[:32], data[32:])
        """
}
