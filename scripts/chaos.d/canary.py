# h: secrets are planted wherever a client can put one, also while parts are down; then they are searched for in the whole database
# (hex and base64 decoded), in every log and in the cluster's files. What must be found, to trust the search, is planted as well.
import base64
import binascii
import email
import os
import re
import secrets
import socket
import subprocess
import tempfile
import threading
import urllib.parse

from stack import key_text, must, wait_until


class Aviary:
    """The canaries that were let loose."""

    def __init__(self):
        self.birds = {}
        self.echoes = []
        self.answers = 0

    def new(self, what, form=lambda: "Kanarienvogel" + secrets.token_hex(10)):
        bird = form()
        self.keep(what, bird)
        return bird

    def keep(self, what, text):
        """Of a key, what comes after the letters that lists show."""
        self.birds[text[len("thecloud_") + 4:] if text.startswith("thecloud_") else text] = what

    def seen(self, answer, shows=()):
        """No answer repeats a secret, but the one that shows a new key."""
        self.answers += 1
        everything = answer.text + repr(answer.headers)
        self.echoes += [what for bird, what in self.birds.items() if bird in everything and bird not in "".join(shows)]
        return answer

    def needles(self):
        found = {}
        for bird, what in self.birds.items():
            raw = bird.encode()
            forms = {bird, bird.lower(), bird.upper(), raw.hex(), raw.hex().upper(), urllib.parse.quote(bird, safe=""), bird[::-1]}
            for shift in range(3):
                # The letters at both ends depend on what stands beside the text.
                coded = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")[(0, 2, 3)[shift]:-2]
                forms |= {coded, coded.replace("+", "-").replace("/", "_")}
            for form in forms:
                found[form] = what
        return found


