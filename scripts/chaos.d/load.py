# The load: connections that read the instances and make keys. A write that was not acknowledged is repeated with its Idempotency-Key
# until it is, so in the end each exists exactly once.
import itertools
import threading
import time

from stack import wait_until


class Load:
    """Use as a context: runs while it is open, and has finished its repetitions when it is left."""

    def __init__(self, stack, account, connections=16):
        self.stack, self.account = stack, account
        self.numbers = itertools.count(1)
        self.run = f"{time.monotonic_ns():x}"
        self.acknowledged = {}
        self.repeated = []
        self.failures = []
        self.answers = 0
        self.slowest = 0.0
        self.unresolved = []
        self.broken = []
        self.lock = threading.Lock()
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(number,), daemon=True) for number in range(connections)]

    def __enter__(self):
        self.started = time.monotonic()
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for thread in self.threads:
            thread.join(120)
        self.seconds = time.monotonic() - self.started

    @property
    def hanging(self):
        return sum(thread.is_alive() for thread in self.threads)

    def work(self, number):
        try:
            client = self.stack.client(self.account.key)
            for step in itertools.count(number):
                if self.is_over.is_set():
                    return
                if step % 3:
                    self.note(client.get("/instances"), 200)
                else:
                    self.write(client)
        except Exception as error:  # A bug of this script must not look like a success.
            self.broken.append(repr(error))

    def write(self, client):
        name = f"load {self.run} {next(self.numbers)}"
        answer = None
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            is_repetition = answer is not None
            answer = client.post("/auth/keys", {"name": name}, headers={"Idempotency-Key": name})
            # 409: the first try still runs.
            if not (is_repetition and answer.status == 409):
                self.note(answer, 201)
            if answer.status == 201:
                with self.lock:
                    self.acknowledged[name] = answer.json["id"]
                    if is_repetition:
                        self.repeated.append(name)
                return
            time.sleep(0.05)
        with self.lock:
            self.unresolved.append(name)

    def note(self, answer, status):
        with self.lock:
            self.answers += 1
            self.slowest = max(self.slowest, answer.seconds)
            if answer.status != status:
                answer.at = time.monotonic()
                self.failures.append(answer)

    # What is checked after every trial under load.
    def settle(self, ledger):
        rows = self.stack.sql(f"select name, id from api_keys where name like 'load {self.run} %'")
        stored = {}
        for name, key in rows:
            stored.setdefault(name, []).append(key)
        lost = [name for name, key in self.acknowledged.items() if key not in stored.get(name, [])]
        ledger.check(
            f"{self.answers} answers in {self.seconds:.0f} s; acknowledged writes that are in the database", f"all {len(self.acknowledged)}",
            len(self.acknowledged) - len(lost), not lost and self.acknowledged)
        twice = [name for name, keys in stored.items() if len(keys) > 1]
        ledger.check(
            f"{len(self.repeated)} writes repeated with their Idempotency-Key", "each exists once, none open",
            f"{len(twice)} twice, {len(self.unresolved)} open", not twice and not self.unresolved)
        ledger.check(
            "slowest answer; hanging connections", "below 15 s; 0", f"{self.slowest:.2f} s; {self.hanging}",
            self.slowest < 15 and not self.hanging)
        if self.broken:
            ledger.check("this script", "no error of its own", self.broken[0], False)

    def judge_failures(self, ledger, what):
        """Every failure must be a 503 with Retry-After in the one error body."""
        bad = [f for f in self.failures if f.status != 503 or not f.is_our_error or not f.headers.get("retry-after", "").isdigit()]
        ledger.check(
            f"{len(self.failures)} failures {what}", "each a 503 with Retry-After and our error body",
            "so" if not bad else f"{len(bad)} others, such as {bad[0].status} {bad[0].text[:160]}", not bad)


def await_all_children(stack, pools, seconds=60):
    """Until every pool has its children again. pools: how many each."""
    def whole():
        present = list(stack.children().values())
        return all(present.count(pool) == count for pool, count in pools.items())

    return wait_until(whole, seconds)
