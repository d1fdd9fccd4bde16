# Messages a second: one is sent, received and deleted, by so many clients through nginx; beside pgbench with the same statements in the same
# transactions, and beside C behind nginx. The queue holds some thousand messages meanwhile, as one does whose consumers lag behind.
#
# pgbench sends a transaction's statements as it always does, one by one. Told to pipeline them as our workers do it is faster, where the
# processors are the limit and not the disk; that is shown beside the peer in C, which does the same behind nginx. Neither has HTTP to pay.
import collections
import os
import re
import statistics
import subprocess
import sys

import bars
from stack import must

BACKLOG = 5000

# What was received is deleted next; else what was sent is received; else something is sent. NUMBER messages at a time.
SCRIPT = """
local received, sent = {}, 0
local headers = {["X-API-Key"] = "KEY", ["Content-Type"] = "application/json"}
local send, receive, before, after
function init()
    local message = '{"body":"payload-data"}'
    local batch = '{"messages":[' .. string.rep(message .. ",", NUMBER - 1) .. message .. "]}"
    send = wrk.format("POST", "PATH", headers, NUMBER == 1 and message or batch)
    receive = wrk.format("GET", "PATH?count=NUMBER", headers)
    before, after = string.match(wrk.format("DELETE", "PATH/handle", headers), "^(.-)handle(.*)$")
end
function request()
    local handles = table.remove(received)
    if handles and NUMBER == 1 then return before .. handles[1] .. after end
    if handles then return wrk.format("POST", "PATH/delete", headers, '{"receipt_handles":["' .. table.concat(handles, '","') .. '"]}') end
    if sent > 0 then
        sent = sent - 1
        return receive
    end
    sent = sent + 1
    return send
end
function response(status, _, body)
    if status ~= 200 or not string.find(body, '"receive_count"', 1, true) then return end
    local handles = {}
    for handle in string.gmatch(body, '"receipt_handle":"([^"]+)"') do table.insert(handles, handle) end
    table.insert(received, handles)
end
"""


def through_nginx(bench, clients, url, path, number=1):
    script = f"{bench.stack.folder}/queue.lua"
    with open(script, "w") as out:
        out.write(SCRIPT.replace("KEY", bench.account.key, 1).replace("PATH", path).replace("NUMBER", str(number)))
    done = subprocess.run(
        ["wrk", "-t", "1", "-c", str(clients), "-d", f"{bench.chosen.seconds}s", "-s", script, url], capture_output=True, text=True)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    if not rate:
        sys.exit(f"error: wrk says nothing: {done.stdout}{done.stderr}")
    if other := re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout):
        print(f"  {other[1]} answers were not as they should be")
    return float(rate[1]) / 3 * number


# What the workers send, in pgbench's words: `send` and `delete` whole, of a receive the columns it reads.
Statements = collections.namedtuple("Statements", "send columns delete")


def for_one(queue):
    return Statements(
        send=f"""
            with q as materialized (select id, delay, awaited_until from queues where id = '{queue}'), stored as (
                insert into queue_messages (id, queue_id, visible_at, attributes, body)
                select new_id(), id, now() + coalesce(null::int, delay) * interval '1 second', coalesce(null, '{{}}'), 'payload-data'
                from q returning id, sent_at)
            select s.id, s.sent_at, false, q.awaited_until > now() from stored s cross join q;""",
        columns="r.id as messages, r.receipt as receipts, r.body, r.attributes, r.receive_count, r.sent_at, r.first_received_at, r.visible_until, r.next_seconds, r.owner",
        delete=f"""
            with gone as (
                delete from queue_messages where id = :messages::uuid and (queue_id = '{queue}') is true and receipt = :receipts::uuid returning id)
            select exists (select from gone), exists (select from queue_messages where id = :messages::uuid and (queue_id = '{queue}') is true);""")


def for_several(queue, number):
    return Statements(
        send=f"""
            select id, sent_at, is_deduplicated, is_awaited from send_messages(
                '{queue}', array(select new_id() from generate_series(1, {number})), array_fill('payload-data'::text, array[{number}]),
                array_fill(null::int, array[{number}]), array_fill(null::text, array[{number}]), array_fill('{{}}'::text, array[{number}]));""",
        columns="array_agg(r.id) as messages, array_agg(r.id || '.' || r.receipt) as handles, array_agg((r.body, r.attributes, r.receive_count, r.sent_at, r.visible_until)::text)",
        delete=f"""
            with gone as (
                delete from queue_messages where id = any (:messages::uuid[])
                and (queue_id = '{queue}') is true and id || '.' || receipt = any (:handles::text[]) returning id, receipt)
            select exists (select from queues where id = '{queue}'), array(select id || '.' || receipt from gone);""")


