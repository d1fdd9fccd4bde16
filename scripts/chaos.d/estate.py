# p: all that an account can own on the engine, built, changed and deleted while thecloud-cron is killed and the engine is cut off again and again.
import base64
import io
import os
import random
import signal
import socket
import threading
import time
import urllib.parse
import zipfile

from engine import agree, container_of, docker
from stack import free_port, must, wait_until

# What a killed process had at hand is taken up within seconds; a place of sandboxes is dead after half a minute of silence.
PATIENCE, SANDBOXES = 60, 90

KINDS = "'instance', 'vpc', 'volume', 'cache', 'loadbalancer', 'scaling_group', 'invocation'"

HANDLER = "import time\ndef handler(payload):\n    time.sleep(payload['seconds'])\n    return payload['number']\n"


class Trouble(threading.Thread):
    """Makes trouble at random moments until it is ended; the deed leaves all as it was."""

    def __init__(self, deed, shortest, longest, times=1000):
        super().__init__(daemon=True)
        self.deed, self.pauses, self.times = deed, (shortest, longest), times
        self.over, self.done, self.failure = threading.Event(), 0, None

    def run(self):
        while self.done < self.times and not self.over.wait(random.uniform(*self.pauses)):
            try:
                self.deed()
            except Exception as error:
                self.failure = error
                return
            self.done += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()
        if self.failure:
            raise self.failure


def kill_cron(stack):
    os.kill(stack.pid("cron"), signal.SIGKILL)
    time.sleep(random.uniform(0, 1))
    stack.start("cron")


def cut(forwarder):
    forwarder.stop()
    time.sleep(random.uniform(0.1, 3))
    forwarder.start()


def zipped(file, source):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr(file, source)
    return base64.b64encode(held.getvalue()).decode()


