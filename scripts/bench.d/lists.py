# The authenticated list beside those who do the same by hand, and what costs next to nothing beside an empty answer.
from peers import KEY, KINDS
from race import Refused, Runner, race


def ours(bench):
    return Runner("ours", f"{bench.url}/instances", bench.account.key)


def theirs(bench, name):
    return Runner(f"{name}: {KINDS[name]}", bench.peers.url(name), KEY)


def race_lists(bench):
    rivals = {name: theirs(bench, name) for name in bench.peers.ready if name not in ("same", "empty")}
    ratios, slow = race("GET /instances: ten of them, authenticated", [ours(bench), *rivals.values()], *bench.measure)
    for name, rival in rivals.items():
        bench.findings.add(f"list {name}", ratios[rival.name])
    bench.findings.add("list p99", slow[rivals["c"].name])


def race_empty(bench):
    empty = theirs(bench, "empty")
    ratios, _ = race("GET /health/live beside an empty answer", [Runner("ours", f"{bench.url}/health/live"), empty], *bench.measure)
    bench.findings.add("live", ratios[empty.name])
    empty = theirs(bench, "empty")
    ratios, _ = race(
        "a key with a wrong checksum beside an empty answer", [Refused("ours", f"{bench.url}/instances", "thecloud_" + "0" * 33), empty],
        *bench.measure)
    bench.findings.add("refused", ratios[empty.name])
