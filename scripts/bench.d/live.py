# One event for many sockets of GET /ws: how long after the change the last of them has it.
#
# The client only stamps the time when bytes arrive; what they were is looked at afterwards. The time runs from the beginning of the change's
# transaction, which is the event's timestamp, so the commit itself is in it.
import datetime
import re
import resource
import select
import socket
import threading
import time

from stack import must

CROWDS = (500, 1000)
EVENTS = 15


class Crowd:
    """Sockets of one account. nginx counts them by client address, so they come from several."""

    def __init__(self, stack, account, count):
        files = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(files[0], min(count + 200, files[1])), files[1]))
        self.poll, self.sockets = select.epoll(), {}
        for number in range(count):
            opened = socket.create_connection(("127.0.0.1", stack.port), timeout=30, source_address=(f"127.0.0.{2 + number % 4}", 0))
            opened.sendall(
                f"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-API-Key: {account.key}\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                got = opened.recv(4096)
                head += got
                if not got:
                    break
            if not head.startswith(b"HTTP/1.1 101"):
                raise RuntimeError(f"socket {number} is not opened: {head[:80]!r}")
            opened.setblocking(False)
            self.sockets[opened.fileno()] = opened
            self.poll.register(opened.fileno(), select.EPOLLIN)

    def hear(self, seconds):
        """What each socket got until all have the event, and when the last of it came; a ping is no event."""
        heard, last, end = {}, 0.0, time.monotonic() + seconds
        while len(heard) < len(self.sockets) and time.monotonic() < end:
            for number, _ in self.poll.poll(0.2):
                data = self.sockets[number].recv(65536)
                last = time.time()
                if not data:
                    raise RuntimeError("a socket was closed")
                if b"run.created" in data:
                    heard[number] = data
        return heard, last

    def close(self):
        for opened in self.sockets.values():
            opened.close()
        self.poll.close()


def milliseconds(stack, account, count):
    """For each event; infinity where a socket did not get it within ten seconds."""
    crowd, client, found = Crowd(stack, account, count), stack.client(account.key), []
    try:
        for number in range(EVENTS):
            change = threading.Thread(target=lambda n=number: must(client.post("/api/v1/runs", {"name": f"live-{n}", "config": {}}), 201))
            change.start()
            heard, last = crowd.hear(10)
            change.join()
            frames = [re.search(rb'"type":"run\.created".*"timestamp":"([^"]+)"', data) for data in heard.values()]
            if len(heard) < count or not all(frames):
                found.append(float("inf"))
                continue
            began = datetime.datetime.fromisoformat(frames[0][1].decode().replace("Z", "+00:00")).timestamp()
            found.append((last - began) * 1000)
            time.sleep(0.3)
    finally:
        crowd.close()
    return sorted(found)


def measure(bench):
    print(f"\n==> one event for many sockets of GET /ws, {EVENTS} times", flush=True)
    for count in CROWDS:
        found = milliseconds(bench.stack, bench.account, count)
        median = found[len(found) // 2]
        print(f"  {count} sockets: the last has it after {median:.0f} ms (median; {found[0]:.0f} to {found[-1]:.0f})", flush=True)
        bench.findings.add(f"live {count}", found[-1] if found[-1] == float("inf") else median)
