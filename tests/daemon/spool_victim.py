"""Kills a daemon's spool and analysis at random instants while files are dropped; tells what came of it.

Run as a program, as it forks: ``spool_victim.py FOLDER KILLS SEED CHILD``; CHILD is the analysis' module or a
path of a stand-in. ``--recording FILE`` drops that recording, told apart by bytes behind its end.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from making import RealClock, make_context

from rocscope.daemon import analysis, spool, store_spool, store_windows
from rocscope.daemon.analysis import Analysis
from rocscope.daemon.settings import Settings
from rocscope.daemon.spool import Spool
from rocscope.daemon.state_dir import StateDir
from rocscope.daemon.store import Store
from rocscope.daemon.wall_clock import WallClock

EACH = 3  # contents that are dropped in each round, one of them bad, and one of them twice


def settings(folder):
    return Settings.model_validate(
        {
            "state": {"folder": folder, "min_free_bytes": 1},
            "spool": {"settle_s": 0.05, "scan_s": 0.2},
            "regressions": {"enabled": False},
        }
    )


async def work(folder, command, until_idle):
    spool.CALM_S = 0.02
    analysis.LOOK_S = 0.5
    with StateDir.claim(folder) as state:
        store = Store.open(state, WallClock())
        context = make_context(settings(folder), store=store, folder=state, clock=RealClock())
        parts = context.parts = {"analysis": Analysis(context), "spool": Spool(context)}
        parts["analysis"].command = command
        tasks = [asyncio.create_task(part.run()) for part in parts.values()]
        while not until_idle or not idle(state, store):
            await asyncio.sleep(0.1)
            for task in tasks:
                assert not task.done(), task.exception()
        for part in reversed(parts.values()):
            await part.stop()
        await asyncio.gather(*tasks)
        assert store.close()


def idle(state, store):
    with store.read() as connection:
        left = store_spool.unfinished(connection)
    return not left and not any(state.spool.iterdir()) and not any(state.work.iterdir())


def drop(folder, name, content):
    (folder / f"{name}.tmp").write_bytes(content)
    (folder / f"{name}.tmp").rename(folder / name)


def contents(number, recording):
    if recording is None:
        return (b"bad %d" if number % EACH == 0 else b"%d") % number
    return (
        b"bad %d" % number if number % EACH == 0 else recording + bytes(number + 1)
    )  # zeros behind a gzip are padding


def look(folder, dropped):
    """Return what is wrong after all has settled."""
    with StateDir.claim(folder) as state:
        store = Store.open(state, WallClock())
        with store.read() as connection:
            spooled = store_spool.latest(connection, 1_000_000)
            windows = store_windows.listing(connection, 1_000_000)
            twice = connection.execute(
                "SELECT window_id FROM window_families GROUP BY window_id, gpu, family HAVING count(*) > 1"
            ).fetchall()
            families = {
                row[0] for row in connection.execute("SELECT DISTINCT window_id FROM window_families")
            }
        assert store.close()
        states = Counter(row.state for row in windows)
        kept = [json.loads(path.read_text())["name"] for path in state.quarantine.glob("*/reason.json")]
        places = sorted(path.name for path in state.windows.glob("date=*/*"))
    wrong = [f"results doubled: {twice}"] if twice else []
    bad = sum(number % EACH == 0 for number in range(dropped))
    if len(spooled) != dropped or states != {"done": dropped - bad, "failed": bad}:
        wrong.append(f"of {dropped} contents: {len(spooled)} in the ledger, {dict(states)}")
    done = sorted(row.id for row in windows if row.state == "done")
    if done != places or set(done) != families:
        wrong.append("ledger and results differ")
    if len(kept) != len(set(kept)) or len(kept) != bad:
        wrong.append(f"{len(kept)} in quarantine, of {bad}")
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("kills", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("child")
    parser.add_argument("--recording", type=Path)
    parser.add_argument("--longest-s", type=float, default=1.5)
    given = parser.parse_args()
    recording = given.recording.read_bytes() if given.recording else None
    command = (
        [sys.executable, given.child]
        if given.child.endswith(".py")
        else [sys.executable, "-P", "-m", given.child]
    )
    chance, dropped, reached = random.Random(given.seed), 0, Counter()
    with StateDir.claim(given.folder):
        pass
    for kill in range(given.kills + 1):
        last = kill == given.kills
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(work(given.folder, command, last))
                os._exit(0)
            finally:
                os._exit(3)
        for _ in range(0 if last else EACH):
            drop(given.folder / "spool", f"f{dropped}", contents(dropped, recording))
            if dropped % EACH == 1:
                drop(given.folder / "spool", f"again{dropped}", contents(dropped, recording))
            dropped += 1
        if not last:
            time.sleep(chance.uniform(0.1, given.longest_s))
            os.kill(child, signal.SIGKILL)
            reached[len(list((given.folder / "work").iterdir()))] += 1
        _, status = os.waitpid(child, 0)
        if last and status:
            return {"wrong": [f"it ended with {status}"], "seed": given.seed}
    wrong = look(given.folder, dropped)
    return {"kills": given.kills, "contents": dropped, "seed": given.seed, "in_work": dict(reached)} | (
        {"wrong": wrong} if wrong else {}
    )


if __name__ == "__main__":
    print(json.dumps(main()))
