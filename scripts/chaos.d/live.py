# n: five hundred subscribers of GET /ws and two events a second, while workers and cron are replaced; then the front door is reloaded under
# them, and the process that holds their channels is killed, with some of them away each time.
import asyncio
import contextlib
import os
import signal
import time

from sockets import children, crashes, nginx_workers
from stack import must
from websocket import Closed, Refused, WebSocket

SUBSCRIBERS = 500
# So many are away while that happens.
ABSENT = 50


class Subscriber:
    def __init__(self, stack, key):
        self.stack, self.key = stack, key
        self.heard, self.last, self.closed = [], None, 0
        self.socket, self.is_away = None, False

    async def listen(self, opened):
        while True:
            if self.is_away:
                await asyncio.sleep(0.1)
                continue
            since = f"&last_event_id={self.last}" if self.last else ""
            try:
                socket = self.socket = await WebSocket.open(self.stack.port, f"/ws?api_key={self.key}{since}")
            except (Closed, Refused) as error:
                # Accepted by a worker of nginx that was just leaving, or before nginx has its events back.
                if isinstance(error, Refused) and error.status != 503:
                    raise
                await asyncio.sleep(0.1)
                continue
            opened.set()
            try:
                while True:
                    event = await socket.receive()
                    if event["id"]:
                        self.last = event["id"]
                        self.heard.append(event["resource_id"])
            except Closed:
                self.closed += not self.is_away
            finally:
                socket.close()

    def leave(self):
        self.is_away = True
        self.socket.close()


def make(client, name):
    """Two events of two kinds: nginx ends kept connections when it is reloaded, so what got no answer is asked again."""
    made = []
    for path, body in (("/api/v1/runs", {"name": name, "config": {}}), ("/api/v1/servers", {"name": name, "host": "203.0.113.7"})):
        for _ in range(50):
            answer = client.post(path, body, headers={"Idempotency-Key": name})
            # 409: the first asking is still at work.
            if answer.status not in (0, 409, 503):
                break
            time.sleep(0.1)
        made.append(must(answer, 201).json["id"])
    return made


def subscribing(ledger, world):
    stack, seconds = world.main, world.seconds
    ledger.begin("n", f"{SUBSCRIBERS} sockets of GET /ws hear two events a second for {seconds} s; workers and cron are replaced, then nginx is reloaded, then nchan's process killed, while {ABSENT} are away")
    account = world.account("n")
    client = stack.client(account.key)
    workers, crashed = nginx_workers(stack), crashes(stack)
    subscribers = [Subscriber(stack, account.key) for _ in range(SUBSCRIBERS)]
    made, closed = [], []

    async def everybody(holds):
        """As long as it takes the last of them, on a busy machine."""
        for _ in range(900):
            if all(map(holds, subscribers)):
                break
            await asyncio.sleep(0.1)

    async def all_of_it():
        opened = [asyncio.Event() for _ in subscribers]
        running = asyncio.gather(*(s.listen(o) for s, o in zip(subscribers, opened)))
        await asyncio.gather(*(o.wait() for o in opened))
        for second in range(seconds):
            if second == seconds // 3:
                stack.replace_children()
            if second == seconds // 2:
                await asyncio.to_thread(stack.lib, "stop_program cron TERM 60")
                await asyncio.to_thread(stack.start, "cron")
            made.extend(await asyncio.to_thread(make, client, f"event-{second}"))
            await asyncio.sleep(1)
        await everybody(lambda s: len(s.heard) >= len(made))
        closed.append(sum(s.closed for s in subscribers))
        alive = nginx_workers(stack)
        for second in range(20):
            if second in (2, 12):
                for subscriber in subscribers[:ABSENT]:
                    subscriber.leave()
            if second in (6, 16):
                for subscriber in subscribers[:ABSENT]:
                    subscriber.is_away = False
            if second == 3:
                await asyncio.to_thread(stack.lib, "nginx_run -s reload")
            if second == 11:
                closed.append(sum(s.closed for s in subscribers))
            if second == 13:
                os.kill(int(children(stack, "live")[0]), signal.SIGKILL)
            made.extend(await asyncio.to_thread(make, client, f"late-{second}"))
            await asyncio.sleep(0.5)
        closed.append(sum(s.closed for s in subscribers))
        await everybody(lambda s: len(s.heard) >= len(made))
        await asyncio.sleep(2)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        return alive

    alive = asyncio.run(all_of_it())
    ledger.check("sockets closed while workers and cron were replaced", 0, closed[0], closed[0] == 0)
    ledger.check("nginx's workers until the reload", f"still {workers}", alive, alive == workers)
    ledger.check("sockets closed by the reload", "0: its old workers go on for a while", closed[1] - closed[0], closed[1] == closed[0])
    ledger.check("sockets closed with nchan's process", f"at least {SUBSCRIBERS - ABSENT}", closed[2] - closed[1], closed[2] - closed[1] >= SUBSCRIBERS - ABSENT)
    wrong = [s for s in subscribers if sorted(s.heard) != sorted(made)]
    missed = [made.index(run) + 1 for s in subscribers for run in made if run not in s.heard]
    twice = sum(len(s.heard) - len(set(s.heard)) for s in subscribers)
    ledger.check(f"subscribers that heard each of {len(made)} events exactly once", SUBSCRIBERS,
                 f"{SUBSCRIBERS - len(wrong)}; {len(missed)} missed (events {sorted(set(missed))}), {twice} heard twice", not wrong)
    ledger.check("nginx's workers that crashed, but for the killed one", 0, crashes(stack) - crashed - 1, crashes(stack) == crashed + 1)
