# POST /instances by many owners, each answer a row, its line in the audit, an event and a job; beside C, which sends the same statements one
# after the other. thecloud-cron does not run meanwhile, so nothing is launched; what was made is removed after each turn.
import hashlib
import os

from race import Runner, race
from stack import key_text

OWNERS = 400

SCRIPT = """
local keys = {KEYS}
local turn = 0
function request()
    turn = turn + 1
    return wrk.format("POST", "PATH", {["X-API-Key"] = keys[turn % #keys + 1], ["Content-Type"] = "application/json"},
        string.format('{"name":"bench-%d-%d","image":"nginx:latest"}', START, turn))
end
"""


class Creates:
    """The owners, whom the stack has then."""

    def __init__(self, stack):
        self.stack, self.turns = stack, 0
        self.keys = [key_text(letters=f"bench{number}".ljust(27, "x")) for number in range(OWNERS)]
        rows = ", ".join(f"({number}, '\\x{hashlib.sha256(text.encode()).hexdigest()}'::bytea)" for number, text in enumerate(self.keys))
        stack.sql(
            f"""
            with owner as (
                insert into users (id, email, email_key, name, password_hash)
                select new_id(), 'create' || n || '@example.org', 'create' || n || '@example.org', 'create' || n, '-'
                from generate_series(0, {OWNERS - 1}) n returning id, name
            )
            insert into api_keys (id, owner_id, name, prefix, key_hash)
            select new_id(), o.id, 'bench', 'thecloud_xxxx', k.hash from owner o join (values {rows}) k (n, hash) on o.name = 'create' || k.n
            """)

    def runner(self, name, url, path):
        return Creating(self, name, url, path)

    def clear(self):
        # Their events are nobody's business, or thecloud-cron would still be publishing them during the next race.
        self.stack.sql(
            """
            delete from jobs where kind = 'instance';
            delete from instances where name like 'bench-%';
            update events set is_published = true where not is_published;
            """)
        self.stack.sql("vacuum instances, jobs, events")


class Creating(Runner):
    def __init__(self, creates, name, url, path):
        super().__init__(name, url)
        self.creates, self.path = creates, path

    def run(self, connections, seconds, folder):
        self.creates.turns += 1
        self.script = os.path.join(folder, "create.lua")
        with open(self.script, "w") as out:
            keys = ", ".join(f'"{text}"' for text in self.creates.keys)
            out.write(SCRIPT.replace("KEYS", keys).replace("PATH", self.path).replace("START", str(self.creates.turns)))
        super().run(connections, seconds, folder)
        self.creates.clear()


def measure(bench):
    same = bench.creates.runner("C, statement by statement", bench.peers.url("same") + "/instances", "/same/instances")
    with bench.stack.without("cron"):
        ratios, _ = race(
            "POST /instances: a row, its line in the audit, an event, a job",
            [bench.creates.runner("ours", f"{bench.url}/instances", "/instances"), same], *bench.measure)
    bench.findings.add("create", ratios[same.name])
