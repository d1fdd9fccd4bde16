# r: the way in. Requests to two owners' gateways reach the right one of their targets, whole and encoded as they were, while children of the worker
# are killed and other targets keep silent, are down, send and take a hundred megabytes, or would like to steer nginx.
import hashlib
import http.client
import http.server
import os
import random
import signal
import threading
import time

from cron_jobs import Server
from load import await_all_children
from sockets import crashes
from stack import free_port, must, wait_until
from workers import pools_of

OWNERS, CONNECTIONS, SILENT = ("one", "two"), 8, 50
MEGABYTE, SIZE = bytes(1 << 20), 100
# What is asked behind a gateway's address, which route it is for, and what that one's target must see.
PATHS = {
    "/auth": ("/auth", ""), "/auth/login?x=1&y=%2F": ("/auth", "/login?x=1&y=%2F"), "/auth/deep/x%20y": ("/auth/deep", "/x%20y"),
    "/auth//deep/./z": ("/auth/deep", "/z"), "/auth/deep/%2e%2e/in": ("/auth", "/in"), "/auth/deeper": ("/auth", "/deeper"),
    "/auth%2fdeep": ("/auth/deep", ""), "/Auth": (None, None), "/authx": (None, None), "/auth/../../../_gateway": (None, None),
}
HOSTILE = {
    "X-Accel-Redirect": "/_gateway", "X-Accel-Buffering": "yes", "Set-Cookie": "a=b; Path=/", "Clear-Site-Data": '"*"', "Service-Worker-Allowed": "/",
}


class Targets(http.server.BaseHTTPRequestHandler):
    """The first segment of a path says which target it is: one-auth, two-deep, big, silent, hostile."""

    protocol_version = "HTTP/1.1"
    is_over, kept_waiting = threading.Event(), []

    def answer(self):
        name = self.path.split("/")[1]
        taken = self.take()
        if name == "silent":
            self.kept_waiting.append(self.client_address)
            self.is_over.wait(120)
            self.close_connection = True
            return
        body = self.path.encode()
        self.send_response(200)
        for header, value in HOSTILE.items() if name == "hostile" else ():
            self.send_header(header, value)
        if name == "hostile":
            self.send_header("Content-Type", "text/html")
        self.send_header("X-Taken", taken)
        self.send_header("Content-Length", str(SIZE << 20 if name == "big" else len(body)))
        self.end_headers()
        for _ in range(SIZE if name == "big" else 0):
            self.wfile.write(MEGABYTE)
        if name != "big":
            self.wfile.write(body)

    do_GET = do_POST = answer

    def take(self):
        """The digest of the request's body."""
        left, digest = int(self.headers.get("content-length") or 0), hashlib.sha256()
        while left:
            piece = self.rfile.read(min(left, len(MEGABYTE)))
            if not piece:
                break
            left -= len(piece)
            digest.update(piece)
        return digest.hexdigest()

    def log_message(self, *_):
        pass


class Gateway:
    """What an owner made: `path` leads there."""

    def __init__(self, stack, account, name, port):
        self.client, self.name = stack.client(account.key), name
        for prefix, target in (
            ("/auth", f"{name}-auth"), ("/auth/deep", f"{name}-deep"), ("/big", "big"), ("/silent", "silent"), ("/hostile", "hostile")
        ):
            self.path = self.make(prefix, f"http://127.0.0.1:{port}/{target}").removesuffix(prefix)
        self.make("/down", "http://127.0.0.1:1")

    def make(self, prefix, target):
        body = {"name": prefix.replace("/", "x"), "prefix": prefix, "target": target, "strip_prefix": True}
        made = must(self.client.post("/routes", body), 201).json["data"]
        if wait_until(lambda: self.client.get(f"/routes/{made['id']}").json["data"]["status"] == "ACTIVE", 30) is None:
            raise RuntimeError(f"the route to {target} does not become active")
        return made["url"][made["url"].index("/gw/"):]

    def is_right(self, path, answer):
        prefix, rest = PATHS[path]
        if prefix is None:
            return answer.status == 404 and answer.is_our_error
        return answer.status == 200 and answer.text == f"/{self.name}-{prefix.split('/')[-1]}{rest}"


