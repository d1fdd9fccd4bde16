# The order of the trials, and the two stacks they work on.
import argparse
import os
import random
import shutil
import sys
import tempfile
import traceback

import canary
import credentials
import cron_jobs
import database
import dockerd
import egress
import engine
import estate
import gateway
import live
import sockets
import queues
import topics
import workers
from forwarder import Forwarder
from ledger import Ledger
from stack import Account, Stack, end_orderly, free_port

TRIALS = {
    "a": workers.killing, "b": workers.replacing, "c": database.restarting, "d": engine.living_together, "e": engine.unreachable,
    "f": engine.dying_cron, "g": engine.killed_containers, "h": canary.planting, "i": credentials.guessing, "j": credentials.ending,
    "k": sockets.living, "l": cron_jobs.dying, "m": queues.consuming, "n": live.subscribing, "o": topics.publishing,
    "p": estate.surviving, "q": dockerd.killed, "r": gateway.passing, "s": egress.refusing,
}


class World:
    """What the trials work on: `main` reaches Docker through `engine`, which can be cut; `other` is there for d only."""

    image = "nginx:latest"

    def __init__(self, seconds, smtp_port):
        self.seconds, self.smtp_port = seconds, smtp_port
        self.main = self.other = self.engine = None

    def account(self, name, stack=None):
        return Account(stack or self.main, f"{name}.{random.getrandbits(40):x}@chaos.example")

    def instance(self, name):
        return {"name": name, "image": self.image, "command": ["sleep", "100000"], "instance_type": "micro"}


def options():
    parser = argparse.ArgumentParser(prog="scripts/chaos", description="Breaks a throw-away stack in every way it must survive, and prints a ledger.")
    parser.add_argument("--seconds", type=int, default=60, help="how long children are killed (60)")
    parser.add_argument("--only", default=",".join(TRIALS), help="letters of the trials to run: a,b,…,s")
    chosen = parser.parse_args()
    chosen.only = [letter for letter in chosen.only.split(",") if letter]
    if unknown := [letter for letter in chosen.only if letter not in TRIALS]:
        parser.error(f"there is no trial {unknown[0]}")
    if not 1 <= chosen.seconds <= 3600:
        parser.error("--seconds must be from 1 to 3600")
    return chosen


def main():
    chosen = options()
    end_orderly()
    ledger, world = Ledger(), World(chosen.seconds, free_port())
    place = tempfile.mkdtemp(prefix="thecloud-engine.")
    os.chmod(place, 0o755)
    cheap = {"THECLOUD_SCRYPT": "ln=10,r=8,p=1"}
    try:
        # The first one starts dockerd where none runs, which the forwarder needs; it also builds.
        with Stack("second", **cheap) as world.other:
            if not os.environ.get("THECLOUD_BIN"):
                os.environ["THECLOUD_BIN"] = shutil.copytree(f"{world.other.state}/bin", f"{world.other.folder}/bin")
            world.engine = Forwarder(f"{place}/docker.sock")
            world.engine.start()
            with Stack("first", **cheap, THECLOUD_API_CHILDREN="2", DOCKER_HOST=world.engine.host, THECLOUD_SMTP_URL=f"smtp://127.0.0.1:{world.smtp_port}") as world.main:
                for letter in chosen.only:
                    try:
                        TRIALS[letter](ledger, world)
                    except Exception as error:
                        traceback.print_exc()
                        ledger.check("the trial", "goes to its end", repr(error), False)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(f"\n{len(ledger.lines)} checks, {ledger.failures} failed")
    sys.exit(1 if ledger.failures else 0)


main()
