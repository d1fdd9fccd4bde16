# What must hold: each bar once, with the values that runs found for it. The verdict is over the median of the runs.
import statistics

# Name: the sentence, whether more is better, the bar.
BARS = {
    "list c": ("list of ten instances: rate / C's", True, 1.0),
    "list go": ("list of ten instances: rate / Go's", True, 1.0),
    "list php": ("list of ten instances: rate / PHP-FPM's", True, 2.3),
    "list fastapi": ("list of ten instances: rate / FastAPI's", True, 2.3),
    "list p99": ("list of ten instances: p99 / C's", False, 1.2),
    "live": ("/health/live: rate / empty answer's", True, 0.85),
    "refused": ("key with a wrong checksum: rate / empty answer's", True, 0.85),
    "create": ("create an instance: rate / C's with the same statements", True, 1.0),
    "queue 16": ("send, receive, delete, 16 clients: rate / pgbench's", True, 0.8),
    "queue c": ("send, receive, delete, 16 clients: rate / C's", True, 0.9),
    "queue 128": ("send, receive, delete, 128 clients: rate / pgbench's", True, 0.8),
    "queue tens": ("the same in tens, 64 clients: rate / pgbench's", True, 0.8),
    "flood p99": ("list during a flood of logins: p99 / quiet p99", False, 3.0),
    "flood memory": ("the hashing child then: MB / (threads × hash + 40)", False, 1.0),
    "growth list": ("list at a million rows / at ten thousand: time", False, 1.2),
    "growth get": ("get at a million rows / at ten thousand: time", False, 1.2),
    "growth create": ("create at a million rows / at ten thousand: time", False, 1.2),
    "growth receive": ("receive at a million rows / at ten thousand: time", False, 1.2),
    "plans": ("statements that read a big table from end to end", False, 0),
    "cron tick": ("a minute of 100 due jobs among 100 000 / among 100: CPU", False, 1.2),
    "cron late": ("10 000 cron jobs due at once: the last is late by (s)", False, 10),
    "memory": ("a child of 8 threads after 100 000 requests (MB)", False, 40),
    "memory growth": ("the same child a million requests later: times as much", False, 1.05),
    "start": ("from the start of the master to its first answer (ms)", False, 250),
    "swap p99": ("list while SIGHUP replaces all children: p99 / quiet p99", False, 3.0),
    "live 500": ("an event at the last of 500 sockets (ms)", False, 10_000),
    "live 1000": ("an event at the last of 1000 sockets (ms)", False, 150),
    "launch": ("POST to RUNNING / docker run -d: time", False, 1.3),
    "warm nodejs20": ("warm invocation of Node / docker run: time", False, 0.1),
    "warm python312": ("warm invocation of Python / docker run: time", False, 0.1),
}


class Findings:
    def __init__(self):
        self.values = {}

    def add(self, name, value):
        self.values.setdefault(name, []).append(value)

    def verdict(self):
        """Prints the table; returns whether all holds that was measured."""
        holds = []
        print(f"\n     {'':62}{'bar':>8}{'median':>9}   runs")
        for name, (sentence, is_floor, bar) in BARS.items():
            if name not in self.values:
                continue
            values = self.values[name]
            median = statistics.median(values)
            holds.append(median >= bar if is_floor else median <= bar)
            word, shown = "ok  " if holds[-1] else "FAIL", f"{'≥' if is_floor else '≤'} {bar:g}"
            print(f"{word} {sentence:62}{shown:>8}{median:9.2f}   {' '.join(f'{value:.2f}' for value in values)}")
        return all(holds)
