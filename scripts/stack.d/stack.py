# A throw-away stack for scripts/chaos and scripts/bench: started by scripts/up in a temporary folder with ports of its own, purged at the end.
# Also what both do with it: requests over kept connections, statements as superuser, and the steps of scripts/lib.sh.
import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
import zlib

SCRIPTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# What a user's own stack was told must not leak into ours.
KEPT = {"THECLOUD_BIN", "THECLOUD_CACHE", "THECLOUD_CONFIGURATION"}


def end_orderly():
    """SIGTERM ends the program as Ctrl-C does: contexts are left, stacks purged."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def clean_environment(**settings):
    ours = {name: value for name, value in os.environ.items() if not name.startswith("THECLOUD_") or name in KEPT}
    return {**ours, **settings}


def free_port():
    """A port that nobody listens on, outside the ranges that instances' ports (20000–32767) and outgoing connections (above) are picked from."""
    for port in range(10300 + os.getpid() % 6000, 20000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in free_port.given:
            free_port.given.add(port)
            return port
    sys.exit("error: no port is free")


free_port.given = set()


LETTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase


def key_text(prefix="thecloud_", letters=None):
    """What a real key looks like, its checksum included; random, or with 27 given letters."""
    text = prefix + (letters or "".join(secrets.choice(LETTERS) for _ in range(27)))
    rest, check = zlib.crc32(text.encode()), ""
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        check = LETTERS[digit] + check
    return text + check


class Answer:
    """One HTTP answer; status 0 stands for none at all (reset, time-out), with the reason as its text."""

    def __init__(self, status, headers, body, seconds):
        self.status, self.headers, self.body, self.seconds = status, headers, body, seconds

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    @property
    def json(self):
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def is_our_error(self):
        """Whether it is the one error body, for its own status, with a request id."""
        body = self.json
        return (
            isinstance(body, dict)
            and body.get("code") == body.get("status_code") == self.status
            and all(isinstance(body.get(name), str) and body[name] for name in ("error", "message", "detail", "error_code", "request_id"))
            and isinstance(body.get("errors"), list)
            and self.headers.get("x-request-id") == body["request_id"]
        )


class Client:
    """One kept connection; for one thread. Nothing is ever sent twice."""

    def __init__(self, port, key=None, timeout=30):
        self.port, self.key, self.timeout = port, key, timeout
        self.connection, self.used = None, 0.0

    def request(self, method, path, body=None, headers=None, key=None):
        sent = dict(headers or {})
        if key or self.key:
            sent.setdefault("X-API-Key", key or self.key)
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        start = time.monotonic()
        # nginx closes what idles for 30 s.
        if start - self.used > 10:
            self.close()
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
            self.connection.request(method, path, body=body, headers=sent)
            got = self.connection.getresponse()
            data = got.read()
            self.used = time.monotonic()
            if got.will_close:
                self.close()
            return Answer(got.status, {n.lower(): v for n, v in got.getheaders()}, data, time.monotonic() - start)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Answer(0, {}, repr(error).encode(), time.monotonic() - start)

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.request("POST", path, body, **more)

    def delete(self, path, **more):
        return self.request("DELETE", path, **more)

    def close(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None


class Account:
    """Somebody who registered and logged in."""

    def __init__(self, stack, email, password="a password of eight letters"):
        client = stack.client()
        made = must(client.post("/auth/register", {"email": email, "password": password, "name": email}), 201)
        self.id, self.email, self.password = made.json["user_id"], email, password
        self.key = must(client.post("/auth/login", {"email": email, "password": password}), 200).json["api_key"]
        client.close()


class Stack:
    """Use as a context. `settings` are those of scripts/up."""

    def __init__(self, name, **settings):
        self.name = name
        self.folder = tempfile.mkdtemp(prefix=f"thecloud-{name}.")
        os.chmod(self.folder, 0o755)
        self.state = os.path.join(self.folder, "state")
        self.port, self.https_port = free_port(), free_port()
        self.environment = clean_environment(
            THECLOUD_STATE=self.state, THECLOUD_HTTP_PORT=str(self.port), THECLOUD_HTTPS_PORT=str(self.https_port),
            THECLOUD_AUTH_RATE="100000r/s", THECLOUD_AUTH_BURST="10000", **settings)
        self.is_up = False

    def up(self):
        print(f"==> starting a throw-away stack ({self.name}, port {self.port})", flush=True)
        log = os.path.join(self.folder, "up.log")
        with open(log, "w") as out:
            self.is_up = True
            done = subprocess.run([f"{SCRIPTS}/up"], env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        if done.returncode:
            tail = "".join(open(log).readlines()[-15:])
            sys.exit(f"error: scripts/up does not start a stack; it says:\n{tail}")
        self.id = open(f"{self.state}/run/stack-id").read().strip()
        return self

    def purge(self):
        if self.is_up:
            done = subprocess.run(
                [f"{SCRIPTS}/down", "--purge"], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if done.returncode:
                print(f"==> scripts/down --purge failed:\n{done.stdout}{done.stderr}", file=sys.stderr)
            self.is_up = False
            return done.returncode == 0
        return True

    def __enter__(self):
        try:
            return self.up()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.purge()
        subprocess.run(["rm", "-rf", self.folder])

    def client(self, key=None, timeout=30):
        return Client(self.port, key, timeout)

    # Steps of scripts/lib.sh, such as "stop_program cron TERM 60".
    def lib(self, step, check=True):
        script = f'set -euo pipefail; source "{SCRIPTS}/lib.sh"; load_settings; {step}'
        done = subprocess.run(
            ["bash", "-c", script], env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if check and done.returncode:
            raise RuntimeError(f"{step}: {done.stdout.strip()}")
        return done.stdout.strip()

    # Without a pipe: what is started keeps nothing of ours open.
    def start(self, name, program=None):
        script = f'set -euo pipefail; source "{SCRIPTS}/lib.sh"; load_settings; start_program {name} thecloud-{program or name}'
        subprocess.run(
            ["bash", "-c", script], env=self.environment, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)

    @contextlib.contextmanager
    def without(self, name):
        """A program does not run meanwhile. (One that is only stopped may keep a transaction open.)"""
        self.lib(f"stop_program {name} TERM 60")
        try:
            yield
        finally:
            self.start(name)

    def url(self, name="thecloud", user="postgres"):
        return f"postgresql:///{name}?host={self.state}/run/pg&user={user}"

    def sql(self, statement, database="thecloud"):
        """Rows of texts, as superuser."""
        done = subprocess.run(
            ["psql", "-XAtq", "-F", "\x1f", "-R", "\x1e", "-v", "ON_ERROR_STOP=1", self.url(database), "-f", "-"], input=statement,
            capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"psql: {done.stderr.strip()}")
        out = done.stdout.removesuffix("\n").removesuffix("\x1e")
        return [row.split("\x1f") for row in out.split("\x1e")] if out else []

    def value(self, statement, database="thecloud"):
        rows = self.sql(statement, database)
        return rows[0][0] if rows else None

    def pid(self, program):
        return int(open(f"{self.state}/run/{program}.pid").read())

    def children(self, pool=None):
        """Process ids of the worker's children by pool."""
        master, found = self.pid("worker"), {}
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                stat = open(f"/proc/{name}/stat").read()
                words = open(f"/proc/{name}/cmdline").read().split("\0")
            except OSError:
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if int(parent) == master and state != "Z" and "--child" in words:
                found[int(name)] = words[words.index("--child") + 1]
        return sorted(p for p, n in found.items() if n == pool) if pool else found

    def replace_children(self):
        """SIGHUP to the worker's master. Returns what tells whether all children are others, and as many."""
        before = set(self.children())
        os.kill(self.pid("worker"), signal.SIGHUP)

        def are_replaced():
            now = set(self.children())
            return not now & before and len(now) == len(before)

        return are_replaced

    def is_ready(self):
        client = self.client(timeout=5)
        status = client.get("/health/ready").status
        client.close()
        return status == 200


def must(answer, status):
    if answer.status != status:
        raise RuntimeError(f"expected {status}, got {answer.status}: {answer.text[:300]}")
    return answer


def wait_until(condition, seconds, pause=0.1):
    """Seconds until the condition held; None when it never did."""
    start = time.monotonic()
    while True:
        if condition():
            return time.monotonic() - start
        if time.monotonic() - start > seconds:
            return None
        time.sleep(pause)
