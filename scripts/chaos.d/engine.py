# d, e, f and g: two stacks on one engine, an engine that goes away, a cron that dies, containers that others kill.
import json
import os
import random
import signal
import subprocess
import threading
import time

from stack import must, wait_until

# The engine is asked for everything at least this often (Cron.sweepSeconds), with some time to act on it.
SWEEP = 25


def docker(*words, check=True, host=None):
    """`host` as in DOCKER_HOST; the system's engine where there is none."""
    done = subprocess.run(["docker", *(["--host", host] if host else []), *words], capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"docker {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def containers(stack):
    """Full ids of a stack's containers, running or not."""
    return set(docker("ps", "-aq", "--no-trunc", "--filter", f"label=thecloud.stack={stack.id}").split())


def networks(stack):
    return set(docker("network", "ls", "-q", "--no-trunc", "--filter", f"label=thecloud.stack={stack.id}").split())


def container_of(instance, host=None):
    return docker("ps", "-aq", "--no-trunc", "--filter", f"label=thecloud.id={instance}", host=host)


def listed(stack, kind, *form, host=None):
    """What `docker <kind> ls` says of a stack's objects: those with its label, and those whose names are such as it gives."""
    lines = set()
    for mark in (f"label=thecloud.stack={stack.id}", f"name=thecloud-{stack.id[-12:]}-"):
        lines |= set(docker(kind, "ls", *(["-a"] if kind == "container" else []), "--filter", mark, "--format", *form, host=host).splitlines())
    return sorted(lines)


def started_at(ids):
    return sorted(docker("inspect", "--format", "{{.Id}} {{.State.StartedAt}} {{.State.Running}}", *ids).splitlines()) if ids else []


class Tenant:
    """An account with its connection, and the life of its instances."""

    def __init__(self, stack, account, world):
        self.client, self.world = stack.client(account.key), world

    def launch(self, name):
        return must(self.client.post("/instances", self.world.instance(name)), 201).json["data"]["id"]

    def status(self, instance):
        answer = self.client.get(f"/instances/{instance}")
        return answer.json["data"]["status"] if answer.status == 200 else str(answer.status)

    def remove(self, instance):
        must(self.client.delete(f"/instances/{instance}"), 200)

    def runs(self, instances, seconds=60):
        return wait_until(lambda: all(self.status(one) == "RUNNING" for one in instances), seconds)

    def gone(self, instances, seconds=60):
        return wait_until(lambda: all(self.status(one) == "404" for one in instances), seconds)

    def names(self):
        return sorted(one["name"] for one in must(self.client.get("/instances"), 200).json["data"])


# Names of what the engine should have, by kind of object. Sandboxes of functions are nobody's rows: estate.py looks after them.
WANTED = {
    "container": """
        select 'instance-' || id || case desired when 'RUNNING' then ' running' when 'PAUSED' then ' paused' else ' ' || desired end from instances
        union all select 'cache-' || id || case desired when 'RUNNING' then ' running' else ' ' || desired end from caches
        union all select 'loadbalancer-' || id || case desired when 'ACTIVE' then ' running' else ' ' || desired end from load_balancers""",
    "network": "select 'network-' || id from networks",
    "volume": "select 'volume-' || id from volumes union all select 'cache-' || id from caches",
}


def differences(stack, host=None):
    """What the engine has and the database has not, and the other way round, as lines; with them how many rows of each kind there are."""
    lines, counts = [], []
    for kind, rows in WANTED.items():
        prefix = f"thecloud-{stack.id[-12:]}-"
        have = {one for one in listed(stack, kind, "{{.Names}} {{.State}}" if kind == "container" else "{{.Name}}", host=host) if not one.startswith(f"{prefix}sandbox-")}
        want = {prefix + row[0] for row in stack.sql(rows)}
        lines += [f"{kind} {one} is nobody's" for one in have - want] + [f"{kind} {one} is missing" for one in want - have]
        counts.append(f"{len(want)} {kind}s")
    return sorted(lines), ", ".join(counts)


def agree(ledger, stack, seconds=60, host=None):
    """The engine's containers, networks and volumes are those of the database, no more and no less."""
    took = wait_until(lambda: not differences(stack, host)[0], seconds, 0.5)
    lines, counts = differences(stack, host)
    ledger.check("docker ps -a, network ls, volume ls by label and name", f"the database's: {counts}", "; ".join(lines) or "so", took is not None)


def living_together(ledger, world):
    ledger.begin("d", "two stacks on one Docker")
    a, b = world.main, world.other
    ann, bob = Tenant(a, world.account("d"), world), Tenant(b, world.account("d", b), world)
    mine, theirs = [ann.launch("one"), ann.launch("two")], [bob.launch("one"), bob.launch("two"), bob.launch("three")]
    ledger.within("instances in both run", max((ann.runs(mine) or 999, bob.runs(theirs) or 999)), 30)
    ledger.check("names of instances that the first sees", ["one", "two"], ann.names(), ann.names() == ["one", "two"])
    ledger.check("the second", ["one", "three", "two"], bob.names(), bob.names() == ["one", "three", "two"])
    before = started_at(containers(a)), started_at(containers(b)), networks(a), networks(b)

    # Orphans: one of each stack, one of an installation that is not here.
    label = ["--label", "thecloud.kind=instance", "--label"]
    orphans, stranger, nobody = {}, "00000000-0000-7000-8000-00000000dead", "00000000-0000-7000-8000-00000000beef"
    for stack in (a.id, b.id, stranger):
        orphans[stack] = docker(
            "create", "--name", f"thecloud-{stack[-12:]}-instance-{nobody}", *label, f"thecloud.stack={stack}", "--label", f"thecloud.id={nobody}",
            world.image, "sleep", "1000")
    try:
        took = wait_until(lambda: not {orphans[a.id], orphans[b.id]} & (containers(a) | containers(b)), SWEEP, 0.5)
        ledger.within("orphaned containers of both are removed by their own", took, SWEEP)
        time.sleep(3)
        alive = docker("ps", "-aq", "--no-trunc", "--filter", f"id={orphans[stranger]}")
        ledger.check("a container with a stranger's label", "left alone", "so" if alive else "removed", alive)
    finally:
        docker("rm", "-f", *orphans.values(), check=False)
    after = started_at(containers(a)), started_at(containers(b)), networks(a), networks(b)
    ledger.check("containers and networks of both after a sweep", "the same, never restarted", "so" if before == after else f"{before} → {after}", before == after)

    foreign = b.id
    purged = b.purge()
    ledger.check("scripts/down --purge of the second", "succeeds", "so" if purged else "failed", purged)
    left = docker("ps", "-aq", "--filter", f"label=thecloud.stack={foreign}") + docker("network", "ls", "-q", "--filter", f"label=thecloud.stack={foreign}")
    ledger.check("containers and networks of the second", "none", left or "none", not left)
    time.sleep(2)
    ledger.check("containers of the first", "the same, never restarted", "so" if started_at(containers(a)) == before[0] else "changed", started_at(containers(a)) == before[0])
    ledger.check("its instances", "RUNNING", [ann.status(one) for one in mine], all(ann.status(one) == "RUNNING" for one in mine))
    for one in mine:
        ann.remove(one)
    ledger.within("its instances are deleted", ann.gone(mine), 30)
    agree(ledger, a)


def unreachable(ledger, world):
    ledger.begin("e", "Docker can't be reached for a while")
    stack = world.main
    tenant = Tenant(stack, world.account("e"), world)
    present = tenant.launch("present")
    tenant.runs([present])
    world.engine.stop()
    ready = tenant.client.get("/health/ready")
    body = ready.json or {}
    ledger.check(
        "GET /health/ready", "503 DEGRADED, docker DISCONNECTED, database CONNECTED", f"{ready.status} {json.dumps(body)}",
        ready.status == 503 and body.get("status") == "DEGRADED" and body.get("checks") == {"database": "CONNECTED", "docker": "DISCONNECTED"})
    live = tenant.client.get("/health/live")
    ledger.check("GET /health/live", "200 ok", f"{live.status} {live.text}", live.status == 200 and live.json == {"status": "ok"})
    logs = tenant.client.get(f"/instances/{present}/logs")
    ledger.check("GET /instances/:id/logs", "503 with our error body", f"{logs.status} {logs.text[:120]}", logs.status == 503 and logs.is_our_error)
    asked = tenant.launch("asked")
    tenant.remove(present)
    time.sleep(12)
    states = tenant.status(asked), tenant.status(present)
    ledger.check("after 12 s, an instance asked for and one deleted meanwhile", "STARTING and TERMINATING", " and ".join(states), states == ("STARTING", "TERMINATING"))
    world.engine.start()
    ledger.within("Docker is back: /health/ready is 200", wait_until(stack.is_ready, 30), 5)
    ledger.within("the instance asked for runs", tenant.runs([asked]), 15)
    ledger.within("the deleted one is gone", tenant.gone([present]), 15)
    tenant.remove(asked)
    tenant.gone([asked])
    agree(ledger, stack)


def dying_cron(ledger, world):
    ledger.begin("f", "thecloud-cron is killed in the middle of launches and deletions, three times, and started again")
    stack = world.main
    tenant = Tenant(stack, world.account("f"), world)
    living, ending = [], []
    for round in range(3):
        batch = [tenant.launch(f"r{round}-{n}") for n in range(4)]
        for one in living[:2]:
            tenant.remove(one)
            ending.append(one)
        living = living[2:] + batch
        time.sleep(random.uniform(0.05, 0.6))
        os.kill(stack.pid("cron"), signal.SIGKILL)
        time.sleep(0.3)
        stack.start("cron")
    # Longer than a lease would have to run out for.
    took = wait_until(lambda: all(tenant.status(one) == "RUNNING" for one in living), 330, 0.5)
    ledger.within(f"{len(living)} launched instances run", took, 60)
    ledger.within(f"{len(ending)} deleted ones are gone", tenant.gone(ending, 330), 60)
    agree(ledger, stack)
    for one in living:
        tenant.remove(one)
    os.kill(stack.pid("cron"), signal.SIGKILL)
    stack.start("cron")
    ledger.within("all deleted, cron killed once more: all are gone", tenant.gone(living, 330), 60)
    agree(ledger, stack)
    left = stack.sql(f"select kind, subject, last_error from jobs where kind = 'instance'")
    ledger.check("jobs left for instances", "none", left or "none", wait_until(lambda: not stack.sql("select 1 from jobs where kind = 'instance'"), 30) is not None)


def killed_containers(ledger, world):
    ledger.begin("g", "containers that somebody else kills or removes")
    stack = world.main
    tenant = Tenant(stack, world.account("g"), world)
    killed, removed = tenant.launch("killed"), tenant.launch("removed")
    tenant.runs([killed, removed])
    old = container_of(killed)
    was = started_at([old])
    docker("kill", old)
    took = wait_until(lambda: tenant.status(killed) == "ERROR" or (started_at([old]) != was and "true" in started_at([old])[0] and tenant.status(killed) == "RUNNING"), 30)
    ledger.within("docker kill: RUNNING again, or ERROR", took, 10)
    state = tenant.client.get(f"/instances/{killed}").json["data"]
    ledger.check("its status", "RUNNING, or ERROR with a reason", f"{state['status']} {state['status_reason'] or ''}".strip(), state["status"] == "RUNNING" or state["status_reason"])
    old = container_of(removed)
    docker("rm", "-f", old)
    took = wait_until(lambda: (new := container_of(removed)) not in ("", old) and started_at([new])[0].endswith("true"), 30)
    ledger.within("docker rm -f: another container runs", took, 10)
    time.sleep(1)
    ledger.check("its status", "RUNNING", tenant.status(removed), tenant.status(removed) == "RUNNING")
    restless = must(
        tenant.client.post("/instances", {**world.instance("restless"), "command": ["sh", "-c", "exit 3"]}), 201).json["data"]["id"]
    took = wait_until(lambda: tenant.status(restless) == "ERROR", 90)
    state = tenant.client.get(f"/instances/{restless}").json["data"]
    ledger.check("a command that always ends", "ERROR that names its exit code 3", f"{state['status']} {state['status_reason']}", state["status"] == "ERROR" and "3" in (state["status_reason"] or ""))
    for one in (killed, removed, restless):
        tenant.remove(one)
    tenant.gone([killed, removed, restless])
    agree(ledger, stack)
