# n: five hundred subscribers of GET /ws and an event a second, while workers and cron are replaced; then nginx is reloaded under them.
import asyncio
import os
import signal
import time

from sockets import crashes, nginx_workers
from stack import must
from websocket import Closed, WebSocket

SUBSCRIBERS = 500


class Subscriber:
    def __init__(self, stack, key):
        self.stack, self.key = stack, key
        self.heard, self.last, self.closed = [], None, 0

    async def listen(self, until, opened):
        while time.monotonic() < until:
            since = f"&last_event_id={self.last}" if self.last else ""
            try:
                socket = await WebSocket.open(self.stack.port, f"/ws?api_key={self.key}{since}")
            except Closed:
                # Accepted by a worker of nginx that was just leaving.
                await asyncio.sleep(0.1)
                continue
            opened.set()
            try:
                while (left := until - time.monotonic()) > 0:
                    event = await asyncio.wait_for(socket.receive(), left)
                    if event["id"]:
                        self.last = event["id"]
                        self.heard.append(event["resource_id"])
            except asyncio.TimeoutError:
                pass
            except Closed:
                self.closed += 1
            finally:
                socket.close()


def make(client, name):
    """An event, exactly one: nginx ends kept connections when it is reloaded, so what got no answer is asked again."""
    for _ in range(5):
        answer = client.post("/api/v1/runs", {"name": name, "config": {}}, headers={"Idempotency-Key": name})
        if answer.status:
            break
    return must(answer, 201).json["id"]


def subscribing(ledger, world):
    stack, seconds = world.main, world.seconds
    ledger.begin("n", f"{SUBSCRIBERS} sockets of GET /ws hear an event a second for {seconds} s; workers and cron are replaced, then nginx is reloaded")
    account = world.account("n")
    client = stack.client(account.key)
    workers, crashed = nginx_workers(stack), crashes(stack)
    subscribers = [Subscriber(stack, account.key) for _ in range(SUBSCRIBERS)]
    made, closed_before_reload = [], []

    async def all_of_it():
        end = time.monotonic() + 2 * seconds + 20
        opened = [asyncio.Event() for _ in subscribers]
        running = asyncio.gather(*(s.listen(end, o) for s, o in zip(subscribers, opened)))
        await asyncio.gather(*(o.wait() for o in opened))
        for second in range(seconds):
            if second == seconds // 3:
                os.kill(stack.pid("worker"), signal.SIGHUP)
            if second == seconds // 2:
                await asyncio.to_thread(stack.lib, "stop_program cron TERM 60")
                await asyncio.to_thread(stack.start, "cron")
            made.append(await asyncio.to_thread(make, client, f"event-{second}"))
            await asyncio.sleep(1)
        await asyncio.sleep(2)
        closed_before_reload.append(sum(s.closed for s in subscribers))
        alive = nginx_workers(stack)
        for second in range(10):
            if second == 3:
                await asyncio.to_thread(stack.lib, "nginx_run -s reload")
            made.append(await asyncio.to_thread(make, client, f"late-{second}"))
            await asyncio.sleep(0.5)
        await asyncio.sleep(3)
        running.cancel()
        await asyncio.wait([running])
        return alive

    alive = asyncio.run(all_of_it())
    ledger.check("sockets closed while workers and cron were replaced", 0, closed_before_reload[0], closed_before_reload == [0])
    ledger.check("nginx's workers until the reload", f"still {workers}", alive, alive == workers)
    closed = sum(s.closed for s in subscribers)
    ledger.check("sockets closed by the reload", SUBSCRIBERS, closed, closed == SUBSCRIBERS)
    wrong = [s for s in subscribers if sorted(s.heard) != sorted(made)]
    missed = [made.index(run) + 1 for s in subscribers for run in made if run not in s.heard]
    twice = sum(len(s.heard) - len(set(s.heard)) for s in subscribers)
    ledger.check(f"subscribers that heard each of {len(made)} events exactly once", SUBSCRIBERS,
                 f"{SUBSCRIBERS - len(wrong)}; {len(missed)} missed (events {sorted(set(missed))}), {twice} heard twice", not wrong)
    ledger.check("nginx's workers that crashed", 0, crashes(stack) - crashed, crashes(stack) == crashed)
