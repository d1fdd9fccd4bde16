# i and j: guesses at a password in parallel, and keys that end.
import datetime
import json
import os
import threading
import time

from stack import must

PARALLEL = 16
# Of 64 requests, until all children had some.
ROUNDS = 50


def at_once(stack, count, request):
    """Answers of `count` requests over PARALLEL connections that are open already and start together."""
    answers, lock, gate = [], threading.Lock(), threading.Barrier(min(PARALLEL, count) if count < 100 else count)
    each = count // gate.parties

    def work():
        client = stack.client()
        client.get("/health/live")
        gate.wait(60)
        for _ in range(each):
            answer = request(client)
            with lock:
                answers.append(answer)
        client.close()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(gate.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return answers


def tally(answers):
    counts = {}
    for answer in answers:
        code = (answer.json or {}).get("error_code") or (answer.json or {}).get("status", "") if answer.status != 200 else ""
        counts[f"{answer.status} {code}".strip()] = counts.get(f"{answer.status} {code}".strip(), 0) + 1
    return ", ".join(f"{count} × {what}" for what, count in sorted(counts.items()))


def guessing(ledger, world):
    stack = world.main
    account = world.account("i")
    ledger.begin("i", "100 wrong passwords for one account at the same time, through nginx")
    wrong = {"email": account.email, "password": "not this one"}
    answers = at_once(stack, 100, lambda client: client.post("/auth/login", wrong))
    ledger.check("answers", "100 × 401", tally(answers), len(answers) == 100 and all(a.status == 401 and a.is_our_error for a in answers))
    failures, locked = stack.sql(f"select failures, locked_until > now() + interval '14 minutes' from login_attempts where subject = '{account.id}'")[0]
    ledger.check("passwords that were checked (login_attempts.failures); locked for 15 minutes", "at most 5; yes", f"{failures}; {'yes' if locked == 't' else 'no'}", int(failures) <= 5 and locked == "t")
    client = stack.client()
    right = client.post("/auth/login", {"email": account.email.upper(), "password": account.password})
    first = answers[0]
    same = right.status == 401 and all(right.json.get(name) == first.json.get(name) for name in ("error", "message", "error_code", "code"))
    ledger.check("the right password now", "refused exactly as a wrong one", f"{right.status} {right.json.get('error_code')}", same)
    key = client.get("/auth/me", key=account.key)
    ledger.check("a key that was there before", "works", key.status, key.status == 200)
    unknown = [at_once(stack, 100, lambda client: client.post("/auth/login", {"email": f"nobody.{account.email}", "password": "not this one"}))]
    ledger.check("the same for an address without an account", "100 × 401, the same body", tally(unknown[0]), all(a.status == 401 and a.json.get("message") == first.json.get("message") for a in unknown[0]))


def worked(stack):
    """How often the threads of each child of the api pool have waited so far."""
    counts = {}
    for child in stack.children("api"):
        total = 0
        for task in os.listdir(f"/proc/{child}/task"):
            for line in open(f"/proc/{child}/task/{task}/status"):
                if line.startswith("voluntary_ctxt_switches"):
                    total += int(line.split()[1])
        counts[child] = total
    return counts


def ending(ledger, world):
    stack = world.main
    account = world.account("j")
    owner = stack.client(account.key)
    ledger.begin("j", "keys that are revoked, rotated or expire: 64 requests over 16 connections right before and right after")

    def make(**more):
        made = must(owner.post("/auth/keys", {"name": "ends", **more}), 201).json
        return made["id"], made["key"]

    def use(key):
        return at_once(stack, 64, lambda client: client.get("/instances", key=key))

    def refused(what, key, code):
        """By every child: requests go on until each of them has answered some."""
        before, answers, busy = worked(stack), [], set()
        for _ in range(ROUNDS):
            answers += use(key)
            after = worked(stack)
            busy |= {child for child, count in before.items() if after.get(child, 0) > count}
            if len(busy) == len(before):
                break
        holds = all(a.status == 401 and a.is_our_error and (a.json["error_code"] == code) for a in answers)
        ledger.check(
            f"{what}; children that answered", f"64 × 401 {code} or more; all {len(before)}", f"{tally(answers)}; {len(busy)}",
            holds and len(answers) % 64 == 0 and len(busy) == len(before))

    def accepted(what, key):
        answers = use(key)
        ledger.check(what, "64 × 200", tally(answers), len(answers) == 64 and all(a.status == 200 for a in answers))

    identity, key = make()
    accepted("a new key", key)
    must(owner.delete(f"/auth/keys/{identity}"), 200)
    refused("revoked", key, "INVALID_CREDENTIALS")

    identity, key = make()
    accepted("another", key)
    newer = must(owner.post(f"/auth/keys/{identity}/rotate"), 200).json["key"]
    refused("rotated: the old key", key, "INVALID_CREDENTIALS")
    accepted("rotated: the new key", newer)

    identity, key = make()
    must(owner.post(f"/auth/keys/{identity}/rotate", {"grace_seconds": 3}), 200)
    until = time.monotonic() + 3
    accepted("rotated with 3 s of grace: the old key within them", key)
    time.sleep(max(0, until - time.monotonic()) + 0.1)
    refused("rotated with 3 s of grace: the old key after them", key, "KEY_EXPIRED")

    ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=3)
    identity, key = make(expires_at=ends.strftime("%Y-%m-%dT%H:%M:%SZ"))
    accepted("a key that ends within 3 s, before", key)
    time.sleep(max(0, (ends - datetime.datetime.now(datetime.timezone.utc)).total_seconds()) + 0.1)
    refused("expired", key, "KEY_EXPIRED")
