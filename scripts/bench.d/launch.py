# From POST /instances to RUNNING beside `docker run -d` of the same image with the same flags.
import statistics
import subprocess
import time

from stack import must

RUNS = 15
IMAGE = "nginx:latest"
FLAGS = [
    "--init", "--security-opt", "no-new-privileges", "--cap-drop", "ALL",
    *(word for name in ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL", "NET_BIND_SERVICE") for word in ("--cap-add", name)),
    "--cpus", "1", "--memory", "512m", "--memory-swap", "512m", "--pids-limit", "512", "--log-opt", "max-size=10m", "--log-opt", "max-file=2",
]


def measure(bench):
    # In turn, so that both meet the same machine. An instance is there already: with it its network.
    print(f"\n==> {IMAGE} from POST to RUNNING beside docker run -d", flush=True)
    stack, account = bench.stack, bench.account
    client = stack.client(account.key)

    def launch(name):
        start = time.monotonic()
        path = f"/instances/{must(client.post('/instances', {'name': name, 'image': IMAGE, 'ports': '0:80'}), 201).json['data']['id']}"
        while (status := must(client.get(path), 200).json["data"]["status"]) != "RUNNING":
            assert status == "STARTING", status
            time.sleep(0.005)
        return path, time.monotonic() - start

    def remove(path):
        must(client.delete(path), 200)
        while client.get(path).status != 404:
            time.sleep(0.02)

    first, _ = launch("launch-first")
    network = stack.value(f"select id from networks where owner_id = '{account.id}'")
    name = f"thecloud-{stack.id[-12:]}-network-{network}"
    ours, theirs = [], []
    for turn in range(RUNS):
        path, took = launch(f"launch-{turn}")
        ours.append(took)
        remove(path)
        start = time.monotonic()
        done = subprocess.run(
            ["docker", "run", "-d", "--network", name, "--publish", "80", *FLAGS, IMAGE], capture_output=True, text=True, check=True)
        theirs.append(time.monotonic() - start)
        subprocess.run(["docker", "rm", "-f", done.stdout.strip()], capture_output=True, check=True)
    remove(first)
    mine, docker = statistics.median(ours), statistics.median(theirs)
    print(f"  docker run -d {docker * 1000:.0f} ms; POST to RUNNING {mine * 1000:.0f} ms ({mine / docker:.2f})")
    bench.findings.add("launch", mine / docker)
