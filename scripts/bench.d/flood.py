# What a flood of logins does to everybody else: the list's p99 beside its quiet one, and the memory of the child that hashes.
import os
import re
import statistics
import subprocess

from lists import ours

CLIENTS = 64
HASH_MB = 128   # THECLOUD_SCRYPT's default: 128 × r × 2^ln bytes
CHILD_MB = 40   # the same child without hashes

SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local turn = 0
function request()
    turn = turn + 1
    return wrk.format(nil, nil, nil, string.format('{"email":"nobody%d@example.org","password":"not this one"}', turn))
end
"""


def peak_mb(process):
    return int(re.search(r"VmHWM:\s+(\d+) kB", open(f"/proc/{process}/status").read())[1]) / 1024


def measure(bench):
    stack, (rounds, seconds, connections, folder) = bench.stack, bench.measure
    quiet, flooded = ours(bench), ours(bench)
    script = os.path.join(folder, "flood.lua")
    with open(script, "w") as out:
        out.write(SCRIPT)
    logins = 0
    for _ in range(rounds):
        quiet.run(connections, seconds, folder)
        flood = subprocess.Popen(
            ["wrk", "-t", "1", "-c", str(CLIENTS), "-d", f"{seconds + 2}s", "--timeout", "60s", "-s", script, f"{bench.url}/auth/login"],
            stdout=subprocess.PIPE, text=True)
        flooded.run(connections, seconds, folder)
        logins += int(re.search(r"(\d+) requests in", flood.communicate()[0])[1])
        bench.settle()
    process = stack.children("auth")[0]
    threads = os.cpu_count()
    peak, ratio = peak_mb(process), statistics.median(b / a for a, b in zip(quiet.slow, flooded.slow))
    print(f"\na flood of logins by {CLIENTS} clients ({rounds} rounds of {seconds} s; medians)")
    print(f"  the list, quiet                   {quiet.rate:9.0f}{quiet.p99:9.2f} ms at 99 %")
    print(f"  the list meanwhile                {flooded.rate:9.0f}{flooded.p99:9.2f} ms at 99 %{ratio:9.2f}")
    print(f"  {logins} logins refused; the hashing child of {threads} threads had {peak:.0f} MB at most", flush=True)
    if bad := quiet.answers_other + flooded.answers_other:
        print(f"  {bad} answers were not as they should be")
    bench.findings.add("flood p99", ratio)
    bench.findings.add("flood memory", peak / (threads * HASH_MB + CHILD_MB))
