"""Kills a writer of the store at random instants, and looks each time at what it left.

Run as a program, as it forks: ``store_victim.py FOLDER KILLS SEED``. The writer tells on a pipe what was
accepted, after its future was done; what it told must be there, once.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from daemon_clocks import NOON, Hands

from rocscope.daemon import store_events, store_samples, store_windows
from rocscope.daemon.state_dir import StateDir
from rocscope.daemon.store import Store
from rocscope.daemon.store_samples import Bucket


def write_on(folder, first, told):
    """Write until killed: events one by one, samples, windows with their result."""
    store_samples.SETTLE_ROWS = 7  # so that kills fall on that too
    state = StateDir.claim(folder)
    store = Store.open(state, Hands().clock())
    number = first
    while True:
        ts = int(NOON) + 10 * number
        text = str(number)
        result = {
            "window_id": f"w{number}",
            "families": [{"gpu": "0", "family": "gemm", "busy_s": 1.0}],
            "findings": [{"id": f"f{number}", "at": NOON, "kind": "slower"}],
        }
        futures = {
            "event": store.event("window", text),
            "samples": store.add_samples([Bucket("host", "host", "load", 10, ts, 1, 1.0, 1.0, 1.0)]),
            "created": store.write(
                lambda c, n=number: store_windows.create(c, f"w{n}", "operator", NOON + n)
            ),
            "done": store.write(lambda c, r=result: store_windows.commit_window_result(c, r)),
        }
        for name, future in futures.items():
            future.result()
            os.write(told, f"{name} {number}\n".encode())
        number += 1


def look(folder, accepted):
    """Return what is wrong, and the highest number that was begun."""
    with StateDir.claim(folder) as state:  # the dead one's lock is no obstacle
        store = Store.open(state, Hands().clock())
        with store.read() as connection:
            sound = connection.execute("PRAGMA integrity_check").fetchone()[0]
            events = [int(each.text) for each in store_events.latest(connection, 1_000_000)]
            points = store_samples.draw(connection, "host", "load", NOON, NOON + 1e6, most=200_000).points
            windows = {row.id: row for row in store_windows.listing(connection, 1_000_000)}
            families = dict(connection.execute("SELECT window_id, count(*) FROM window_families GROUP BY 1"))
            findings = dict(connection.execute("SELECT window_id, count(*) FROM findings GROUP BY 1"))
        assert store.close()
    wrong = [] if sound == "ok" else [sound]
    wrong += [f"event {n}" for n in events if events.count(n) != 1] if len(set(events)) < len(events) else []
    wrong += [f"event {n} lost" for n in accepted["event"] - set(events)]
    wrong += [f"samples of {point.ts} doubled" for point in points if point.n != 1]
    wrong += [f"samples {n} lost" for n in accepted["samples"] - {(p.ts - int(NOON)) // 10 for p in points}]
    wrong += [f"window {n} lost" for n in accepted["created"] if f"w{n}" not in windows]
    wrong += [f"result {n} lost" for n in accepted["done"] if windows[f"w{n}"].state != "done"]
    done = {row.id: 1 for row in windows.values() if row.state == "done"}
    wrong += ["a result is half there"] if families != done or findings != done else []
    numbers = [*events, *(int(name[1:]) for name in windows), *((p.ts - int(NOON)) // 10 for p in points)]
    return wrong, max(numbers, default=-1)


def main(folder, kills, seed):
    chance = random.Random(seed)
    accepted = {name: set() for name in ("event", "samples", "created", "done")}
    first, longest_s = 0, 0.15
    for kill in range(kills):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                write_on(folder, first, write)
            finally:
                os._exit(3)
        os.close(write)
        time.sleep(chance.uniform(0, longest_s))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(read) as stream:
            for line in stream:
                if line.endswith("\n"):
                    name, number = line.split()
                    accepted[name].add(int(number))
        wrong, last = look(folder, accepted)
        if wrong:
            return {"kill": kill, "seed": seed, "wrong": wrong[:10]}
        first = last + 1
    return {"kills": kills, "accepted": {name: len(numbers) for name, numbers in accepted.items()}}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
