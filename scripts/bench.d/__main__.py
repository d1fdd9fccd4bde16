# The order of things: the stack, the peers, the races run by run, a million rows, the verdict.
import argparse
import sys
import time

import creates
import cron
import flood
import functions
import growth
import launch
import lists
import live
import memory
import queues
import swap
from bars import Findings
from peers import KINDS, Peers
from stack import Account, Stack, end_orderly, wait_until

# In this order; all of it so many times as --runs says.
PARTS = {
    "list": lists.race_lists, "empty": lists.race_empty, "create": creates.measure, "queues": queues.measure, "flood": flood.measure,
    "swap": swap.measure, "live": live.measure, "launch": launch.measure, "functions": functions.measure, "tick": cron.tick,
    "cron": cron.race_the_clock, "memory": memory.measure,
}
# Fills the tables, so it comes last and has its runs within: all before they are full, then all with full ones.
GROWTH = "growth"


def options():
    parts = ",".join([*PARTS, GROWTH])
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="What a stack is worth beside hand-written peers on the same PostgreSQL, as ratios in one run, each beside its bar.")
    parser.add_argument("--runs", type=int, default=3, help="how often each part is measured: the median of the runs is judged (3)")
    parser.add_argument("--rounds", type=int, default=3, help="how often in a run all rivals are measured in turn (3)")
    parser.add_argument("--seconds", type=int, default=4, help="how long each time (4)")
    parser.add_argument("--connections", type=int, default=16, help="how many clients at once (16)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="how many rows growth goes up to (1000000)")
    parser.add_argument("--only", default=parts, help=parts)
    parser.add_argument("--peers", default=",".join(KINDS), help=f"{','.join(KINDS)}; those of the chosen parts are always there")
    chosen = parser.parse_args()
    chosen.only, chosen.peers = chosen.only.split(","), chosen.peers.split(",")
    for name in chosen.only:
        if name not in PARTS and name != GROWTH:
            parser.error(f"there is nothing called {name}")
    for name in chosen.peers:
        if name not in KINDS:
            parser.error(f"there is no peer {name}")
    if min(chosen.runs, chosen.rounds, chosen.seconds, chosen.connections) < 1 or chosen.rows < 2 * growth.SMALL:
        parser.error(f"numbers must be positive, and --rows at least {2 * growth.SMALL}")
    return chosen


class Bench:
    """What every part works with."""

    def __init__(self, stack, chosen):
        self.stack, self.chosen, self.findings = stack, chosen, Findings()
        self.account, self.many = Account(stack, "bench@example.org"), Account(stack, "many@example.org")
        stack.sql(
            f"""
            insert into instances (id, owner_id, name, image, instance_type, cpus, memory_mb, ports, desired, status)
            select new_id(), '{self.account.id}', 'web-' || n, 'nginx:latest', 'small', 1, 512, '8080:80', 'STOPPED', 'STOPPED' from generate_series(1, 10) n
            """)
        growth.fill(stack, 1, growth.SMALL // 10)
        self.queue = queues.make(stack, self.account)
        self.creates = creates.Creates(stack)
        self.url = f"http://127.0.0.1:{stack.port}"
        self.measure = (chosen.rounds, chosen.seconds, chosen.connections, stack.folder)

    def settle(self):
        """Waits until nothing is left of what was done before: vacuums, checkpoints, hashes that nobody waits for any more."""
        self.stack.sql("checkpoint")
        if wait_until(lambda: idle_part(1) > 0.9, 120, pause=0) is None:
            print("==> this machine is not quiet: what is measured now says little", flush=True)


def idle_part(seconds):
    """How much of the processors' time nobody used."""
    def times():
        numbers = [int(number) for number in open("/proc/stat").readline().split()[1:9]]
        return numbers[3] + numbers[4], sum(numbers)

    before = times()
    time.sleep(seconds)
    idle, total = (after - then for after, then in zip(times(), before))
    return idle / total


def main():
    chosen = options()
    end_orderly()
    with Stack("bench", THECLOUD_QUOTA_INSTANCES="1000000", THECLOUD_QUOTA_MEMORY_MB="1000000000") as stack:
        bench = Bench(stack, chosen)
        with Peers(stack, chosen.peers, bench.queue) as bench.peers:
            for needed in ("c", "same", "empty"):
                if needed not in bench.peers.ready:
                    sys.exit(f"error: without the peer {needed} there is nothing to compare with")
            parts = {name: measure for name, measure in PARTS.items() if name in chosen.only}
            for run in range(chosen.runs if parts else 0):
                print(f"\n=== run {run + 1} of {chosen.runs}", flush=True)
                for measure in parts.values():
                    bench.settle()
                    measure(bench)
            if GROWTH in chosen.only:
                print(f"\n=== {GROWTH}", flush=True)
                bench.settle()
                growth.measure(bench)
        holds = bench.findings.verdict()
    sys.exit(0 if holds else 1)


main()