def authenticate(bench, permission):
    digest = bench.stack.value(f"select encode(key_hash, 'hex') from api_keys where owner_id = '{bench.account.id}' order by id desc limit 1")
    # chr(58): pgbench takes a colon for the beginning of a variable, even within quotes.
    return (
        f"authenticate('\\x{digest}'::bytea, 'queue' || chr(58) || '{permission}', '{{owner,admin,developer,user}}'::text[], "
        "'{owner,admin}'::text[], '127.0.0.1'::inet)")


def one_by_one(bench, number):
    """A script of pgbench: three transactions, each of them begun, authenticated, worked and committed as the workers' are."""
    said = for_one(bench.queue) if number == 1 else for_several(bench.queue, number)
    receive = f"select {said.columns} from receive_messages('{bench.queue}'::uuid, {number}, false) r \\gset"
    works = (("send", said.send), ("receive", receive), ("receive", said.delete))
    return "".join(f"begin;\nselect * from {authenticate(bench, permission)};\n{work}\ncommit;\n" for permission, work in works)


def pipelined(bench):
    """The same for single messages in one round trip each. What \\gset reads cannot be in a pipeline: a receive's two statements are one here."""
    said = for_one(bench.queue)

    def pipeline(permission, work):
        return f"\\startpipeline\nselect * from {authenticate(bench, permission)};{work}\n\\endpipeline\n"

    authentication = f"(select {authenticate(bench, 'receive')} offset 0) a"
    receive = f"select {said.columns} from {authentication} cross join lateral receive_messages('{bench.queue}'::uuid, 1, false) r \\gset\n"
    return pipeline("send", said.send) + receive + pipeline("receive", said.delete)


def pgbench(bench, clients, text, number=1):
    """Messages a second of the script `text`, which moves so many each time."""
    stack, script = bench.stack, f"{bench.stack.folder}/queue.pgbench"
    with open(script, "w") as out:
        out.write(text)
    version = open(f"{stack.state}/postgres/PG_VERSION").read().strip()
    done = subprocess.run(
        [f"/usr/lib/postgresql/{version}/bin/pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-T",
         str(bench.chosen.seconds), "-f", script, stack.url()],
        env={**os.environ, "PGOPTIONS": "-c role=thecloud_api -c plan_cache_mode=force_generic_plan"}, capture_output=True, text=True)
    rate = re.search(r"tps = ([\d.]+)", done.stdout)
    if not rate or "aborted" in done.stderr:
        sys.exit(f"error: pgbench: {done.stderr.strip()[:500]}")
    return float(rate[1]) * number


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
    ours = f"/queues/{bench.queue}/messages"
    single, tens = one_by_one(bench, 1), one_by_one(bench, 10)
    compare(
        bench, "one by one", 16, {
            "ours": lambda: through_nginx(bench, 16, bench.url, ours), "queue 16": lambda: pgbench(bench, 16, single),
            "queue c": lambda: through_nginx(bench, 16, bench.peers.url("same"), "/same/messages"),
            "pipelined": lambda: pgbench(bench, 16, pipelined(bench))})
    compare(
        bench, "one by one", 128, {"ours": lambda: through_nginx(bench, 128, bench.url, ours), "queue 128": lambda: pgbench(bench, 128, single)})
    compare(
        bench, "in tens", 64, {
            "ours": lambda: through_nginx(bench, 64, bench.url, ours, 10), "queue tens": lambda: pgbench(bench, 64, tens, 10)})


def compare(bench, how, clients, rivals):
    """`rivals`: names of bars; ours comes first, "pipelined" has none."""
    rates = {name: [] for name in rivals}
    for _ in range(bench.chosen.rounds):
        for name, run in rivals.items():
            rates[name].append(run())
    print(f"\nsend, receive, delete {how} ({bench.chosen.rounds} rounds of {bench.chosen.seconds} s, {clients} clients; medians)")
    kinds = {"ours": "ours", "queue c": "C, pipelined like ours", "pipelined": "pgbench, pipelined like ours"}
    for name, found in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rates["ours"], found))
        print(f"  {kinds.get(name, 'pgbench'):34}{statistics.median(found):9.0f} messages/s {ratio:8.2f}", flush=True)
        if name in bars.BARS:
            bench.findings.add(name, ratio)
