# What an invocation costs beside `docker run --rm` of the same image: warm ones, and ones for which a sandbox must be made.
import base64
import io
import statistics
import subprocess
import time
import zipfile

from stack import must

WARM, COLD, RUNS = 200, 12, 12

LANGUAGES = {
    "nodejs20": ("node:20-alpine", "index.js", "exports.handler = async ({ n }) => n * 2;", ["node", "-e", "console.log(42)"]),
    "python312": ("python:3.12-alpine", "index.py", "def handler(payload): return payload['n'] * 2", ["python3", "-c", "print(42)"]),
}


def zipped(file, source):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(file, source)
    return base64.b64encode(held.getvalue()).decode()


def timed(work):
    start = time.monotonic()
    work()
    return time.monotonic() - start


def measure(bench):
    client = bench.stack.client(bench.account.key, timeout=120)
    for runtime, (image, file, source, command) in LANGUAGES.items():
        print(f"\n==> invocations of {runtime} beside docker run --rm {image} {' '.join(command)}", flush=True)
        made = must(client.post("/functions", {"name": f"bench-{runtime}", "runtime": runtime, "code_zip": zipped(file, source), "timeout": 60}), 201)
        path = f"/functions/{made.json['data']['id']}"

        def invoke(is_cold):
            data = must(client.post(f"{path}/invoke", {"payload": {"n": 21}}), 200).json["data"]
            assert data["status"] == "SUCCEEDED" and data["result"] == 42 and data["cold_start"] == is_cold, data

        def run():
            done = subprocess.run(["docker", "run", "--rm", "--network", "none", image, *command], capture_output=True, text=True, check=True)
            assert done.stdout.strip() == "42"

        run()
        runs, colds = [], []
        # In turn, so that both meet the same machine.
        for turn in range(max(COLD, RUNS)):
            runs.append(timed(run))
            must(client.request("PUT", path, {"env": {"TURN": str(turn)}}), 200)
            colds.append(timed(lambda: invoke(True)))
        warms = [timed(lambda: invoke(False)) for _ in range(WARM)]
        must(client.delete(path), 200)
        docker, cold, warm = statistics.median(runs), statistics.median(colds), statistics.median(warms)
        print(f"  docker run {docker * 1000:.0f} ms; cold {cold * 1000:.0f} ms ({cold / docker:.2f}); warm {warm * 1000:.1f} ms ({warm / docker:.3f})")
        bench.findings.add(f"warm {runtime}", warm / docker)
