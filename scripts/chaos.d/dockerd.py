# q: the same estate on an engine of its own, which really is killed with -9 again and again.
# That dockerd lives in namespaces of its own (processes, network, mounts), so bridges, iptables rules and mounts are nobody else's and end with it.
import concurrent.futures
import contextlib
import ctypes
import glob
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from engine import docker
from estate import Estate, Trouble, change_for
from stack import Stack, wait_until

IMAGES = ["nginx:latest", "redis:7-alpine", "haproxy:2.8-alpine", "python:3.12-alpine", "node:20-alpine"]

CLONE_NEWNET = 0x40000000


class Dockerd:
    """Use as a context: a dockerd without containers and with our images."""

    # The first process of the namespaces gathers up who loses its parents; with it all others end. The tmpfs hides the system's containerd.
    FIRST = """
        set -e
        ip link set lo up
        mkdir -p /run/containerd
        mount -t tmpfs none /run/containerd
        echo ready
        while :; do sleep 1; done"""

    def __enter__(self):
        # Short, because paths of sockets are.
        self.folder = tempfile.mkdtemp(prefix="tcq", dir="/tmp")
        os.chmod(self.folder, 0o755)
        self.host, self.cgroup = f"unix://{self.folder}/docker.sock", os.path.basename(self.folder)
        self.log = open(f"{self.folder}/dockerd.log", "ab")
        with open(f"{self.folder}/daemon.json", "w") as settings:
            settings.write("{}")
        self.unshare = self.nsenter = None
        try:
            self.unshare = subprocess.Popen(
                ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", self.FIRST], stdout=subprocess.PIPE)
            if self.unshare.stdout.readline() != b"ready\n":
                raise RuntimeError("no namespaces are to be had")
            self.first = children(self.unshare.pid)[0]
            self.start()
            self.load()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.unshare:
            self.unshare.kill()
            self.unshare.wait()
        if self.nsenter:
            self.nsenter.wait()
        self.log.close()
        # Mounts and processes go a moment after the first one.
        wait_until(lambda: not mentions(self.folder), 30)
        shutil.rmtree(self.folder, ignore_errors=True)
        for place in glob.glob(f"/sys/fs/cgroup/**/{self.cgroup}", recursive=True):
            for path, _, _ in os.walk(place, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(path)

    def start(self):
        f = self.folder
        self.nsenter = subprocess.Popen(
            ["nsenter", "--target", str(self.first), "--mount", "--net", "--pid", "dockerd", "--config-file", f"{f}/daemon.json", "--host", self.host,
             "--data-root", f"{f}/data", "--exec-root", f"{f}/run", "--pidfile", f"{f}/docker.pid", "--bridge", "none",
             "--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", f"/{self.cgroup}"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        if wait_until(self.answers, 60) is None:
            raise RuntimeError("the dockerd of its own does not answer: " + subprocess.run(["tail", "-3", self.log.name], capture_output=True, text=True).stdout)

    def answers(self):
        return subprocess.run(["docker", "--host", self.host, "version"], capture_output=True).returncode == 0

    def kill(self):
        """kill -9, some rest, and a start."""
        os.kill(children(self.nsenter.pid)[0], signal.SIGKILL)
        self.nsenter.wait()
        time.sleep(random.uniform(0, 2))
        self.start()

    def mend(self):
        """What an operator has to do, because this Docker forgets what it was just starting when it ended: it keeps the ports until its next end,
        and never ends the processes, whose addresses are then taken. Says what it was."""
        lost = self.lost_ports() and (time.sleep(5) or self.lost_ports())
        if lost:
            os.kill(children(self.nsenter.pid)[0], signal.SIGTERM)
            self.nsenter.wait()
            self.start()
        forgotten = self.forgotten()
        for pid in forgotten:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        return f"{len(lost)} ports and {len(forgotten)} processes that it forgot given back"

    def lost_ports(self):
        listening = subprocess.run(["nsenter", "--target", str(self.first), "--net", "ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
        used = docker("ps", "--format", "{{.Ports}}", host=self.host)
        return {line.split()[3].rpartition(":")[2] for line in listening.splitlines()} - set(re.findall(r":(\d+)->", used))

    def forgotten(self):
        """Processes in its containers, and their shims, of which it knows nothing."""
        found = {}
        for path in glob.glob("/proc/[0-9]*"):
            with contextlib.suppress(OSError):
                told = open(f"{path}/cgroup").read() + open(f"{path}/cmdline").read().replace("\0", " ")
                if mark := re.search(rf"/{self.cgroup}/([0-9a-f]{{64}})|-id ([0-9a-f]{{64}}) .*{self.folder}/", told):
                    found[int(path[6:])] = mark[1] or mark[2]
        known = docker("ps", "-aq", "--no-trunc", host=self.host).split()
        return [pid for pid, container in found.items() if container not in known]

    def load(self):
        """All at once: layers that several share come once."""
        with subprocess.Popen(["docker", "save", *IMAGES], stdout=subprocess.PIPE) as saved:
            subprocess.run(["docker", "--host", self.host, "load", "--quiet"], stdin=saved.stdout, stdout=subprocess.DEVNULL, check=True)

    def dial(self, port):
        """A connection to a port that is published in there: a socket belongs to the network of the thread that makes it."""
        def made():
            with open(f"/proc/{self.first}/ns/net") as network:
                if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            return socket.create_connection(("127.0.0.1", port), 5)

        with concurrent.futures.ThreadPoolExecutor(1) as other:
            return other.submit(made).result()


def children(pid):
    return [int(child) for child in open(f"/proc/{pid}/task/{pid}/children").read().split()]


def mentions(folder):
    """Processes that were started with a path in the folder, and mounts below it."""
    found = [line for line in open("/proc/mounts") if f"{folder}/" in line]
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"{folder}/" in open(path, errors="replace").read():
                found.append(path)
    return found


def published(image):
    """Whether a container of the system's engine answers at a published port."""
    container = docker("run", "-d", "--label", "thecloud.chaos=q", "-p", "127.0.0.1::80", image)
    try:
        port = int(docker("port", container, "80").rpartition(":")[2])

        def answers():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as peer:
                peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return peer.recv(12).startswith(b"HTTP/1.1 200")

        return wait_until(answers, 30) is not None
    finally:
        docker("rm", "-fv", container)


def killed(ledger, world):
    ledger.begin("q", "the same estate on a dockerd of its own, which is killed with -9 at random moments")
    with Dockerd() as own:
        with Stack("third", THECLOUD_SCRYPT="ln=10,r=8,p=1", THECLOUD_NETWORK_POOL="10.160.0.0/12", DOCKER_HOST=own.host) as stack:
            estate = Estate(stack, world.account("q", stack), world.image, own.host, own.dial)
            # Four in all: after six early ends a container rightly is in ERROR.
            share = max(world.seconds / 4, 10)
            for what, deeds in (("built", [estate.build]), ("changed", [])):
                with Trouble(own.kill, share / 8, share / 3, 2) as killing:
                    change_for(share, *deeds, estate.churn)
                    killing.join(120)
                wait_until(lambda: not estate.unsettled(), 20, 0.5)
                estate.check(ledger, f"{what}; dockerd killed {killing.done} times, {own.mend()}")
                estate.mark()
            estate.remembers(ledger)
            with Trouble(own.kill, 0, 2, 1) as killing:
                estate.delete()
                killing.join(60)
            ledger.check("deleted; dockerd killed", "once", killing.done, killing.done == 1)
            estate.check_gone(ledger)
    left = mentions(own.folder)
    ledger.check("processes and mounts of that dockerd", "none", left or "none", not left)
    ledger.check("docker run -p on the system's dockerd", "still answers", "so" if (answers := published(world.image)) else "does not", answers)
