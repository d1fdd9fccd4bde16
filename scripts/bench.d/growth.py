# Growth: four requests at ten thousand rows of others in each big table, and at a million; and the plans then.
import plans
from lists import ours, theirs
from race import Runner

SMALL = 10_000


def fill(stack, first, last):
    """Owners number first…last with ten instances, keys, lines of audit, events and messages each; ids are UUIDs of version 7, as the workers make them."""
    def identity(number):
        return f"(lpad(to_hex(1700000000000 + {number}), 12, '0') || '70008000' || lpad(to_hex({number}), 12, '0'))::uuid"

    owners = f"generate_series({first}, {last}) o"
    stack.sql(
        f"""
        insert into users (id, email, email_key, name, password_hash)
        select {identity('o')}, 'u' || o || '@example.com', 'u' || o || '@example.com', 'u' || o, '-' from {owners};
        insert into api_keys (id, owner_id, name, prefix, key_hash)
        select {identity('o * 10 + n')}, {identity('o')}, 'key ' || n, 'thecloud_xxxx', sha256((o * 10 + n)::text::bytea)
        from {owners}, generate_series(0, 9) n;
        insert into instances (id, owner_id, name, image, instance_type, cpus, memory_mb, ports, desired, status)
        select {identity('o * 10 + n')}, {identity('o')}, 'web-' || n, 'nginx:latest', 'small', 1, 512, '8080:80', 'STOPPED', 'STOPPED'
        from {owners}, generate_series(0, 9) n;
        insert into audit_log (id, owner_id, actor_id, action, resource_type, request_id)
        select {identity('o * 10 + n')}, {identity('o')}, {identity('o')}, 'instance.created', 'instance', 'bench'
        from {owners}, generate_series(0, 9) n;
        insert into events (id, owner_id, type, resource_id, data, is_published)
        select {identity('o * 10 + n')}, {identity('o')}, 'instance.created', {identity('o * 10 + n')}, '{{"name": "web"}}', true
        from {owners}, generate_series(0, 9) n;
        insert into queues (id, owner_id, name, visibility_timeout, delay, retention)
        select {identity('o')}, {identity('o')}, 'queue', 30, 0, 345600 from {owners};
        insert into queue_messages (id, owner_id, queue_id, body)
        select {identity('o * 10 + n')}, {identity('o')}, {identity('o')}, 'payload-data' from {owners}, generate_series(0, 9) n;
        insert into login_attempts (subject, failures) select {identity('o')}::text, 1 from {owners};
        vacuum analyze;
        """)


def fill_one(stack, owner, count):
    """Many instances and keys of one owner."""
    stack.sql(
        f"""
        insert into api_keys (id, owner_id, name, prefix, key_hash)
        select new_id(), '{owner}', 'key', 'thecloud_xxxx', sha256(('one ' || n)::bytea) from generate_series(1, {count}) n;
        insert into instances (id, owner_id, name, image, instance_type, cpus, memory_mb, desired, status)
        select new_id(), '{owner}', 'many-' || n, 'nginx:latest', 'small', 1, 512, 'STOPPED', 'STOPPED' from generate_series(1, {count}) n;
        vacuum analyze;
        """)


class Times:
    """The four requests in turn with the peer's list, whose tables do not grow: what the machine does differently meanwhile shows there."""

    def __init__(self, bench):
        one = bench.stack.value(f"select id from instances where owner_id = '{bench.account.id}' limit 1")
        self.clock = theirs(bench, "c")
        self.kinds = {
            "list": ours(bench), "get": Runner("get", f"{bench.url}/instances/{one}", bench.account.key),
            "create": bench.creates.runner("create", f"{bench.url}/instances", "/instances"),
            "receive": Runner("receive", f"{bench.url}/queues/{bench.queue}/messages?count=1", bench.account.key)}
        with bench.stack.without("cron"):
            for _ in range(bench.chosen.rounds):
                for runner in self.kinds.values():
                    for racer in (self.clock, runner):
                        racer.run(bench.chosen.connections, bench.chosen.seconds, bench.stack.folder)
                # What was received is there again for the next turn.
                bench.stack.sql(f"update queue_messages set visible_at = now(), receive_count = 0 where queue_id = '{bench.queue}'; vacuum queue_messages")

    def __getitem__(self, kind):
        return self.kinds[kind].rate / self.clock.rate


def measure(bench):
    rows = bench.chosen.rows
    print(f"\n==> list, get, create and receive at {SMALL} rows, and at {rows}", flush=True)
    bench.stack.sql(
        f"insert into queue_messages (id, owner_id, queue_id, body) "
        f"select new_id(), '{bench.account.id}', '{bench.queue}', 'payload-data' from generate_series(1, 100000)")
    bench.stack.sql("vacuum analyze")
    runs = range(bench.chosen.runs)
    befores = [Times(bench) for _ in runs]
    print(f"==> filling up to {rows} rows in each big table", flush=True)
    fill(bench.stack, SMALL // 10 + 1, rows // 10)
    fill_one(bench.stack, bench.many.id, min(rows // 10, 100_000))
    bench.settle()
    afters = [Times(bench) for _ in runs]
    for kind in befores[0].kinds:
        for before, after in zip(befores, afters):
            ratio = before[kind] / after[kind]
            print(
                f"  {kind:10} {before.kinds[kind].rate:9.0f}/s, then {after.kinds[kind].rate:9.0f}/s; corrected by the peer's list it takes "
                f"{ratio:.2f} times as long")
            bench.findings.add(f"growth {kind}", ratio)
    with bench.stack.without("cron"):
        bench.findings.add("plans", plans.explain(bench.stack, bench.account, bench.many, bench.queue, rows))
