# a and b: children of the worker that die, and children that are replaced, under load.
import os
import random
import signal
import time

from load import Load, await_all_children
from stack import wait_until


def pools_of(stack):
    present = list(stack.children().values())
    return {pool: present.count(pool) for pool in set(present)}


def killing(ledger, world):
    stack, seconds = world.main, world.seconds
    ledger.begin("a", f"16 connections read and write for {seconds} s while a random child of the worker is killed every second")
    master, pools = stack.pid("worker"), pools_of(stack)
    killed = {}
    with Load(stack, world.account("a")) as load:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(1)
            children = stack.children()
            if children:
                child = random.choice(sorted(children))
                os.kill(child, signal.SIGKILL)
                killed[children[child]] = killed.get(children[child], 0) + 1
    load.settle(ledger)
    limit = len(load.threads) * killed.get("api", 0)
    ledger.check(
        f"{sum(killed.values())} kills, {killed.get('api', 0)} of them of the pool under load; failed requests",
        f"at most those on its connections, {len(load.threads)} a kill: {limit}", len(load.failures), len(load.failures) <= limit)
    load.judge_failures(ledger, "during kills")
    ledger.within("all children are back", await_all_children(stack, pools), 10)
    ledger.check("the master", f"still process {master}", stack.pid("worker"), stack.pid("worker") == master and os.path.exists(f"/proc/{master}"))


def replacing(ledger, world):
    stack = world.main
    ledger.begin("b", "SIGHUP to the worker's master, twice, under the same load")
    with Load(stack, world.account("b")) as load:
        time.sleep(2)
        for round in ("first", "second"):
            ledger.within(f"the {round} SIGHUP: all {len(stack.children())} children are others", wait_until(stack.replace_children(), 90), 60)
            time.sleep(2)
    load.settle(ledger)
    seen = f"{len(load.failures)} of {load.answers}"
    if load.failures:
        seen += f", such as {load.failures[0].status} {load.failures[0].text[:160]}"
    ledger.check("failed requests", "0", seen, not load.failures)
