# c: PostgreSQL goes away and comes back under load.
import os
import time

from load import Load
from stack import must, wait_until


def restarting(ledger, world):
    stack = world.main
    account = world.account("c")
    ledger.begin("c", "PostgreSQL is restarted (fast, then as after a crash) under the same load")
    before = (stack.pid("worker"), stack.pid("cron"), sorted(stack.children()))
    for mode, how in (("fast", "asked to stop"), ("immediate", "torn down")):
        with Load(stack, account) as load:
            time.sleep(3)
            gone = time.monotonic()
            stack.lib(f'postgres_run pg_ctl "$STATE/postgres" restart --wait --silent --mode={mode} >>"$STATE/log/postgres.log" 2>&1')
            back = time.monotonic()
            time.sleep(6)
        load.settle(ledger)
        load.judge_failures(ledger, f"while it was {how}")
        ledger.check("failures there were", "some", len(load.failures), load.failures)
        last = max((failure.at for failure in load.failures), default=back)
        ledger.within(f"last failure after it was back (it was away for {back - gone:.1f} s)", max(0.0, last - back), 5)
    after = (stack.pid("worker"), stack.pid("cron"), sorted(stack.children()))
    ledger.check("master, cron and children", "the same processes as before", "so" if before == after else f"{before} → {after}", before == after)
    ledger.check("cron", "alive", "so", os.path.exists(f"/proc/{after[1]}"))
    client = stack.client(account.key)
    made = must(client.post("/instances", world.instance("after-restart")), 201).json["data"]["id"]
    took = wait_until(lambda: client.get(f"/instances/{made}").json["data"]["status"] == "RUNNING", 30)
    ledger.within("an instance asked for afterwards runs", took, 10)
    must(client.delete(f"/instances/{made}"), 200)
