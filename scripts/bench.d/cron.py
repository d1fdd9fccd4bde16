# Many cron jobs that are due in the same minute: how late the last of them is sent. And few that are due among many that are not: what the
# minute costs. They call a static page of the stack's own nginx.
import glob
import os
import time

JOBS = 10_000
DUE, IDLE = 100, 100_000


def race_the_clock(bench):
    stack, account = bench.stack, bench.many
    print(f"\n==> {JOBS} cron jobs that are due in the same minute", flush=True)
    stack.sql(
        f"""
        insert into cron_jobs (id, owner_id, name, schedule, target_url, method, next_run_at)
        select new_id(), '{account.id}', 'bench-' || n, '0 0 1 1 *', 'http://127.0.0.1:{stack.port}/reset-password.css', 'GET',
            date_trunc('minute', now() + interval '70 seconds') from generate_series(1, {JOBS}) n;
        analyze cron_jobs;
        notify cron;
        """)
    end = time.monotonic() + 190
    while time.monotonic() < end and int(stack.value("select count(*) from cron_runs where status = 'SUCCEEDED'")) < JOBS:
        time.sleep(1)
    sent, once, late, done = stack.sql(
        """
        select count(*) filter (where status = 'SUCCEEDED' and attempt = 1), count(distinct (cron_id, due_at)),
            coalesce(extract(epoch from max(started_at - due_at)), 0), coalesce(extract(epoch from max(finished_at - due_at)), 0) from cron_runs
        """)[0]
    print(f"  {sent} sent and answered, {once} due times; the last one began {float(late):.1f} s and ended {float(done):.1f} s after it was due")
    stack.sql(f"delete from cron_jobs where owner_id = '{account.id}'")
    bench.findings.add("cron late", float(late) if int(sent) == int(once) == JOBS else float("inf"))


def insert(stack, account, name, count, due):
    stack.sql(
        f"""
        insert into cron_jobs (id, owner_id, name, schedule, target_url, method, next_run_at)
        select new_id(), '{account.id}', '{name}-' || n, '0 0 1 1 *', 'http://127.0.0.1:{stack.port}/reset-password.css', 'GET', {due}
        from generate_series(1, {count}) n;
        vacuum analyze cron_jobs, cron_runs;
        """)


def processor_seconds(stack):
    """Of thecloud-cron and of the database's processes that work for it."""
    master = int(open(f"{stack.state}/postgres/postmaster.pid").readline())
    total = 0
    for process in [stack.pid("cron"), *(int(pid) for pid in open(f"/proc/{master}/task/{master}/children").read().split())]:
        try:
            if process != stack.pid("cron") and b"thecloud_cron" not in open(f"/proc/{process}/cmdline", "rb").read():
                continue
            for task in glob.glob(f"/proc/{process}/task/*/schedstat"):
                total += int(open(task).read().split()[0])
        except OSError:
            pass
    return total / 1e9


def minute(stack, account):
    """Processor seconds in which DUE jobs that are due at once were sent and answered."""
    insert(stack, account, "due", DUE, "date_trunc('second', now()) + interval '8 seconds'")
    stack.sql("notify cron")
    time.sleep(4)
    before, end = processor_seconds(stack), time.monotonic() + 20
    time.sleep(10)
    cost = processor_seconds(stack) - before
    while time.monotonic() < end and int(stack.value("select count(*) from cron_runs where status = 'SUCCEEDED'")) < DUE:
        time.sleep(1)
    sent = int(stack.value("select count(*) from cron_runs where status = 'SUCCEEDED'"))
    stack.sql(f"delete from cron_jobs where owner_id = '{account.id}' and name like 'due-%'")
    return cost if sent == DUE else float("inf")


def tick(bench):
    stack, account = bench.stack, bench.many
    print(f"\n==> {DUE} cron jobs that are due, alone and among {IDLE} that are not", flush=True)
    few = minute(stack, account)
    insert(stack, account, "idle", IDLE, "now() + interval '100 days'")
    time.sleep(2)
    many = minute(stack, account)
    stack.sql(f"delete from cron_jobs where owner_id = '{account.id}'; vacuum analyze cron_jobs, cron_runs")
    print(f"  {few * 1000:.0f} and {many * 1000:.0f} ms of processor time within ten seconds ({many / few:.2f})", flush=True)
    bench.findings.add("cron tick", many / few)