def raw_request(port, text):
    """A request as no library would send it; the status line's code, or nothing."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(text.encode("latin-1"))
        connection.settimeout(10)
        try:
            return connection.recv(4096).decode("latin-1")
        except OSError:
            return ""


def plant(stack, aviary, account, when):
    """Everything that a client may do wrong with a secret, once."""
    client = stack.client()

    def new(what, **form):
        return aviary.new(f"{what}, {when}", **form)

    def send(method, path, body=None, headers=None):
        return aviary.seen(client.request(method, path, body, headers))

    json_type = {"Content-Type": "application/json"}
    send("POST", "/auth/register", {"email": f"{secrets.token_hex(5)}@chaos.example", "password": new("password at registration"), "name": "canary"})
    send("POST", "/auth/register", {"email": "no address", "password": new("password at a refused registration"), "name": "canary"})
    send("POST", "/auth/login", {"email": account.email, "password": new("wrong password")})
    send("POST", "/auth/login", {"email": f"{secrets.token_hex(5)}@chaos.example", "password": new("password for an unknown address")})
    send("POST", "/auth/login", '{"email": "' + account.email + '", "password": "' + new("password with a NUL") + '\\u0000"}', json_type)
    send("POST", "/auth/login", '{"password": "' + new("password in a body that is no JSON"), json_type)
    send("POST", "/auth/login", f"password={new('password in a form')}", {"Content-Type": "application/x-www-form-urlencoded"})
    send("POST", "/auth/login", '{"password": "' + new("password in a body that is too large") + '"' + " " * (2 << 20) + "}", json_type)
    send("POST", "/auth/reset-password", {"token": new("reset token that is none", form=lambda: key_text("reset_")), "new_password": new("new password")})
    send("POST", "/auth/forgot-password", {"email": account.email, "password": new("password where none belongs")})

    for path in ("/instances", "/auth/me", "/ws", "/nowhere", "/openapi.yaml", "/"):
        send("GET", path, headers={"X-API-Key": new(f"X-API-Key at {path}")})
        send("GET", path, headers={"X-API-Key": new(f"unknown X-API-Key at {path}", form=key_text)})
        send("GET", path, headers={"Authorization": "Bearer " + new(f"bearer token at {path}", form=key_text)})
        send("GET", path, headers={"Authorization": "Bearer " + new(f"foreign bearer token at {path}")})
        send("GET", path, headers={"Referer": f"http://example.com/?api_key={new('referer')}", "Cookie": f"session={new('cookie')}"})
        send("GET", f"{path}?api_key={new(f'api_key at {path}', form=key_text)}&token={new(f'token at {path}')}")
        send("POST", f"{path}?api_key={new(f'api_key of a POST at {path}')}", "x" * 100)
        send("DELETE", f"{path}?token={new(f'token of a DELETE at {path}')}")
    basic = base64.b64encode(f"user:{new('basic password')}".encode()).decode()
    send("GET", "/instances", headers={"Authorization": f"Basic {basic}"})
    send("GET", f"/instances?api_key={new('api_key in a long request line')}" + "x" * 17000)
    send("GET", "/instances", headers={"X-API-Key": new("api_key in long headers") + "x" * 17000})
    for text in (
        "GET /instances?api_key={} HTTP/9.9\r\n\r\n", "GET /instances?token={}\0 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /instances?api_key={} HTTP/1.1\r\n\r\n", "BREW /instances?api_key={} HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /auth/login?token={} HTTP/1.1\r\nHost: x\r\nContent-Length: y\r\n\r\n",
        "POST /auth/login?token={} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        "GET /%2e%2e/%2e%2e?api_key={} HTTP/1.1\r\nHost: x\r\n\r\n", "GET /instances?api_key={} HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
    ):
        raw_request(stack.port, text.format(new("query of a request that is malformed")))
    raw_request(stack.https_port, f"GET /?api_key={new('query of plain HTTP at the HTTPS port')} HTTP/1.1\r\nHost: x\r\n\r\n")

    # With a good key: what is created with a secret, and asked for again by its Idempotency-Key.
    client.key = account.key
    secret = new("env value")
    body = {"name": f"c{secrets.token_hex(5)}", "image": "nginx:latest", "command": ["sleep", "1000"], "instance_type": "micro", "env": {"PASSWORD": secret}}
    once = {"Idempotency-Key": secrets.token_hex(8)}
    made = send("POST", "/instances", body, once)
    send("POST", "/instances", body, once)
    send("POST", "/instances", {**body, "env": {"PASSWORD": new("env value of another body under the same Idempotency-Key")}}, once)
    send("POST", "/instances", {**body, "name": "bad name!", "env": {"PASSWORD": new("env value of a refused instance")}})
    send("POST", "/instances", {**body, "env": {"PASSWORD": new("env value of a name that is taken")}})
    send("PUT", f"/instances/{secrets.token_hex(4)}", {"name": "x", "password": new("member that nobody knows")})
    once = {"Idempotency-Key": secrets.token_hex(8)}
    body = {"name": "canary", "secret": new("unknown member under an Idempotency-Key")}
    first = client.post("/auth/keys", body, headers=once)
    if first.status == 201:
        aviary.keep(f"new key, {when}", first.json["key"])
        again = client.post("/auth/keys", body, headers=once)
        aviary.replays.append(again.status == 201 and again.json == first.json and again.headers.get("idempotency-replayed") == "true")
        rotated = client.post(f"/auth/keys/{first.json['id']}/rotate", headers={"Idempotency-Key": secrets.token_hex(8)})
        aviary.keep(f"rotated key, {when}", must(rotated, 200).json["key"])
    client.close()
    return made.json["data"]["id"] if made.status == 201 else None


class Mailbox:
    """A mail server that takes every message and keeps it."""

    def __init__(self, port):
        self.messages = []
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", port))
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, connection):
        with connection, connection.makefile("rwb") as line:
            def say(text):
                line.write(text.encode() + b"\r\n")
                line.flush()

            say("220 chaos")
            while words := line.readline():
                word = words[:4].upper().strip()
                if word == b"DATA":
                    say("354 go on")
                    message = b""
                    while (part := line.readline()) not in (b".\r\n", b""):
                        message += part
                    self.messages.append(message)
                say("221 bye" if word == b"QUIT" else "250 ok")
                if word == b"QUIT":
                    return

    def close(self):
        self.listener.close()


def decoded(blob):
    """What stands in hex or base64 in it, decoded, twice over."""
    layer = [blob]
    for _ in range(2):
        inner = []
        for part in layer:
            for run in re.findall(rb"[0-9a-fA-F]{16,}", part):
                inner.append(binascii.unhexlify(run[: len(run) & ~1]))
            for run in re.findall(rb"[A-Za-z0-9+/_-]{16,}", part):
                if not re.fullmatch(rb"[0-9a-fA-F]+", run):
                    run = run.replace(b"-", b"+").replace(b"_", b"/")
                    run = run[:-1] if len(run) % 4 == 1 else run
                    inner.append(base64.b64decode(run + b"=" * (-len(run) % 4)))
        yield from inner
        layer = inner


def search(needles, *places):
    """The needles that are found below the places: [(file, needle)]."""
    with tempfile.NamedTemporaryFile("w", suffix=".needles") as patterns:
        patterns.write("\n".join(needles) + "\n")
        patterns.flush()
        done = subprocess.run(
            ["grep", "-raoF", "-f", patterns.name, "--exclude-dir=bin", "--", *places], capture_output=True, env={**os.environ, "LC_ALL": "C"})
        if done.returncode > 1:
            raise RuntimeError(done.stderr.decode())
    return [tuple(line.rsplit(":", 1)) for line in done.stdout.decode("latin-1").splitlines()]


def planting(ledger, world):
    stack = world.main
    account = world.account("h")
    ledger.begin("h", "canaries: secrets are planted, and searched for in the database, the logs and the cluster's files")
    aviary = Aviary()
    aviary.replays = []
    aviary.keep("password of the account", account.password)
    aviary.keep("login's key", account.key)
    instances = [plant(stack, aviary, account, "all is well")]
    world.engine.stop()
    instances.append(plant(stack, aviary, account, "no Docker"))
    world.engine.start()
    stack.lib('postgres_run pg_ctl "$STATE/postgres" stop --mode=fast --silent')
    plant(stack, aviary, account, "no PostgreSQL")
    stack.lib("start_postgres")
    stack.lib("stop_program worker TERM 60")
    plant(stack, aviary, account, "no worker")
    stack.start("worker")
    wait_until(stack.is_ready, 60)
    client = stack.client(account.key)

    # The mail server refuses, then it is there; with the token from the mail the password is set.
    tried = wait_until(lambda: stack.value(f"select last_error from jobs where kind = 'password_reset_mail' and subject = '{account.id}'"), 30)
    ledger.within("the mail server refuses: the reset mail is tried, and its job kept", tried, 30)
    mailbox = Mailbox(world.smtp_port)
    must(client.post("/auth/forgot-password", {"email": account.email}), 200)
    came = wait_until(lambda: mailbox.messages, 30)
    ledger.within("the mail server is back: the mail comes after asking again", came, 15)
    text = email.message_from_bytes(mailbox.messages[-1]).get_payload(decode=True).decode() if came is not None else ""
    token = re.search(r"token=(reset_[0-9A-Za-z]+)", text)
    if ledger.check("its text", "holds a token", "so" if token else text[:200], token):
        aviary.keep("reset token", token[1])
        new_password = aviary.new("password after the reset")
        ledger.check("POST /auth/reset-password with it", 200, (done := client.post("/auth/reset-password", {"token": token[1], "new_password": new_password})).status, done.status == 200)
        ledger.check("with it once more", 400, (done := aviary.seen(client.post("/auth/reset-password", {"token": token[1], "new_password": new_password}))).status, done.status == 400)
        again = must(client.post("/auth/login", {"email": account.email, "password": new_password}), 200)
        aviary.keep("key after the reset", again.json["api_key"])
        client.key = again.json["api_key"]
    mailbox.close()
    for instance in filter(None, instances):
        wait_until(lambda: client.get(f"/instances/{instance}").json["data"]["status"] in ("RUNNING", "ERROR"), 30)
        must(client.delete(f"/instances/{instance}"), 200)
        wait_until(lambda: client.get(f"/instances/{instance}").status == 404, 30)

    ledger.check("repeated requests that answer a new key again", "all alike", f"{sum(aviary.replays)} of {len(aviary.replays)}", aviary.replays and all(aviary.replays))
    ledger.check(f"{aviary.answers} answers that repeat a secret", "none", aviary.echoes[:3] or "none", not aviary.echoes)
    look(ledger, stack, aviary, account)


def look(ledger, stack, aviary, account):
    needles = aviary.needles()
    # What must be found, or the search is blind: in clear, as bytea, and as base64 within jsonb.
    control = {name: f"Spatz{secrets.token_hex(10)}" for name in ("clear", "bytea", "jsonb", "log")}
    stack.sql(
        f"create table chaos_control (clear text, raw bytea, packed jsonb); insert into chaos_control values ('{control['clear']}', "
        f"'{control['bytea']}', jsonb_build_object('a', encode('{control['jsonb']}', 'base64'))); checkpoint;")
    stack.client().get("/health/live", headers={"User-Agent": control["log"]})
    wanted = list(needles) + list(control.values())
    with tempfile.TemporaryDirectory(prefix="thecloud-dump.") as folder:
        with open(f"{folder}/dump", "wb") as out:
            subprocess.run(["pg_dump", stack.url()], stdout=out, check=True)
        size = os.path.getsize(f"{folder}/dump")
        with open(f"{folder}/decoded", "wb") as out:
            for part in decoded(open(f"{folder}/dump", "rb").read()):
                out.write(part + b"\n")
        in_dump = search(wanted, f"{folder}/dump", f"{folder}/decoded")
    stack.sql("drop table chaos_control")
    in_logs = search(wanted, f"{stack.state}/log")
    in_cluster = search(wanted, os.path.realpath(f"{stack.state}/postgres"))
    elsewhere = search(list(needles), *(f"{stack.state}/{name}" for name in ("nginx", "run", "mail", "env") if os.path.exists(f"{stack.state}/{name}")))

    def report(where, hits):
        bad = sorted({f"{needles[needle]} ({os.path.basename(file)})" for file, needle in hits if needle in needles})
        ledger.check(f"{len(aviary.birds)} secrets, each in {len(needles) // len(aviary.birds)} spellings, in {where}", "none", "; ".join(bad[:5]) or "none", not bad)

    found = {needle for _, needle in in_dump + in_logs}
    ledger.check("what was planted to be found (text, bytea, base64 in jsonb; a log)", "all 4", len(found & set(control.values())), found >= set(control.values()))
    report(f"pg_dump ({size >> 10} KiB), hex and base64 decoded", in_dump)
    report(f"the logs ({', '.join(sorted(os.listdir(f'{stack.state}/log')))})", in_logs)
    report("the cluster's files, WAL included", in_cluster)
    report("the rest of the state folder", elsewhere)
