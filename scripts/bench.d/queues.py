# Messages a second: one is sent, received and deleted, by so many clients through nginx; beside C behind nginx and beside pgbench, which run
# the same statements in the same transactions. The queue holds some thousand messages meanwhile, as one does whose consumers lag behind.
import os
import re
import statistics
import subprocess
import sys

from stack import must

BACKLOG = 5000

# A receipt handle is used for the next DELETE; else what was sent is received; else something is sent.
SCRIPT = """
local handles, sent, bad = {}, 0, 0
local headers = {["X-API-Key"] = "KEY", ["Content-Type"] = "application/json"}
function request()
    local handle = table.remove(handles)
    if handle then return wrk.format("DELETE", "PATH/" .. handle, headers) end
    if sent > 0 then
        sent = sent - 1
        return wrk.format("GET", "PATH?count=1", headers)
    end
    sent = sent + 1
    return wrk.format("POST", "PATH", headers, '{"body":"payload-data"}')
end
function response(status, _, body)
    local handle = status == 200 and string.match(body, '"receipt_handle":"([^"]+)"')
    if handle then table.insert(handles, handle) end
end
"""


def through_nginx(bench, url, path):
    script = f"{bench.stack.folder}/queue.lua"
    with open(script, "w") as out:
        out.write(SCRIPT.replace("KEY", bench.account.key, 1).replace("PATH", path))
    done = subprocess.run(
        ["wrk", "-t", "1", "-c", str(bench.chosen.connections), "-d", f"{bench.chosen.seconds}s", "-s", script, url], capture_output=True, text=True)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    if not rate:
        sys.exit(f"error: wrk says nothing: {done.stdout}{done.stderr}")
    if other := re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout):
        print(f"  {other[1]} answers were not as they should be")
    return float(rate[1]) / 3


def pgbench(bench):
    stack, queue = bench.stack, bench.queue
    digest = stack.value(f"select encode(key_hash, 'hex') from api_keys where owner_id = '{bench.account.id}' order by id desc limit 1")

    def authenticate(permission):
        # chr(58): pgbench takes a colon for the beginning of a variable, even within quotes.
        return (
            f"authenticate('\\x{digest}'::bytea, 'queue' || chr(58) || '{permission}', '{{owner,admin,developer,user}}'::text[], "
            "'{owner,admin}'::text[], '127.0.0.1'::inet)")

    script = f"{stack.folder}/queue.pgbench"
    with open(script, "w") as out:
        out.write(
            f"""\\startpipeline
select * from {authenticate("send")};
with q as materialized (select id, delay, awaited_until from queues where id = '{queue}'), stored as (
    insert into queue_messages (id, queue_id, visible_at, attributes, body)
    select new_id(), id, now() + coalesce(null::int, delay) * interval '1 second', coalesce(null, '{{}}'), 'payload-data' from q returning id, sent_at)
select s.id, s.sent_at, false, q.awaited_until > now() from stored s cross join q;
\\endpipeline
select r.id as message, r.receipt as receipt, r.body, r.attributes, r.receive_count, r.sent_at, r.first_received_at, r.visible_until
from (select {authenticate("receive")} offset 0) a cross join lateral receive_messages('{queue}'::uuid, 1, false) r \\gset
\\startpipeline
select * from {authenticate("receive")};
with gone as (
    delete from queue_messages where id = :message::uuid and (queue_id = '{queue}') is true and receipt = :receipt::uuid returning id)
select exists (select from gone), exists (select from queue_messages where id = :message::uuid and (queue_id = '{queue}') is true);
\\endpipeline
""")
    version = open(f"{stack.state}/postgres/PG_VERSION").read().strip()
    done = subprocess.run(
        [f"/usr/lib/postgresql/{version}/bin/pgbench", "-n", "-M", "prepared", "-c", str(bench.chosen.connections), "-j", "2", "-T",
         str(bench.chosen.seconds), "-f", script, stack.url()], env={**os.environ, "PGOPTIONS": "-c role=thecloud_api -c plan_cache_mode=force_generic_plan"}, capture_output=True, text=True)
    rate = re.search(r"tps = ([\d.]+)", done.stdout)
    if not rate or "aborted" in done.stderr:
        sys.exit(f"error: pgbench: {done.stderr.strip()[:500]}")
    return float(rate[1])


def make(stack, account):
    queue = must(stack.client(account.key).post("/queues", {"name": "bench"}), 201).json["data"]["id"]
    stack.sql(
        f"""
        insert into queue_messages (id, owner_id, queue_id, body)
        select new_id(), '{account.id}', '{queue}', 'payload-data' from generate_series(1, {BACKLOG});
        vacuum analyze queue_messages;
        """)
    return queue


def measure(bench):
    rivals = {
        "ours": lambda: through_nginx(bench, bench.url, f"/queues/{bench.queue}/messages"),
        "C": lambda: through_nginx(bench, bench.peers.url("same"), "/same/messages"), "pgbench": lambda: pgbench(bench)}
    rates = {name: [] for name in rivals}
    for _ in range(bench.chosen.rounds):
        for name, run in rivals.items():
            rates[name].append(run())
    print(f"\nsend, receive, delete ({bench.chosen.rounds} rounds of {bench.chosen.seconds} s, {bench.chosen.connections} connections; medians)")
    for name, found in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rates["ours"], found))
        print(f"  {name:34}{statistics.median(found):9.0f} messages/s {ratio:8.2f}", flush=True)
        if name != "ours":
            bench.findings.add("queue" if name == "pgbench" else "queue c", ratio)
