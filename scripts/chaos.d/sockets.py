# k: two hundred agents that come, report and go, while workers are replaced, keys revoked and nginx reloaded.
import asyncio
import random
import time

from stack import must, wait_until
from websocket import Closed, Refused, WebSocket

AGENTS, PERIOD = 200, 5.0


class Agent:
    def __init__(self, stack, server, key, key_id):
        self.stack, self.server, self.key, self.key_id = stack, server, key, key_id
        self.sent = self.connections = 0
        self.refused, self.ends, self.closed_at = [], [], None

    async def live(self, until, pace):
        """Connects, reports some times, leaves, and comes again."""
        await asyncio.sleep(random.random() * pace)
        while time.monotonic() < until:
            try:
                await self.session(until, pace)
            except (Closed, Refused, OSError) as error:
                self.ends.append(str(error))
                await asyncio.sleep(0.2)

    async def session(self, until, pace):
        socket = await WebSocket.open(self.stack.port, "/api/v1/agents/ws")
        try:
            socket.send({"type": "auth", "api_key": self.key})
            hello = await asyncio.wait_for(socket.receive(), 20)
            if hello["type"] != "auth_success":
                self.refused.append(hello)
                self.closed_at = self.closed_at or time.monotonic()
                raise Closed(1006)
            self.connections += 1
            listening = asyncio.ensure_future(socket.receive())
            for _ in range(random.randint(3, 8)):
                if time.monotonic() >= until or listening.done():
                    break
                socket.send({"type": "metrics", "server_id": self.server, "cpu_percent": 12.5, "memory_percent": 40})
                self.sent += 1
                done, _ = await asyncio.wait([listening], timeout=pace)
                if done:
                    self.closed_at = self.closed_at or time.monotonic()
                    listening.result()
            if listening.done():
                listening.result()
            # Leaving while the last report is being taken must cost nobody else anything.
            listening.cancel()
        finally:
            socket.close()


def fleet(world):
    account = world.account("k")
    client = world.main.client(account.key)
    agents = []
    for number in range(AGENTS):
        server = must(client.post("/api/v1/servers", {"name": f"server-{number}", "host": "203.0.113.7"}), 201).json["id"]
        key = must(client.post("/api/v1/api-keys", {"server_id": server, "name": "agent"}), 201).json
        agents.append(Agent(world.main, server, key["key"], key["id"]))
    return account, client, agents


def stored(stack, agents):
    ids = ",".join(f"'{agent.server}'" for agent in agents)
    return int(stack.value(f"select count(*) from server_metrics where server_id in ({ids})"))


def nginx_workers(stack):
    return children(stack, "nginx")


def children(stack, program):
    master = int(open(f"{stack.state}/run/{program}.pid").read())
    return sorted(p for p in open(f"/proc/{master}/task/{master}/children").read().split())


def crashes(stack):
    return open(f"{stack.state}/log/nginx-error.log", errors="replace").read().count("exited on signal")


def living(ledger, world):
    stack, seconds = world.main, world.seconds
    ledger.begin("k", f"{AGENTS} agents report every {PERIOD:.0f} s for {seconds} s, then every half second, coming and going")
    account, client, agents = fleet(world)
    workers, crashed = nginx_workers(stack), crashes(stack)

    async def all_at(pace, duration):
        await asyncio.gather(*(agent.live(time.monotonic() + duration, pace) for agent in agents))

    for pace, duration in ((PERIOD, seconds), (0.5, min(seconds, 30))):
        before, sent = stored(stack, agents), sum(agent.sent for agent in agents)
        asyncio.run(all_at(pace, duration))
        sent = sum(agent.sent for agent in agents) - sent
        time.sleep(1)
        kept = stored(stack, agents) - before
        ledger.check(f"samples sent every {pace} s, and stored", sent, kept, sent == kept)
    ends = [end for agent in agents for end in agent.ends]
    ledger.check("sockets that ended of themselves", 0, f"{len(ends)} {ends[:2]}", not ends)

    # A replaced home closes its sockets in the orderly way: agents come again, and no sample is lost.
    before, sent = stored(stack, agents), sum(agent.sent for agent in agents)

    async def with_replacement():
        running = asyncio.ensure_future(all_at(0.5, 8))
        await asyncio.sleep(2)
        stack.replace_children()
        await running

    asyncio.run(with_replacement())
    time.sleep(1)
    sent, kept = sum(agent.sent for agent in agents) - sent, stored(stack, agents) - before
    ends = [end for agent in agents for end in agent.ends]
    ledger.check("samples while the workers are replaced, and stored", sent, kept, sent == kept)
    ledger.check("sockets closed by it", "only with 1012, come again", sorted(set(ends)), set(ends) <= {"closed with 1012"})
    for agent in agents:
        agent.ends.clear()
        agent.closed_at = None

    # A revoked key's agent is out within 2 s and stays out; the others stay.
    victims, rest = agents[:10], agents[10:]
    revoked_at = {}

    async def with_revocation():
        running = asyncio.ensure_future(all_at(0.5, 10))
        await asyncio.sleep(4)
        for victim in victims:
            must(await asyncio.to_thread(client.delete, f"/api/v1/api-keys/{victim.key_id}"), 200)
            revoked_at[victim] = time.monotonic()
        await running

    asyncio.run(with_revocation())
    slowest = max((victim.closed_at - revoked_at[victim] if victim.closed_at else 99) for victim in victims)
    ledger.within(f"{len(victims)} keys are revoked; the last of their sockets is closed", slowest, 2)
    ledger.check("they are let in again", "never", sum(not victim.refused for victim in victims), all(victim.refused for victim in victims))
    ends = [end for agent in rest for end in agent.ends]
    ledger.check("sockets of other keys closed by it", 0, len(ends), not ends)

    ledger.check("nginx's workers", f"still {workers}", nginx_workers(stack), nginx_workers(stack) == workers)

    # A reload closes all sockets; whoever connects again is served.
    connections = sum(agent.connections for agent in rest)

    async def with_reload():
        running = asyncio.gather(*(agent.live(time.monotonic() + 8, 0.5) for agent in rest))
        await asyncio.sleep(3)
        await asyncio.to_thread(stack.lib, "nginx_run -s reload")
        await running

    asyncio.run(with_reload())
    ledger.check("agents that came again after nginx was reloaded", f"at least {len(rest)}",
                 sum(agent.connections for agent in rest) - connections, sum(agent.connections for agent in rest) - connections >= len(rest))
    ledger.check("nginx's workers that crashed", 0, crashes(stack) - crashed, crashes(stack) == crashed)
    gone = wait_until(lambda: stack.value("select count(*) from sockets") == "0", 60, pause=1)
    ledger.within("rows of sockets that went away are forgotten", gone, 50)
    leaked = stack.value(
        f"select count(*) from servers where owner_id = '{account.id}' and last_seen_at > now() - interval '15 seconds'")
    online = wait_until(lambda: not [s for s in must(client.get("/api/v1/servers?limit=100"), 200).json["data"] if s["status"] == "online"], 30, 1)
    ledger.within(f"servers ({leaked} seen last) are offline once their agents are silent", online, 20)
