# The peers: built and started here, each behind an nginx of theirs, on the PostgreSQL server of the stack.
import glob
import os
import shutil
import subprocess
import sys

from stack import clean_environment, free_port, must, wait_until, Client

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers")
THREADS = 8
KINDS = {"c": "C, libfcgi + libpq", "same": "C, our own statements", "go": "Go, net/http + pgx", "php": "PHP-FPM + pgsql", "fastapi": "FastAPI + asyncpg", "empty": "empty FastCGI answer"}
NEEDED = ("c", "same", "empty")
KEY = "u1@example.com"


class Peers:
    """Use as a context; `ready` names those that could be built and answer rightly."""

    def __init__(self, stack, wanted, queue):
        self.stack, self.wanted, self.queue = stack, [name for name in KINDS if name in wanted or name in NEEDED], queue
        self.folder = os.path.join(stack.folder, "peers")
        os.mkdir(self.folder)
        os.chmod(self.folder, 0o755)
        self.processes, self.locations, self.upstreams, self.ready = [], {}, [], []
        self.port = free_port()
        self.database = stack.url("peers")
        self.environment = clean_environment(PEER_DATABASE=self.database, GO111MODULE="off", GOPATH="/usr/share/gocode", GOFLAGS="", GOCACHE=f"{self.folder}/go-cache")

    def url(self, name):
        return f"http://127.0.0.1:{self.port}/{name}"

    def __enter__(self):
        self.stack.sql("create database peers", "postgres")
        self.stack.sql(open(f"{HERE}/schema.sql").read(), "peers")
        for name in self.wanted:
            problem = getattr(self, name)()
            if problem:
                print(f"==> the peer {name} ({KINDS[name]}) is left out: {problem.strip().splitlines()[-1][:200]}")
        self.nginx()
        for name in self.locations:
            if problem := self.answers_wrongly(name):
                print(f"==> the peer {name} ({KINDS[name]}) is left out: {problem}")
            else:
                self.ready.append(name)
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def run(self, name, *command, **settings):
        log = open(f"{self.folder}/{name}.log", "w")
        self.processes.append(subprocess.Popen(command, env={**self.environment, **settings}, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def compile(self, name, source, *libraries, **settings):
        include = subprocess.run(["pg_config", "--includedir"], capture_output=True, text=True).stdout.strip()
        done = subprocess.run(
            ["gcc", "-O2", "-o", f"{self.folder}/{name}", f"{HERE}/{source}", f"-I{include}", *libraries], capture_output=True, text=True)
        if done.returncode:
            return done.stderr or "gcc failed"
        self.run(name, f"{self.folder}/{name}", f"{self.folder}/{name}.sock", str(THREADS), **settings)
        self.locations[name] = f'fastcgi_pass "unix:{self.folder}/{name}.sock";'

    def c(self):
        return self.compile("c", "responder.c", "-lfcgi", "-lpq", "-lcrypto", "-lpthread")

    def same(self):
        return self.compile(
            "same", "same.c", "-lfcgi", "-lpq", "-lcrypto", "-lpthread", PEER_DATABASE=self.stack.url(), PEER_QUEUE=self.queue,
            PGOPTIONS="-c role=thecloud_api -c plan_cache_mode=force_generic_plan")

    def empty(self):
        return self.compile("empty", "empty.c", "-lfcgi", "-lpthread")

    def go(self):
        if not shutil.which("go"):
            return "golang-go and golang-github-jackc-pgx-v4-dev are not installed"
        done = subprocess.run(["go", "build", "-o", f"{self.folder}/go", f"{HERE}/main.go"], env=self.environment, cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            return done.stderr
        self.run("go", f"{self.folder}/go", f"{self.folder}/go.sock")
        self.proxy("go")

    def php(self):
        program = next(iter(sorted(glob.glob("/usr/sbin/php-fpm*"))), None)
        if not program or not glob.glob("/usr/lib/php/*/pgsql.so"):
            return "php-fpm and php-pgsql are not installed"
        with open(f"{self.folder}/fpm.conf", "w") as out:
            out.write(
                f"[global]\nerror_log = {self.folder}/fpm.log\ndaemonize = no\n[www]\nuser = root\ngroup = root\nlisten = {self.folder}/php.sock\n"
                f"listen.mode = 0666\npm = static\npm.max_children = {THREADS}\n")
        self.run("php", program, "--allow-to-run-as-root", "--nodaemonize", "--fpm-config", f"{self.folder}/fpm.conf")
        shutil.copy(f"{HERE}/index.php", self.folder)
        self.locations["php"] = (
            f'fastcgi_param SCRIPT_FILENAME {self.folder}/index.php; fastcgi_param PEER_DATABASE "{self.database}"; fastcgi_pass "unix:{self.folder}/php.sock";')

    def fastapi(self):
        python = "/usr/bin/python3"
        if subprocess.run([python, "-c", "import fastapi, uvicorn, asyncpg"], capture_output=True).returncode:
            return "python3-fastapi, python3-uvicorn and python3-asyncpg are not installed"
        self.run(
            "fastapi", python, "-m", "uvicorn", "--app-dir", HERE, "app:app", "--uds", f"{self.folder}/fastapi.sock", "--workers", "2", "--log-level", "warning")
        self.proxy("fastapi")

    def proxy(self, name):
        self.upstreams.append(f'upstream {name} {{ server "unix:{self.folder}/{name}.sock"; keepalive 32; }}')
        self.locations[name] = f'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://{name}/instances;'

    def nginx(self):
        parameters = "".join(
            f"fastcgi_param {name} ${value};\n" for name, value in {
                "REQUEST_METHOD": "request_method", "QUERY_STRING": "query_string", "CONTENT_TYPE": "content_type", "CONTENT_LENGTH": "content_length",
                "REQUEST_URI": "request_uri", "SCRIPT_NAME": "fastcgi_script_name", "REMOTE_ADDR": "remote_addr", "SERVER_PROTOCOL": "server_protocol"}.items())
        locations = "".join(f"location {'^~' if name == 'same' else '='} /{name} {{ {parameters} {rule} }}\n" for name, rule in self.locations.items())
        with open(f"{self.folder}/nginx.conf", "w") as out:
            out.write(
                f"user root; worker_processes auto; daemon off; pid {self.folder}/nginx.pid; error_log {self.folder}/nginx-error.log;\n"
                f"events {{ worker_connections 4096; }}\nhttp {{ access_log {self.folder}/access.log combined buffer=64k;\n"
                + "\n".join(self.upstreams) + f"\nserver {{ listen 127.0.0.1:{self.port};\n{locations}}} }}\n")
        self.run("nginx", "nginx", "-e", f"{self.folder}/nginx-error.log", "-p", self.folder, "-c", f"{self.folder}/nginx.conf")

    def answers_wrongly(self, name):
        if name == "same":
            return None if wait_until(lambda: os.path.exists(f"{self.folder}/same.sock"), 15) is not None else "it does not listen"
        client = Client(self.port, KEY, timeout=5)
        wait_until(lambda: client.get(f"/{name}").status == 200, 15)
        answer = client.get(f"/{name}")
        client.close()
        if answer.status != 200:
            log = open(f"{self.folder}/{name}.log").read().strip()
            return f"it answers {answer.status or 'nothing'}; {log[-300:]}"
        if name != "empty" and answer.body.count(b'"name"') != 10:
            return f"it does not list ten instances: {answer.text[:200]}"
