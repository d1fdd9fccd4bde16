# s: the way out. Hostile URLs as the target of a cron job, a webhook and a route: nothing may reach who listens on loopback. One address of
# loopback is allowed, in a stack of its own, and is reached: what it answers redirects to the one that is not.
import http.server
import socket
import threading
import time

from cron_jobs import Server
from stack import Account, Stack, free_port, must, wait_until

# PORT is the listener's. What the text alone tells is refused at once, names are accepted and refused when they are to be used.
HOSTILE = [
    "http://127.0.0.1:PORT/", "http://127.1:PORT/", "http://127.0.1:PORT/", "http://2130706433:PORT/", "http://0x7f000001:PORT/",
    "http://0x7f.0.0.1:PORT/", "http://0X7F.1:PORT/", "http://0177.0.0.1:PORT/", "http://017700000001:PORT/", "http://127.0.0.01:PORT/",
    "http://127.000.000.001:PORT/", "http://127.0.0.1.:PORT/", "http://127.0.0.0x1:PORT/", "http://127.255.255.254:PORT/",
    "http://0.0.0.0:PORT/", "http://0:PORT/", "http://4294967297:PORT/", "http://127.0.0.257:PORT/", "HTTP://127.0.0.1:PORT/",
    "https://127.0.0.1:PORT/", "http://[::1]:PORT/", "http://[0:0:0:0:0:0:0:1]:PORT/", "http://[::]:PORT/", "http://[::ffff:127.0.0.1]:PORT/",
    "http://[::ffff:7f00:1]:PORT/", "http://[::127.0.0.1]:PORT/", "http://[64:ff9b::127.0.0.1]:PORT/", "http://[64:ff9b:1::7f00:1]:PORT/",
    "http://[2002:7f00:1::]:PORT/", "http://[2001:0:7f00:1::1]:PORT/", "http://[fe80::1%25lo]:PORT/", "http://[::1%25lo]:PORT/",
    "http://[::ffff:0:127.0.0.1]:PORT/", "http://[127.0.0.1]:PORT/", "http://[::1:PORT/", "http://::1:PORT/",
    "http://example.invalid@127.0.0.1:PORT/", "http://user:password@127.0.0.1:PORT/", "http://127.0.0.1:PORT@example.invalid/",
    "http://127.0.0.1:PORT\\@example.invalid/", "http://example.invalid\\@127.0.0.1:PORT/", "http://example.invalid:80@127.0.0.1:PORT/",
    "http://127.0.0.1%3aPORT/", "http://127.0.0.1%2f@example.invalid/", "http:///127.0.0.1:PORT/", "http:127.0.0.1:PORT/", "//127.0.0.1:PORT/",
    "http://localhost:PORT/", "http://LOCALHOST.:PORT/", "http://127。0。0。1:PORT/", "http://①②⑦.0.0.1:PORT/",
    "http://127.0.0.1\t:PORT/", " http://127.0.0.1:PORT/", "http://127.0.0.1:PORT/ HTTP/1.1\r\nHost: x", "http://127.0.0.1\0:PORT/",
    "file:///etc/passwd", "gopher://127.0.0.1:PORT/_GET", "dict://127.0.0.1:PORT/x", "ftp://127.0.0.1:PORT/", "unix:/run/docker.sock",
    "http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "http://100.100.100.200/", "http://10.0.0.1:PORT/", "",
]
ALLOWED = "127.0.0.2"


