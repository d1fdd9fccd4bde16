# The order of things: the stack, the peers, the races, a million rows, the verdict.
import argparse
import os
import re
import subprocess
import sys

import cron
import functions
import launch
import live
import plans
import queues
from peers import KEY, KINDS, Peers
from race import Refused, Runner, race
from stack import Account, Stack, end_orderly, must

FLOOR = 0.9
SMALL = 10_000
PARTS = ("list", "create", "empty", "pgbench", "queues", "live", "plans", "cron", "launch", "functions")


def options():
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Ratios against hand-written peers on the same PostgreSQL, in one run; then plans and ratio at a million rows.")
    parser.add_argument("--rounds", type=int, default=5, help="how often all are measured in turn (5)")
    parser.add_argument("--seconds", type=int, default=4, help="how long each time (4)")
    parser.add_argument("--connections", type=int, default=16, help="how many clients at once (16)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="how many rows the plans are made for (1000000)")
    parser.add_argument("--only", default=",".join(PARTS), help=",".join(PARTS))
    parser.add_argument("--peers", default=",".join(KINDS), help="c,go,php,fastapi,empty; c is always there")
    chosen = parser.parse_args()
    chosen.only, chosen.peers = chosen.only.split(","), chosen.peers.split(",")
    for name in chosen.only:
        if name not in PARTS:
            parser.error(f"there is nothing called {name}")
    for name in chosen.peers:
        if name not in KINDS:
            parser.error(f"there is no peer {name}")
    if min(chosen.rounds, chosen.seconds, chosen.connections) < 1 or chosen.rows < 2 * SMALL:
        parser.error(f"numbers must be positive, and --rows at least {2 * SMALL}")
    chosen.peers = [name for name in KINDS if name in chosen.peers or name == "c" or name == "empty" and "empty" in chosen.only]
    return chosen


def pgbench(stack, account, chosen):
    """The list's statements with nothing around them, pipelined as the workers do: what PostgreSQL alone can do."""
    digest = stack.value(f"select encode(key_hash, 'hex') from api_keys where owner_id = '{account.id}' order by id desc limit 1")
    columns = "id, name, image, command, env_names, instance_type, ports, desired, status, status_reason, host(private_ip), created_at, updated_at"
    script = f"{stack.folder}/list.pgbench"
    with open(script, "w") as out:
        # chr(58): pgbench takes a colon for the beginning of a variable, even within quotes.
        out.write(
            f"\\startpipeline\nselect * from authenticate('\\x{digest}'::bytea, 'instance' || chr(58) || 'read', "
            "'{owner,admin,developer,user,viewer}'::text[], '{owner,admin}'::text[], '127.0.0.1'::inet);\n"
            f"select {columns} from instances where true order by id desc limit 51;\n\\endpipeline\n")
    version = open(f"{stack.state}/postgres/PG_VERSION").read().strip()
    done = subprocess.run(
        [f"/usr/lib/postgresql/{version}/bin/pgbench", "-n", "-M", "prepared", "-c", str(chosen.connections), "-j", "2", "-T", str(chosen.seconds),
         "-f", script, stack.url()], env={**os.environ, "PGOPTIONS": "-c role=thecloud_api"}, capture_output=True, text=True)
    rate = re.search(r"tps = ([\d.]+)", done.stdout)
    print(f"\npgbench with the list's statements, {chosen.connections} clients: {float(rate[1]):.0f} lists/s" if rate else f"\npgbench: {done.stderr.strip()[:300]}")


def main():
    chosen = options()
    end_orderly()
    verdicts = []

    def verdict(holds, sentence):
        verdicts.append(holds)
        print(f"{'ok  ' if holds else 'FAIL'} {sentence}", flush=True)

    with Stack("bench") as stack:
        account, many = Account(stack, "bench@example.org"), Account(stack, "many@example.org")
        stack.sql(
            f"""
            insert into instances (id, owner_id, name, image, instance_type, cpus, memory_mb, ports, desired, status)
            select new_id(), '{account.id}', 'web-' || n, 'nginx:latest', 'small', 1, 512, '8080:80', 'STOPPED', 'STOPPED' from generate_series(1, 10) n
            """)
        plans.fill(stack, 1, SMALL // 10)
        url = f"http://127.0.0.1:{stack.port}"
        listed = must(stack.client(account.key).get("/instances"), 200).json["data"]
        if len(listed) != 10:
            sys.exit(f"error: the list has {len(listed)} instances instead of ten")

        with Peers(stack, chosen.peers) as peers:
            if "c" not in peers.ready:
                sys.exit("error: without the C peer there is nothing to compare with")
            measure = (chosen.rounds, chosen.seconds, chosen.connections, stack.folder)
            rivals = [name for name in peers.ready if name != "empty"]

            def ours():
                return Runner("ours", f"{url}/instances", account.key)

            def theirs(name):
                return Runner(f"{name}: {KINDS[name]}", peers.url(name), KEY)

            lists = race("GET /instances: ten of them, authenticated", [ours()] + [theirs(name) for name in peers.ready], *measure) if "list" in chosen.only else {}
            if "create" in chosen.only:
                race(
                    "POST /auth/keys: authenticated, with its line in the audit",
                    [Runner("ours", f"{url}/auth/keys", account.key, post='{"name":"bench"}'), Runner(theirs("c").name, peers.url("c"), KEY, post='{"name":"bench"}')],
                    *measure)
            if "empty" in chosen.only and "empty" in peers.ready:
                race("GET /health/live against an empty answer", [Runner("ours", f"{url}/health/live"), theirs("empty")], *measure)
                race(
                    "a key with a wrong checksum against an empty answer",
                    [Refused("ours", f"{url}/instances", "thecloud_" + "0" * 33), theirs("empty")], *measure)
            if "pgbench" in chosen.only:
                pgbench(stack, account, chosen)
            flow = queues.measure(stack, account, chosen) if "queues" in chosen.only else None
            told = live.measure(stack, account) if "live" in chosen.only else []
            launched = launch.measure(stack, account) if "launch" in chosen.only else None
            asked = functions.measure(stack, account) if "functions" in chosen.only else {}
            bad = growth = None
            if "plans" in chosen.only:
                before = race(f"the list at {SMALL} rows", [ours(), theirs("c")], *measure)
                print(f"\n==> filling up to {chosen.rows} rows in each big table", flush=True)
                stack.sql(f"delete from api_keys where owner_id = '{account.id}' and name = 'bench'")
                plans.fill(stack, SMALL // 10 + 1, chosen.rows // 10)
                plans.fill_one(stack, many.id, min(chosen.rows // 10, 100_000))
                after = race(f"the list at {chosen.rows} rows (the peer's as before)", [ours(), theirs("c")], *measure)
                growth = before[theirs("c").name] / after[theirs("c").name]
                bad = plans.explain(stack, account, many, chosen.rows)
            late = cron.race_the_clock(stack, many) if "cron" in chosen.only else None
            print()
            if late is not None:
                verdict(late < cron.BAR, f"{cron.JOBS} cron jobs due in one minute: the last is dispatched {late:.1f} s late (below {cron.BAR})")
            for name in rivals if lists else []:
                ratio = lists[theirs(name).name]
                verdict(name != "c" or ratio >= FLOOR, f"the list is {ratio:.2f} times as fast as {KINDS[name]}" + (f" (at least {FLOOR})" if name == "c" else ""))
            if launched is not None:
                verdict(launched <= launch.BAR, f"from POST to RUNNING takes {launched:.2f} of docker run -d (at most {launch.BAR})")
            for runtime, (warm, cold) in asked.items():
                verdict(warm <= functions.BAR, f"a warm invocation of {runtime} takes {warm:.3f} of docker run (at most {functions.BAR}), a cold one {cold:.2f}")
            if flow is not None:
                verdict(flow >= queues.FLOOR, f"messages flow {flow:.2f} times as fast as the same statements in pgbench (at least {queues.FLOOR})")
            for count, bar, late in told:
                verdict(late < (bar or float("inf")), f"an event reaches the last of {count} sockets {late:.0f} ms after its change" + (f" (below {bar})" if bar else " (all must get it)"))
            if growth is not None:
                verdict(growth < 1.5, f"the list takes {growth:.2f} times as long at {chosen.rows} rows as at {SMALL} (below 1.5)")
                verdict(not bad, f"plans that read a big table from end to end, or too much of it: {bad}")
    sys.exit(0 if all(verdicts) else 1)


main()
