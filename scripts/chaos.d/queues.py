# m: a queue under six consumers who forget every tenth message, while children of the worker are killed at random.
# A sender repeats what was not acknowledged under the same dedup_id, a consumer what it has not heard back from: so in the end each message
# was stored once, and was either deleted by somebody or is a dead letter.
import datetime
import itertools
import os
import random
import signal
import threading
import time

from load import await_all_children
from stack import must, wait_until
from workers import pools_of

MESSAGES, CONSUMERS, SENDERS = 20_000, 6, 2
VISIBILITY, LIMIT = 6, 5


class Crowd:
    def __init__(self, stack, account, queue):
        self.stack, self.account, self.path = stack, account, f"/queues/{queue}/messages"
        self.numbers = iter(range(0, MESSAGES, 10))
        self.is_over = threading.Event()
        self.lock = threading.Lock()
        self.receives = {}
        self.failures, self.broken, self.kills = [], [], 0
        self.senders = [threading.Thread(target=self.run, args=(self.send,), daemon=True) for _ in range(SENDERS)]
        self.consumers = [threading.Thread(target=self.run, args=(self.consume,), daemon=True) for _ in range(CONSUMERS)]
        self.killer = threading.Thread(target=self.run, args=(self.kill,), daemon=True)

    def run(self, work):
        try:
            work(self.stack.client(self.account.key))
        except Exception as error:  # A bug of this script must not look like a success.
            self.broken.append(repr(error))

    def insist(self, client, method, path, body, status):
        while True:
            answer = client.request(method, path, body)
            if answer.status == status:
                return answer
            with self.lock:
                self.failures.append(answer)
            if self.is_over.is_set():
                raise RuntimeError(f"{method} {path} is never answered: {answer.status} {answer.text[:200]}")
            time.sleep(0.05)

    def send(self, client):
        while True:
            with self.lock:
                first = next(self.numbers, None)
            if first is None:
                return
            batch = [{"body": str(n), "dedup_id": str(n)} for n in range(first, first + 10)]
            self.insist(client, "POST", self.path, {"messages": batch}, 201)

    def consume(self, client):
        while not self.is_over.is_set():
            answer = client.get(f"{self.path}?count=10&wait=1")
            if answer.status != 200:
                with self.lock:
                    self.failures.append(answer)
                time.sleep(0.05)
                continue
            messages = answer.json["data"]
            with self.lock:
                for message in messages:
                    self.receives.setdefault(int(message["body"]), []).append((message["receive_count"], message["visible_until"]))
            handles = [message["receipt_handle"] for message in messages if int(message["body"]) % 10]
            if handles:
                self.insist(client, "POST", f"{self.path}/delete", {"receipt_handles": handles}, 200)

    def kill(self, _):
        while not self.is_over.is_set():
            time.sleep(random.uniform(0.5, 1.5))
            children = self.stack.children()
            if children:
                try:
                    os.kill(random.choice(sorted(children)), signal.SIGKILL)
                    self.kills += 1
                except ProcessLookupError:
                    pass


def instant(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def consuming(ledger, world):
    stack = world.main
    ledger.begin("m", f"{MESSAGES} messages, {SENDERS} senders, {CONSUMERS} consumers who forget every tenth, and children killed at random")
    account, pools = world.account("k"), pools_of(stack)
    client = stack.client(account.key)
    dead = must(client.post("/queues", {"name": "dead"}), 201).json["data"]["id"]
    queue = must(client.post("/queues", {
        "name": "tasks", "visibility_timeout": VISIBILITY, "max_receive_count": LIMIT, "dead_letter_queue_id": dead}), 201).json["data"]["id"]
    poison = set(range(0, MESSAGES, 10))

    def count(of):
        return int(stack.value(f"select count(*) from queue_messages where queue_id = '{of}'"))

    crowd = Crowd(stack, account, queue)
    for thread in [*crowd.senders, *crowd.consumers, crowd.killer]:
        thread.start()
    for thread in crowd.senders:
        thread.join(300)
    ledger.check("senders who are still sending after 5 minutes", "none", sum(t.is_alive() for t in crowd.senders), not any(t.is_alive() for t in crowd.senders))
    ledger.within("all is deleted or a dead letter", wait_until(lambda: count(queue) == 0, 300, 0.5), 300)
    crowd.is_over.set()
    for thread in [*crowd.consumers, crowd.killer]:
        thread.join(60)
    await_all_children(stack, pools)

    seen = len(crowd.receives)
    ledger.check(f"{crowd.kills} kills, {len(crowd.failures)} failed requests; messages that were received at least once", MESSAGES, seen, seen == MESSAGES)
    early = 0
    for receives in crowd.receives.values():
        times = sorted(instant(until) for _, until in receives)
        early += sum(later - VISIBILITY < before - 0.001 for before, later in itertools.pairwise(times))
    ledger.check("messages handed out while another receiver had them", 0, early, not early)
    often = max(n for receives in crowd.receives.values() for n, _ in receives)
    ledger.check("most receives of a message", f"{LIMIT}, as its queue says", often, often == LIMIT)
    stored = {int(body) for body, in stack.sql(f"select body from queue_messages where queue_id = '{dead}'")}
    ledger.check(
        "dead letters", f"the {len(poison)} that nobody acknowledged, each once", f"{count(dead)}, {len(stored ^ poison)} of them or missing wrong",
        stored == poison and count(dead) == len(poison))
    bad = [f for f in crowd.failures if f.status and (f.status != 503 or not f.is_our_error)]
    ledger.check("failures", "each a 503 in our error body", "so" if not bad else f"{len(bad)} others, such as {bad[0].status} {bad[0].text[:160]}", not bad)
    if crowd.broken:
        ledger.check("this script", "no error of its own", crowd.broken[0], False)
