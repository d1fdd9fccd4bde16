# The plans at a million rows: PostgreSQL's auto_explain writes down what it really does for requests that come through nginx and the workers,
# prepared statements, row-level security and the statements inside functions included. Nothing is copied from the sources, so nothing can go
# stale.
import json
import os
import re
import time

from stack import must, wait_until

BIG = 10_000
# An honest lookup reads about as many rows as it answers.
READ_LIMIT = 1000


class Explainer:
    """Use as a context: while it is open, the database writes the plan of everything that workers ask."""

    def __init__(self, stack, replace):
        self.stack, self.replace = stack, replace
        self.log = f"{stack.state}/log/postgres.log"

    def __enter__(self):
        for name, value in {
            "session_preload_libraries": "auto_explain", "auto_explain.log_min_duration": "0", "auto_explain.log_analyze": "on",
            "auto_explain.log_timing": "off", "auto_explain.log_nested_statements": "on", "auto_explain.log_format": "json",
        }.items():
            self.stack.sql(f"load 'auto_explain'; alter role thecloud_api in database thecloud set {name} = '{value}'")
        self.replace()
        return self

    def __exit__(self, *_):
        self.stack.sql("alter role thecloud_api in database thecloud reset all")
        self.replace()

    def record(self, request, times):
        """The statements of a request that is made `times` times, and the plans that each had, from the log."""
        start = os.path.getsize(self.log)
        for _ in range(times):
            request()
        with open(self.log) as log:
            log.seek(start)
            text = log.read()
        statements = {}
        for entry in re.split(r"^(?=\d{4}-\d\d-\d\d )", text, flags=re.M):
            if " plan:\n" in entry:
                told = json.loads(entry.split(" plan:\n", 1)[1].replace("\n\t", "\n"))
                query = " ".join(told["Query Text"].split())
                accesses = [Access(node) for node in nodes(told["Plan"]) if "Relation Name" in node and "Scan" in node["Node Type"] or node["Node Type"] == "Bitmap Index Scan"]
                statements.setdefault(query, {})[tuple(sorted({access.line for access in accesses}))] = accesses
        return statements


def nodes(plan):
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)


class Access:
    """How one table was read."""

    def __init__(self, node):
        self.table = node.get("Relation Name")
        self.index = node.get("Index Name")
        self.kind = node["Node Type"] + (" Backward" if node.get("Scan Direction") == "Backward" else "")
        self.has_condition = "Index Cond" in node or "Recheck Cond" in node or "TID Cond" in node
        loops = node.get("Actual Loops", 1)
        self.read = loops * (node.get("Actual Rows", 0) + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0))
        # Without the values and parameters that differ from call to call.
        condition = re.sub(r"'[^']*'(::\w+(\[\])?)?", "…", node.get("Index Cond", ""))
        self.condition = re.sub(r"\$\d+", "…", condition)

    @property
    def line(self):
        return f"{self.kind} {self.index or self.table}" + (f" {self.condition}" if self.condition else "")

    def fault(self, big):
        if self.table in big and self.kind == "Seq Scan":
            return f"reads all of {self.table}"
        if self.table in big and not self.has_condition:
            return f"reads all of {self.index or self.table}"
        if self.read > READ_LIMIT:
            return f"reads {self.read:.0f} rows"
        return None


def explain(stack, account, many, queue, rows, times=200):
    """Prints the plans of the requests that matter; returns how many are bad."""
    big = {row[0] for row in stack.sql(f"select relname from pg_class where relkind = 'r' and reltuples >= {BIG}")}
    api, other = stack.client(account.key), stack.client(many.key)
    page = must(other.get("/instances?limit=100"), 200).json
    first = must(api.get("/instances"), 200).json["data"][0]["id"]

    def key():
        return must(api.post("/auth/keys", {"name": "bench"}), 201).json["id"]

    def instance():
        return must(api.post("/instances", {"name": f"plan-{time.monotonic_ns()}", "image": "nginx:latest"}), 201)

    def message():
        must(api.post(f"/queues/{queue}/messages", {"body": "payload-data"}), 201)
        handle = must(api.get(f"/queues/{queue}/messages?count=1"), 200).json["data"][0]["receipt_handle"]
        return must(api.delete(f"/queues/{queue}/messages/{handle}"), 200)

    requests = [
        ("POST /instances", instance, 20),
        ("POST, GET and DELETE of a message", message, times),
        ("GET /auth/keys", lambda: must(api.get("/auth/keys"), 200), times),
        ("GET /instances", lambda: must(api.get("/instances"), 200), times),
        ("GET /instances/:id", lambda: must(api.get(f"/instances/{first}"), 200), times),
        ("GET /instances of an owner of many", lambda: must(other.get("/instances"), 200), times),
        ("GET /instances?cursor= of that owner", lambda: must(other.get(f"/instances?cursor={page['meta']['next_cursor']}"), 200), times),
        ("GET /auth/keys of that owner", lambda: must(other.get("/auth/keys"), 200), times),
        ("POST and DELETE /auth/keys", lambda: must(api.delete(f"/auth/keys/{key()}"), 200), times),
        # The last ones: each ends the oldest of ten login keys.
        ("POST /auth/login", lambda: must(api.post("/auth/login", {"email": account.email, "password": account.password}), 200), 24),
        ("POST /auth/login of an owner of many keys", lambda: must(api.post("/auth/login", {"email": many.email, "password": many.password}), 200), 6),
        ("POST /auth/login of an unknown address", lambda: api.post("/auth/login", {"email": "nobody@example.com", "password": "not this one"}), 6),
    ]
    if api.get("/auth/audit").status == 200:
        requests.insert(0, ("GET /auth/audit", lambda: must(api.get("/auth/audit"), 200), times))
    print(f"\nPlans at {rows} rows in each of {', '.join(sorted(big))} (as the workers' role, with row-level security; by auto_explain)")
    bad = 0

    def replace():
        before = set(stack.children())
        os.kill(stack.pid("worker"), 1)
        if wait_until(lambda: not set(stack.children()) & before and len(stack.children()) == len(before), 60) is None:
            raise RuntimeError("the workers were not replaced within 60 s")

    with Explainer(stack, replace) as explainer:
        for name, request, count in requests:
            statements = explainer.record(request, count)
            print(f"  {name}")
            bad += not statements
            if not statements:
                print("    FAIL no plan was written down")
            for query, plans in statements.items():
                if not any(plans):
                    continue
                print(f"    {query[:130]}{'…' if len(query) > 130 else ''}")
                for accesses in plans.values():
                    faults = [fault for access in accesses if (fault := access.fault(big))]
                    bad += len(faults)
                    for access in {access.line: access for access in accesses}.values():
                        fault = access.fault(big)
                        print(f"      {'FAIL ' if fault else ''}{access.line}{': ' + fault if fault else ''}")
    return bad
