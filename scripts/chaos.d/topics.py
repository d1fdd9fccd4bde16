# o: topics under four thecloud-cron that are killed at random: what is published reaches every living subscriber, signed, under one id for all
# retries, and nothing is sent again once its 2xx is recorded. The receivers here check signatures by the standard's text, not by our code.
import base64
import hashlib
import hmac
import http.server
import json
import os
import random
import signal
import threading
import time

from cron_jobs import Server
from stack import free_port, must, wait_until

PUBLISHERS, PERIOD = 2, 0.2
LIVING = ("fine", "other", "flaky", "slow")
# So many messages are taken before the receiver is gone.
BEFORE_GONE = 20
# Of one owner, in one process: half of the lane.
AT_ONCE = 4


class Receivers(http.server.BaseHTTPRequestHandler):
    """One path for each receiver; keeps what came, when, and what it was answered."""

    protocol_version = "HTTP/1.1"
    lock, secrets, log, forged, is_flaky = threading.Lock(), {}, {}, [], True

    def do_POST(self):
        came, name = time.time(), self.path.strip("/")
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if why := self.fault(name, body):
            with self.lock:
                self.forged.append(f"{name}: {why}")
        status = self.judge(name)
        with self.lock:
            self.log.setdefault((name, json.loads(body)["id"]), []).append((came, status, self.headers["webhook-id"]))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def judge(self, name):
        if name == "slow":
            time.sleep(random.uniform(0.2, 0.8))
        if name == "flaky" and self.is_flaky and random.random() < 0.4:
            return 500
        if name == "gone":
            with self.lock:
                return 200 if sum(who == name for who, _ in self.log) < BEFORE_GONE else 410
        return 200

    def fault(self, name, body):
        """Why a receiver that keeps to Standard Webhooks 1.0 would not believe this; None when it would."""
        number, moment, signatures = (self.headers.get(f"webhook-{n}") or "" for n in ("id", "timestamp", "signature"))
        if not moment.isdigit() or abs(time.time() - int(moment)) > 300:
            return f"webhook-timestamp is {moment!r}"
        key = base64.b64decode(self.secrets[name].removeprefix("whsec_"), validate=True)
        mac = base64.b64encode(hmac.digest(key, f"{number}.{moment}.".encode() + body, hashlib.sha256)).decode()
        if not any(hmac.compare_digest(signature, f"v1,{mac}") for signature in signatures.split()):
            return f"webhook-signature is {signatures!r}"
        return None

    def log_message(self, *_):
        pass


class Publisher(threading.Thread):
    def __init__(self, stack, account, topic, seconds):
        super().__init__(daemon=True)
        self.client, self.path, self.seconds = stack.client(account.key), f"/topics/{topic}/publish", seconds
        self.published, self.broken = [], None

    def run(self):
        end = time.monotonic() + self.seconds
        try:
            while time.monotonic() < end:
                answer = must(self.client.post(self.path, {"message": {"order": len(self.published)}}), 201)
                self.published.append(answer.json["data"]["message_id"])
                time.sleep(PERIOD)
        except Exception as error:
            self.broken = repr(error)


