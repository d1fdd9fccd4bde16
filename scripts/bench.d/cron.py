# Many cron jobs that are due in the same minute: how late the last of them is sent. They call a static page of the stack's own nginx.
import time

JOBS = 10_000
BAR = 10


def race_the_clock(stack, account):
    """Seconds between the due time and the start of the last request; infinity when not all were sent once."""
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
    return float(late) if int(sent) == int(once) == JOBS else float("inf")
