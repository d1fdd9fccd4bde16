# The memory of new children that serve, after a hundred thousand requests and a million later: lists, reads, refusals and creates in turn.
import re

from lists import ours
from race import Refused, Runner
from stack import wait_until

FIRST, FURTHER = 100_000, 1_000_000


def resident_mb(process):
    return int(re.search(r"VmRSS:\s+(\d+) kB", open(f"/proc/{process}/status").read())[1]) / 1024


def ask(bench, count):
    """At least so many requests."""
    connections, folder = bench.chosen.connections, bench.stack.folder
    one = bench.stack.value(f"select id from instances where owner_id = '{bench.account.id}' limit 1")
    kinds = [
        lambda: ours(bench), lambda: Runner("get", f"{bench.url}/instances/{one}", bench.account.key),
        lambda: Refused("refused", f"{bench.url}/instances", "thecloud_" + "0" * 33),
        lambda: bench.creates.runner("create", f"{bench.url}/instances", "/instances")]
    done = turn = 0
    while done < count:
        runner = kinds[turn % len(kinds)]()
        runner.run(connections, bench.chosen.seconds, folder)
        done += round(runner.rate * bench.chosen.seconds)
        turn += 1


def measure(bench):
    print(f"\n==> the memory of children after {FIRST} requests and {FURTHER} more", flush=True)
    if wait_until(bench.stack.replace_children(), 60) is None:
        raise RuntimeError("the workers were not replaced within 60 s")
    with bench.stack.without("cron"):
        ask(bench, FIRST)
        children = bench.stack.children("api")
        before = max(map(resident_mb, children))
        ask(bench, FURTHER)
        after = max(map(resident_mb, children))
    print(f"  the largest has {before:.1f} MB, then {after:.1f} MB")
    bench.findings.add("memory", before)
    bench.findings.add("memory growth", after / before)
