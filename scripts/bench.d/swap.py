# Starting: from the master's first moment to the first answer. And replacing: the list's p99 over the two seconds in which SIGHUP replaces all
# children, beside that of two quiet ones.
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from lists import ours
from stack import Client, wait_until

SECONDS = 2


def began_at(process):
    """When a process began, in seconds since the machine did; to 10 ms."""
    return int(open(f"/proc/{process}/stat").read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


def start(stack):
    """Milliseconds."""
    stack.lib("stop_program worker TERM 60")
    stack.start("worker")
    client = Client(stack.port, timeout=5)
    wait_until(lambda: client.get("/health/live").status == 200, 30, pause=0.002)
    took = time.clock_gettime(time.CLOCK_BOOTTIME) - began_at(stack.pid("worker"))
    client.close()
    if wait_until(stack.is_ready, 30) is None:
        raise RuntimeError("the workers do not become ready")
    return took * 1000


def swap(bench, runner):
    """The list under load while all children are replaced."""
    with ThreadPoolExecutor(1) as beside:
        are_replaced = beside.submit(lambda: time.sleep(0.3) or bench.stack.replace_children())
        runner.run(bench.chosen.connections, SECONDS, bench.stack.folder)
    if wait_until(are_replaced.result(), 60) is None:
        raise RuntimeError("the workers were not replaced within 60 s")


def measure(bench):
    starts = [start(bench.stack) for _ in range(5)]
    quiet, meanwhile = ours(bench), ours(bench)
    for _ in range(5):
        quiet.run(bench.chosen.connections, SECONDS, bench.stack.folder)
        swap(bench, meanwhile)
    ratio = statistics.median(b / a for a, b in zip(quiet.slow, meanwhile.slow))
    print(f"\nstarting and replacing (5 times each; medians)")
    print(f"  the first answer comes {statistics.median(starts):.0f} ms after the master's start ({min(starts):.0f} to {max(starts):.0f})")
    print(f"  the list, quiet                   {quiet.rate:9.0f}{quiet.p99:9.2f} ms at 99 %")
    print(f"  the list during SIGHUP            {meanwhile.rate:9.0f}{meanwhile.p99:9.2f} ms at 99 %{ratio:9.2f}", flush=True)
    if meanwhile.answers_other:
        print(f"  FAIL {meanwhile.answers_other} answers were not as they should be")
        ratio = float("inf")
    bench.findings.add("start", statistics.median(starts))
    bench.findings.add("swap p99", ratio)
