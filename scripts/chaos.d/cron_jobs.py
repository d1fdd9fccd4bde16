# l: four thecloud-cron that are killed at random while cron jobs come due: each due time becomes one run, each run is sent, none stays open.
import http.server
import os
import random
import signal
import threading
import time

from stack import free_port, must, wait_until

JOBS = 40


class Target(http.server.BaseHTTPRequestHandler):
    """Counts what it is asked, by run."""

    protocol_version = "HTTP/1.1"
    seen, lock = {}, threading.Lock()

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        time.sleep(random.uniform(0, 0.2))
        with self.lock:
            self.seen[self.headers["x-cloud-cron-run"]] = self.seen.get(self.headers["x-cloud-cron-run"], 0) + 1
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True

    def handle_error(self, *_):
        """Whoever asked was killed."""


def dying(ledger, world):
    stack, seconds = world.main, max(world.seconds, 10)
    ledger.begin("l", f"{JOBS} cron jobs come due each second for {seconds} s; one of four thecloud-cron is killed every second")
    account = world.account("k")
    client = stack.client(account.key)
    port = free_port()
    server = Server(("127.0.0.1", port), Target)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Target.seen = {}
    for number in range(JOBS):
        overlap = "forbid" if number % 4 == 0 else "allow"
        must(client.post("/cron", {"name": f"k-{number}", "schedule": "0 0 1 1 *", "target_url": f"http://127.0.0.1:{port}/", "overlap": overlap}), 201)
    names = ["cron", "cron-2", "cron-3", "cron-4"]
    for name in names[1:]:
        stack.start(name, "cron")
    try:
        work(ledger, stack, account, names, seconds)
    finally:
        for name in names[1:]:
            stack.lib(f"stop_program {name} KILL 5", check=False)
        server.shutdown()
        stack.sql(f"delete from cron_jobs where owner_id = '{account.id}'")


def work(ledger, stack, account, names, seconds):
    due, kills, end = set(), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        # Only where the one before was taken up: a due time must not be replaced before anybody has seen it.
        rows = stack.sql(
            f"""
            update cron_jobs set next_run_at = clock_timestamp() where owner_id = '{account.id}' and next_run_at > now() + interval '1 hour'
            returning id, next_run_at; notify cron;
            """)
        due |= {(job, at) for job, at in rows}
        time.sleep(random.uniform(0.05, 0.5))
        name = random.choice(names)
        os.kill(stack.pid(name), signal.SIGKILL)
        kills += 1
        time.sleep(random.uniform(0.05, 0.5))
        stack.start(name, "cron")
    took = wait_until(
        lambda: stack.value(f"select count(*) from cron_jobs where owner_id = '{account.id}' and next_run_at <= now() + interval '1 hour'") == "0"
        and stack.value(f"select count(*) from cron_runs where owner_id = '{account.id}' and finished_at is null") == "0", 90, 0.5)
    ledger.within(f"{kills} kills over {len(due)} due times; all runs are finished", took, 60)
    runs = stack.sql(f"select cron_id, due_at, status, id from cron_runs where owner_id = '{account.id}'")
    made = [(job, at) for job, at, _, _ in runs]
    ledger.check("due times that became a run, once", len(due), f"{len(set(made) & due)} of {len(made)} runs", set(made) == due and len(made) == len(due))
    succeeded = {run for _, _, status, run in runs if status == "SUCCEEDED"}
    odd = [status for _, _, status, _ in runs if status not in ("SUCCEEDED", "SKIPPED")]
    ledger.check("runs", "succeeded, or skipped beside one that was not finished", f"{len(succeeded)} and {len(runs) - len(succeeded)}", not odd)
    unsent = succeeded - set(Target.seen)
    ledger.check("runs that succeeded without having been sent", "none", len(unsent), not unsent)
    stray = set(Target.seen) - {run for _, _, _, run in runs}
    ledger.check("requests for runs that are not there", "none", len(stray), not stray)
    again = sum(count - 1 for count in Target.seen.values())
    ledger.check("requests that came once more after a kill", f"at most what {kills} kills had at hand", again, again <= kills * JOBS)
    for name in names[1:]:
        os.kill(stack.pid(name), signal.SIGTERM)
    gone = wait_until(lambda: not any(os.path.exists(f"/proc/{stack.pid(name)}") for name in names[1:]), 30)
    ledger.within("the three further ones stop when asked", gone, 20)
