"""A process in the place of a window's that does what none should; the engine of its orders says how."""

import json
import os
import sys
import time
from pathlib import Path


def main():
    orders = json.loads(sys.stdin.readline())
    WAYS[orders["engine"].rpartition("/")[2] if "/" in orders["engine"] else orders["engine"]]()


def say(**message):
    print(json.dumps(message), flush=True)


def long_line():
    say(moment="starting")
    sys.stdout.write("x" * (9 << 20) + "\n")
    say(moment="stopped")
    say(done="/capture", bytes=3)


def endless_line():
    say(moment="starting")
    while True:
        sys.stdout.write("x" * 65536)
        sys.stdout.flush()


def looks():
    say(
        done="",
        environment=sorted(os.environ),
        descriptors=sorted(int(each.name) for each in Path("/proc/self/fd").iterdir())[
            :-1
        ],  # the last is of the look
        leads=os.getpgid(0) == os.getpid(),
        program=Path(sys.executable).is_absolute(),
    )


def leaves():
    """Leave behind what is in no group of ours and holds our output."""
    if os.fork() == 0:
        os.setsid()
        time.sleep(8)
        os._exit(0)
    time.sleep(600)


def noisy():
    say(moment="starting")
    say(moment="started")
    while True:
        sys.stderr.write("x" * 65536)
        time.sleep(0.001)


WAYS = {
    "long": long_line,
    "endless": endless_line,
    "looks": looks,
    "leaves": leaves,
    "noisy": noisy,
}

if __name__ == "__main__":
    main()