class Estate:
    """One account's resources, and what they should be like. `dial` connects to a published port, `host` is the engine behind the stack."""

    def __init__(self, stack, account, image, host=None, dial=lambda port: socket.create_connection(("127.0.0.1", port), 5)):
        self.stack, self.account, self.image, self.host, self.dial = stack, account, image, host, dial
        self.client = stack.client(account.key)
        self.instances, self.targets, self.invocations, self.holder, self.count = [], set(), 0, None, 2

    def insist(self, method, path, body=None):
        """Asks again while the answer is "not now": 409 while something is under way, 503 while the engine is away."""
        answers = []
        wait_until(lambda: answers.append(self.client.request(method, path, body)) or answers[-1].status not in (409, 503), PATIENCE, 0.3)
        if answers[-1].status // 100 != 2:
            raise RuntimeError(f"{method} {path}: {answers[-1].status} {answers[-1].text[:300]}")
        return answers[-1].json.get("data")

    def make(self, path, **body):
        return self.insist("POST", path, body)["id"]

    def see(self, path):
        answer = self.client.get(path)
        return answer.json["data"] if answer.status == 200 else {"status": str(answer.status)}

    def launch(self, **more):
        made = self.make(
            "/instances", name=f"web-{random.getrandbits(40):x}", image=self.image, instance_type="micro", vpc_id=self.vpc, subnet_id=self.subnet, **more)
        self.instances.append(made)
        self.insist("POST", f"/loadbalancers/{self.balancer}/targets", {"instance_id": made, "port": 80})
        self.targets.add(made)
        return made

    def invoke(self, times):
        for _ in range(times):
            payload = {"seconds": random.uniform(0, 2), "number": self.invocations}
            self.insist("POST", f"/functions/{self.function}/invoke", {"payload": payload, "async": True})
            self.invocations += 1

    def build(self):
        self.vpc = self.make("/vpcs", name="estate")
        self.subnet = self.make(f"/vpcs/{self.vpc}/subnets", name="estate", cidr_block="10.0.1.0/24")
        self.volume = self.make("/volumes", name="estate", size_gb=1)
        self.port = free_port()
        self.balancer = self.make("/loadbalancers", name="estate", vpc_id=self.vpc, port=self.port, health_check={"path": "/", "interval_seconds": 1})
        self.holder = self.launch(volumes=[{"volume_id": self.volume, "mount_path": "/data"}])
        self.launch()
        self.group = self.make(
            "/autoscaling/groups", name="estate", vpc_id=self.vpc, image=self.image, instance_type="micro", min_instances=1, max_instances=4,
            desired_count=self.count, ports="0:80", load_balancer_id=self.balancer)
        self.cache = self.make("/caches", name="estate", memory_mb=16)
        self.function = self.make("/functions", name="estate", runtime="python312", code_zip=zipped("index.py", HANDLER), timeout=30)
        self.invoke(6)

    def churn(self):
        """Another number of members, another holder of the volume, another instance, targets that go and come."""
        self.count = random.choice([n for n in (1, 2, 3) if n != self.count])
        self.insist("PUT", f"/autoscaling/groups/{self.group}", {"desired_count": self.count})
        self.invoke(3)
        other = next(one for one in self.instances if one != self.holder)
        self.insist("DELETE", f"/loadbalancers/{self.balancer}/targets/{other}")
        self.insist("POST", f"/volumes/{self.volume}/detach")
        self.insist("POST", f"/volumes/{self.volume}/attach", {"instance_id": other, "mount_path": "/data"})
        self.invoke(3)
        self.insist("POST", f"/loadbalancers/{self.balancer}/targets", {"instance_id": other, "port": 80, "weight": random.randint(1, 9)})
        self.insist("DELETE", f"/instances/{self.holder}")
        self.instances.remove(self.holder)
        self.targets.remove(self.holder)
        self.holder = other
        self.launch()

    def unsettled(self):
        """What is not as it was asked to be, as lines."""
        group, seen = self.see(f"/autoscaling/groups/{self.group}"), []

        def expect(path, status, **members):
            there = self.see(path)
            for name, value in {"status": status, **members}.items():
                if there.get(name) != value:
                    seen.append(f"{path} has {name} {there.get(name)} {there.get('status_reason') or ''}".strip())

        expect(f"/vpcs/{self.vpc}", "AVAILABLE")
        expect(f"/volumes/{self.volume}", "IN_USE", instance_id=self.holder)
        expect(f"/loadbalancers/{self.balancer}", "ACTIVE")
        expect(f"/autoscaling/groups/{self.group}", "ACTIVE", desired_count=self.count)
        expect(f"/caches/{self.cache}", "RUNNING")
        members = {one["id"] for one in group.get("instances", [])}
        if len(members) != self.count:
            seen.append(f"the group has {len(members)} of {self.count} members")
        for one in self.instances + sorted(members):
            expect(f"/instances/{one}", "RUNNING")
        targets = self.see(f"/loadbalancers/{self.balancer}/targets")
        health = {one["instance_id"]: one["health"] for one in targets} if isinstance(targets, list) else {}
        if health != {one: "UP" for one in self.targets | members}:
            seen.append(f"targets are {sorted(health.values())}, for {len(self.targets | members)}")
        ends = [row[0] for row in self.stack.sql(f"select status || ' ' || coalesce(error, '') from invocations where function_id = '{self.function}'")]
        if len(ends) != self.invocations or any(end.strip() != "SUCCEEDED" for end in ends):
            seen.append(f"of {self.invocations} invocations {[end for end in ends if end.strip() != 'SUCCEEDED']} of {len(ends)}")
        return seen

    def homeless(self):
        """Sandboxes whose process no longer lives."""
        known = {row[0] for row in self.stack.sql("select id from sandbox_homes where seen_at > now() - interval '15 s'")}
        lines = docker(
            "ps", "-a", "--filter", f"label=thecloud.stack={self.stack.id}", "--filter", "label=thecloud.kind=sandbox",
            "--format", '{{.Names}} {{.Label "thecloud.home"}}', host=self.host).splitlines()
        return [line for line in lines if line.split()[-1] not in known]

    def talk(self, port, text):
        """Sends a text and reads to the end; what went wrong instead."""
        try:
            with self.dial(port) as peer:
                peer.sendall(text.encode())
                return b"".join(iter(lambda: peer.recv(65536), b"")).decode(errors="replace")
        except OSError as error:
            return repr(error)

    def proxied(self):
        return self.talk(self.port, "GET / HTTP/1.1\r\nHost: estate\r\nConnection: close\r\n\r\n").split("\r\n")[0]

    def redis(self, *commands):
        url = urllib.parse.urlsplit(self.see(f"/caches/{self.cache}")["connection_url"])
        return self.talk(url.port, "".join(f"{one}\r\n" for one in (f"AUTH {url.password}", *commands, "QUIT")))

    def inside(self, command):
        return docker("exec", container_of(self.holder, self.host), "sh", "-c", command, check=False, host=self.host)

    def mark(self):
        """Leaves something in the cache and in the volume."""
        self.redis("SET mark kept")
        self.inside("echo kept >/data/mark && sync /data/mark")

    def check(self, ledger, what):
        """All is as it was asked to be, works, and holds what was left in it."""
        took = wait_until(lambda: not self.unsettled(), 2 * PATIENCE, 0.5)
        ledger.within(f"{what}: all is as it was asked to be", took, PATIENCE)
        if took is None:
            print(*self.unsettled(), sep="\n       ", flush=True)
        answers = [self.proxied() for _ in range(10)]
        ledger.check("ten requests to the load balancer", "200", sorted(set(answers)), set(answers) == {"HTTP/1.1 200 OK"})
        agree(ledger, self.stack, host=self.host)

    def remembers(self, ledger):
        answer = self.redis("PING", "GET mark")
        ledger.check("the cache", "PONG, and what was stored", repr(answer[-40:]), "+PONG" in answer and "kept" in answer)
        found = self.inside("cat /data/mark")
        ledger.check("the volume, at its new holder", "what was written", found, found == "kept")
        took = wait_until(lambda: not self.homeless(), SANDBOXES, 1)
        ledger.within("sandboxes of processes that are gone are gone too", took, SANDBOXES)

    def paths(self):
        instances = [f"/instances/{one}" for one in self.instances]
        return [
            f"/autoscaling/groups/{self.group}", *instances, f"/loadbalancers/{self.balancer}", f"/caches/{self.cache}", f"/functions/{self.function}",
            f"/volumes/{self.volume}", f"/subnets/{self.subnet}", f"/vpcs/{self.vpc}"]

    def delete(self):
        for path in self.paths():
            self.insist("DELETE", path)

    def check_gone(self, ledger):
        took = wait_until(lambda: all(self.client.get(path).status == 404 for path in self.paths()), 2 * PATIENCE, 0.5)
        ledger.within(f"all {len(self.paths())} are a 404", took, PATIENCE)
        mine = ["--filter", f"label=thecloud.owner={self.account.id}", "--filter", f"label=thecloud.stack={self.stack.id}"]
        left = lambda: [docker(*words, *mine, host=self.host) for words in (["ps", "-aq"], ["network", "ls", "-q"], ["volume", "ls", "-q"])]
        took = wait_until(lambda: not any(left()), SANDBOXES, 0.5)
        ledger.check("containers, networks and volumes with the account's label", "none", left() if took is None else "none", took is not None)
        agree(ledger, self.stack, host=self.host)
        jobs = lambda: self.stack.sql(f"select kind, subject, attempts, dead_at, last_error from jobs where kind in ({KINDS}) or dead_at is not null")
        took = wait_until(lambda: not jobs(), PATIENCE, 0.5)
        ledger.check("jobs for them, and dead ones of any kind", "none", jobs() if took is None else "none", took is not None)


def change_for(seconds, *deeds):
    """Does them one after the other, the last one again and again until the time is over."""
    end = time.monotonic() + seconds
    for deed in deeds:
        deed()
    while time.monotonic() < end:
        deeds[-1]()


def surviving(ledger, world):
    ledger.begin("p", "an estate of every kind, while thecloud-cron is killed and Docker cut off at random moments")
    stack = world.main
    estate = Estate(stack, world.account("p"), world.image)
    for what, deeds in (("built", [estate.build]), ("changed", []), ("changed again", [])):
        with Trouble(lambda: kill_cron(stack), 1, 6) as killing, Trouble(lambda: cut(world.engine), 2, 8) as cutting:
            change_for(world.seconds / 3, *deeds, estate.churn)
        estate.check(ledger, f"{what}; cron killed {killing.done} times, Docker cut off {cutting.done} times")
        estate.mark()
    estate.remembers(ledger)
    with Trouble(lambda: kill_cron(stack), 0.3, 3) as killing:
        estate.delete()
    print(f"       deleted; cron killed {killing.done} times", flush=True)
    estate.check_gone(ledger)