class Redirecting(http.server.BaseHTTPRequestHandler):
    """Who is allowed."""

    protocol_version = "HTTP/1.1"
    seen, place = [], ""

    def answer(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.seen.append(self.path)
        self.send_response(307)
        self.send_header("Location", self.place)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


class Listener:
    """Everywhere on loopback but at the allowed address; counts who comes."""

    def __init__(self):
        self.port, self.seen = free_port(), []
        for host in ("127.0.0.1", "127.255.255.254", "::1"):
            server = socket.create_server((host, self.port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
            threading.Thread(target=self.listen, args=(server,), daemon=True).start()

    def listen(self, server):
        while True:
            peer, _ = server.accept()
            peer.settimeout(5)
            try:
                self.seen.append(peer.recv(200))
            except OSError as error:
                self.seen.append(repr(error))
            peer.close()


def refusing(ledger, _):
    ledger.begin("s", f"{len(HOSTILE)} hostile URLs for cron, webhooks and the gateway, where only {ALLOWED} is allowed")
    with Stack("strict", THECLOUD_SCRYPT="ln=10,r=8,p=1", THECLOUD_EGRESS_ALLOW=f"{ALLOWED}/32") as stack:
        judge(ledger, stack)


def judge(ledger, stack):
    client = stack.client(Account(stack, f"s.{time.monotonic_ns():x}@chaos.example").key)
    listener, port = Listener(), free_port()
    Redirecting.place = f"http://127.0.0.1:{listener.port}/"
    server = Server((ALLOWED, port), Redirecting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        urls = [url.replace("PORT", str(listener.port)) for url in HOSTILE]
        accepted = {kind: [] for kind in KINDS}
        strange = []
        for number, url in enumerate([*urls, f"http://{ALLOWED}:{port}/KIND"]):
            for kind, make in KINDS.items():
                answer = make(client, number, url.replace("KIND", kind))
                if answer.status == 201:
                    accepted[kind].append((url.replace("KIND", kind), answer.json["data"]))
                elif answer.status != 400 or not answer.is_our_error:
                    strange.append(f"{kind} {url!r}: {answer.status} {answer.text[:100]}")
        ledger.check("URLs that were refused otherwise than by 400 in our error body", 0, strange[:1] or 0, not strange)
        names = sum("localhost" in url.lower() for url in urls)
        for kind, made in accepted.items():
            ledger.check(f"{kind}: URLs that were accepted", f"the {names} names that lead inside, and the allowed one", len(made), len(made) == names + 1)
        use(ledger, client, accepted)
        for kind in KINDS:
            came = sum(path.startswith(f"/{kind}") for path in Redirecting.seen)
            ledger.check(f"{kind}: requests that the allowed one got", "at least 1", came, came >= 1)
        ledger.check("connections to who listens on loopback", 0, listener.seen[:1] or 0, not listener.seen)
        judge_the_listener(ledger, listener)
    finally:
        server.shutdown()


def cron_job(client, number, url):
    return client.post("/cron", {"name": f"s-{number}", "schedule": "0 0 1 1 *", "target_url": url, "retries": 0})


def webhook(client, number, url):
    topic = must(client.post("/topics", {"name": f"s-{number}"}), 201).json["data"]["id"]
    return client.post("/subscriptions", {"topic_id": topic, "protocol": "webhook", "endpoint": url})


def route(client, number, url):
    return client.post("/routes", {"name": f"s-{number}", "prefix": f"/s-{number}", "target": url})


KINDS = {"cron": cron_job, "webhook": webhook, "gateway": route}


def use(ledger, client, accepted):
    """Whatever was accepted is used, and waited for until it is said to have failed, as all of it must: a redirect is a failure too, or is passed on."""
    for _, job in accepted["cron"]:
        must(client.post(f"/cron/{job['id']}/run"), 202)
    for _, hook in accepted["webhook"]:
        must(client.post(f"/topics/{hook['topic_id']}/publish", {"message": "x"}), 201)

    def runs():
        return [client.get(f"/cron/{job['id']}/runs").json["data"][0] for _, job in accepted["cron"]]

    def deliveries():
        return [client.get(f"/subscriptions/{hook['id']}/deliveries").json["data"][0] for _, hook in accepted["webhook"]]

    took = wait_until(lambda: all(run["status"] == "FAILED" for run in runs()), 60)
    ledger.within(f"{len(accepted['cron'])} runs have failed", took, 60)
    took = wait_until(lambda: all(delivery["attempts"] >= 1 for delivery in deliveries()), 60)
    ledger.within(f"{len(accepted['webhook'])} deliveries have failed at least once", took, 60)
    for url, made in accepted["gateway"]:
        wait_until(lambda: client.get(f"/routes/{made['id']}").json["data"]["status"] != "PENDING", 30)
        answer = client.get(made["url"][made["url"].index("/gw/"):] + "/x")
        expected = 307 if ALLOWED in url else 502
        ledger.check(f"gateway to {url}", expected, answer.status, answer.status == expected)


def judge_the_listener(ledger, listener):
    """It would have told."""
    with socket.create_connection(("127.0.0.1", listener.port)) as peer:
        peer.sendall(b"hello")
    ledger.within("the listener notices somebody who does come", wait_until(lambda: listener.seen, 10), 10)
