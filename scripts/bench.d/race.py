# Measuring: wrk against one address at a time, round by round, so that ratios are of neighbours in time.
import re
import statistics
import subprocess
import sys

MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60000.0}


class Runner:
    """One address under load."""

    # A file for wrk -s.
    script = None

    def __init__(self, name, url, key=None):
        self.name, self.url, self.key = name, url, key
        self.rates, self.slow, self.answers_other = [], [], 0

    def run(self, connections, seconds, folder):
        command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--latency"]
        if self.key:
            command += ["-H", f"X-API-Key: {self.key}"]
        if self.script:
            command += ["-s", self.script]
        done = subprocess.run([*command, self.url], capture_output=True, text=True)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
        if not rate:
            sys.exit(f"error: wrk says nothing about {self.name}: {done.stdout}{done.stderr}")
        slow = re.search(r"99%\s+([\d.]+)(us|ms|s|m)", done.stdout)
        other = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
        errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", done.stdout)
        total = int(re.search(r"(\d+) requests in", done.stdout)[1])
        self.rates.append(float(rate[1]))
        self.slow.append(float(slow[1]) * MILLISECONDS[slow[2]])
        bad = int(other[1]) if other else 0
        self.answers_other += (total - bad if self.wants_refusal else bad) + sum(map(int, errors.groups()) if errors else [])

    wants_refusal = False

    @property
    def rate(self):
        return statistics.median(self.rates)

    @property
    def p99(self):
        return statistics.median(self.slow)


class Refused(Runner):
    """Each answer must be an error."""

    wants_refusal = True


def race(title, runners, rounds, seconds, connections, folder):
    """Runs them in turn and prints a table; the first is ours. Returns ours/theirs by name, the medians over rounds: of rates, and of p99s."""
    for _ in range(rounds):
        for runner in runners:
            runner.run(connections, seconds, folder)
    ours, ratios, slow = runners[0], {}, {}
    print(f"\n{title} ({rounds} rounds of {seconds} s, {connections} connections; medians)")
    print(f"  {'':34}{'req/s':>9}{'p99 ms':>9}{'ours/it':>9}")
    for runner in runners:
        ratio = ratios[runner.name] = statistics.median(a / b for a, b in zip(ours.rates, runner.rates))
        slow[runner.name] = statistics.median(a / b for a, b in zip(ours.slow, runner.slow))
        note = f"   {runner.answers_other} answers were not as they should be" if runner.answers_other else ""
        print(f"  {runner.name:34}{runner.rate:9.0f}{runner.p99:9.2f}{ratio:9.2f}{note}", flush=True)
    return ratios, slow