def publishing(ledger, world):
    stack, seconds = world.main, max(world.seconds, 10)
    ledger.begin("o", f"{1 / PERIOD * PUBLISHERS:.0f} messages a second for {seconds} s to five webhooks and a queue; one of four thecloud-cron is killed every second")
    account, port = world.account("o"), free_port()
    client = stack.client(account.key)
    server = Server(("127.0.0.1", port), Receivers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    topic = must(client.post("/topics", {"name": "orders"}), 201).json["data"]["id"]
    queue = must(client.post("/queues", {"name": "orders"}), 201).json["data"]["id"]
    must(client.post("/subscriptions", {"topic_id": topic, "protocol": "queue", "endpoint": queue}), 201)
    hooks = {}
    for name in (*LIVING, "gone"):
        made = must(client.post("/subscriptions", {"topic_id": topic, "protocol": "webhook", "endpoint": f"http://127.0.0.1:{port}/{name}"}), 201)
        hooks[name], Receivers.secrets[name] = made.json["data"]["id"], made.json["data"]["secret"]
    names = ["cron", "cron-2", "cron-3", "cron-4"]
    for name in names[1:]:
        stack.start(name, "cron")
    try:
        publishers = [Publisher(stack, account, topic, seconds) for _ in range(PUBLISHERS)]
        for publisher in publishers:
            publisher.start()
        kills = kill(stack, names, publishers)
        broken = [publisher.broken for publisher in publishers if publisher.broken]
        ledger.check("publishers who were refused", "none", broken[:1] or 0, not broken)
        judge(ledger, stack, account, [m for publisher in publishers for m in publisher.published], queue, hooks, kills)
    finally:
        for name in names[1:]:
            stack.lib(f"stop_program {name} KILL 5", check=False)
        server.shutdown()


def kill(stack, names, publishers):
    kills = 0
    while any(publisher.is_alive() for publisher in publishers):
        time.sleep(random.uniform(0.1, 1))
        name = random.choice(names)
        os.kill(stack.pid(name), signal.SIGKILL)
        kills += 1
        time.sleep(random.uniform(0.1, 1))
        stack.start(name, "cron")
    return kills


def settle(stack, account):
    """Seconds until nothing is pending, with the pauses of the schedule (minutes and hours) cut short."""
    Receivers.is_flaky = False

    def is_settled():
        left = stack.value(
            f"""
            update subscription_deliveries set next_attempt_at = now() where owner_id = '{account.id}' and next_attempt_at > now();
            update jobs set run_at = now() where kind = 'subscription_delivery' and run_at > now() and lease is null and dead_at is null;
            select count(*) from subscription_deliveries where owner_id = '{account.id}' and status = 'PENDING';
            """)
        return left == "0"

    return wait_until(is_settled, 120, 1)


def judge(ledger, stack, account, published, queue, hooks, kills):
    ledger.within(f"{kills} kills over {len(published)} messages; nothing is pending any more", settle(stack, account), 90)
    log = Receivers.log
    taken = {name: {m for (who, m), seen in log.items() if who == name and any(status == 200 for _, status, _ in seen)} for name in hooks}
    lost = {name: len(set(published) - taken[name]) for name in LIVING}
    ledger.check("messages that a living webhook never took", "none", lost, not any(lost.values()))
    queued = sorted(json.loads(body)["id"] for body, in stack.sql(f"select body from queue_messages where queue_id = '{queue}'"))
    ledger.check("messages in the queue", f"{len(published)}, each once", len(queued), queued == sorted(published))
    ledger.check("requests that a verifier of Standard Webhooks 1.0 refuses", 0, Receivers.forged[:1] or 0, not Receivers.forged)

    rows = stack.sql(
        f"""
        select subscription_id, message_id, id, status, extract(epoch from finished_at) from subscription_deliveries where owner_id = '{account.id}'
        """)
    names = {number: name for name, number in hooks.items()}
    recorded = {(names[s], m): (number, status, float(at)) for s, m, number, status, at in rows if s in names}
    strange = [key for key, seen in log.items() if key not in recorded or {number for _, _, number in seen} != {recorded[key][0]}]
    ledger.check("messages whose webhook-id is not the delivery's at every attempt", 0, len(strange), not strange)
    undone = [key for key, (_, status, _) in recorded.items() if key[0] in LIVING and status != "DELIVERED"]
    ledger.check("deliveries to living webhooks", "all recorded as delivered", f"all but {len(undone)}", not undone)
    late = [key for key, (_, status, at) in recorded.items() if status == "DELIVERED" and any(came > at for came, _, _ in log.get(key, []))]
    ledger.check("requests that came after their 2xx was recorded", 0, len(late), not late)
    again = sum(max(sum(status == 200 for _, status, _ in seen) - 1, 0) for seen in log.values())
    ledger.check("messages taken once more because a kill came before the record", f"at most what {kills} kills had at hand", again, again <= kills * AT_ONCE)
    retried = sum(len(seen) > 1 for (name, _), seen in log.items() if name == "flaky")
    ledger.check("messages that the flaky one got more than once", "many", retried, retried > len(published) // 10)

    active, reason, at = stack.sql(
        f"select is_active, disabled_reason, extract(epoch from updated_at) from subscriptions where id = '{hooks['gone']}'")[0]
    ledger.check("the one that answered 410", "not active any more", f"{active}, {reason}", active == "f" and "410" in reason)
    after = sum(came > float(at) + 2 for (name, _), seen in log.items() if name == "gone" for came, _, _ in seen)
    ledger.check("requests to it 2 s later", 0, after, not after)