class Visitors:
    """Use as a context: they ask both gateways in turn."""

    def __init__(self, stack, gateways):
        self.stack, self.gateways = stack, gateways
        self.answers, self.slowest, self.failures, self.wrong, self.broken = 0, 0.0, [], [], []
        self.lock, self.is_over = threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(CONNECTIONS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for thread in self.threads:
            thread.join(60)

    def work(self):
        try:
            client = self.stack.client()
            while not self.is_over.is_set():
                gateway, path = random.choice(self.gateways), random.choice(list(PATHS))
                answer = client.get(gateway.path + path)
                with self.lock:
                    self.answers += 1
                    self.slowest = max(self.slowest, answer.seconds)
                    if answer.status in (0, 503):
                        self.failures.append(answer)
                    elif not gateway.is_right(path, answer):
                        self.wrong.append(f"{gateway.name} {path}: {answer.status} {answer.text[:100]}")
        except Exception as error:  # A bug of this script must not look like a success.
            self.broken.append(repr(error))


def resident_kib(process):
    return int(next(line for line in open(f"/proc/{process}/status") if line.startswith("VmRSS")).split()[1])


def hundred_megabytes(stack, path):
    """There and back. Returns whether both arrived whole."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=120)
    connection.request("POST", path, body=(MEGABYTE for _ in range(SIZE)), headers={"Content-Length": str(SIZE << 20)})
    answer, length, expected = connection.getresponse(), 0, hashlib.sha256()
    while piece := answer.read(1 << 20):
        length += len(piece)
    for _ in range(SIZE):
        expected.update(MEGABYTE)
    return answer.status == 200 and length == SIZE << 20 and answer.headers["x-taken"] == expected.hexdigest()


def passing(ledger, world):
    stack, seconds = world.main, world.seconds
    ledger.begin("r", f"{CONNECTIONS} connections pass two owners' gateways for {seconds} s while a child of the worker is killed every second and {SILENT} requests wait for a target that keeps silent")
    port = free_port()
    server = Server(("127.0.0.1", port), Targets)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        gateways = [Gateway(stack, world.account(f"r-{name}"), name, port) for name in OWNERS]
        pools, crashed = pools_of(stack), crashes(stack)
        waiting, silence = wait_for_silence(stack, gateways[0])
        kills = kill(stack, Visitors(stack, gateways), seconds, ledger)
        ledger.within(f"after {kills} kills all children are back", await_all_children(stack, pools), 10)
        judge_memory(ledger, stack, gateways[0])
        judge_targets(ledger, stack, gateways[0])
        for thread in waiting:
            thread.join(90)
        right = sum(answer.status == 504 and answer.is_our_error for answer in silence)
        ledger.check("requests to the silent target", f"{SILENT} 504 in our error body", right, right == SILENT)
        ledger.check("nginx's workers that crashed", 0, crashes(stack) - crashed, crashes(stack) == crashed)
    finally:
        Targets.is_over.set()
        server.shutdown()


def wait_for_silence(stack, gateway):
    answers = []
    waiting = [
        threading.Thread(target=lambda: answers.append(stack.client(timeout=90).get(f"{gateway.path}/silent")), daemon=True) for _ in range(SILENT)]
    for thread in waiting:
        thread.start()
    if wait_until(lambda: len(Targets.kept_waiting) == SILENT, 30) is None:
        raise RuntimeError("the silent target is not asked")
    return waiting, answers


def kill(stack, visitors, seconds, ledger):
    kills = 0
    with visitors:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(1)
            if children := stack.children("api"):
                os.kill(random.choice(children), signal.SIGKILL)
                kills += 1
    ledger.check(f"of {visitors.answers} answers, those from elsewhere or otherwise than asked", 0, visitors.wrong[:1] or 0, not visitors.wrong)
    limit = kills * CONNECTIONS
    ledger.check("requests that failed", f"at most those on its connections, {CONNECTIONS} a kill: {limit}", len(visitors.failures), len(visitors.failures) <= limit)
    strange = [f"{a.status} {a.text[:100]}" for a in visitors.failures if not a.is_our_error or not a.headers.get("retry-after")]
    ledger.check("how they failed", "503 with Retry-After in our error body", strange[:1] or "so", not strange)
    ledger.check("the slowest answer", "below 15 s", f"{visitors.slowest:.2f} s", visitors.slowest < 15)
    if visitors.broken:
        ledger.check("this script", "no error of its own", visitors.broken[0], False)
    return kills


def judge_memory(ledger, stack, gateway):
    must(gateway.client.get("/instances"), 200)
    before = {child: resident_kib(child) for child in stack.children("api")}
    ledger.check(f"{SIZE} MB there and back", "whole", *[hundred_megabytes(stack, f"{gateway.path}/big")] * 2)
    grown = max(resident_kib(child) - memory for child, memory in before.items())
    ledger.check("the worker's memory meanwhile", "grows by less than 4 MiB", f"{grown} KiB", grown < 4096)


def judge_targets(ledger, stack, gateway):
    client = stack.client()
    answer = client.get(f"{gateway.path}/hostile")
    steered = [name for name in HOSTILE if name.lower() in answer.headers]
    is_apart = answer.headers.get("content-security-policy", "").startswith("sandbox ")
    ledger.check("headers by which a target would steer nginx or a browser", "none, and an origin of its own", steered or "so", answer.status == 200 and not steered and is_apart)
    answer = client.get(f"{gateway.path}/down")
    ledger.check("a target that is down", "502 in our error body", answer.status, answer.status == 502 and answer.is_our_error)
