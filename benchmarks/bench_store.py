"""What the daemon's store costs: a day of samples of 8 GPUs and a server, with its retention.

260 series (8 GPUs x 25 metrics, 60 of serving) as buckets of 10 s and 60 s of synthetic values with full
mantissas, the worst case on disk; every simulated minute a round of retention, every ten a view of 20 series.
Budgets: below 0.2 % of one core, 12 MB beyond a bare interpreter with SQLite, 400 MB on disk at the defaults'
ages. usage: bench_store.py [--smoke]
"""

import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "daemon")]
from daemon_clocks import NOON, Hands  # noqa: E402  # its folder is put on the path above

from rocscope.daemon import store_samples  # noqa: E402  # as above
from rocscope.daemon.retention import Limits, Retention  # noqa: E402  # as above
from rocscope.daemon.state_dir import StateDir  # noqa: E402  # as above
from rocscope.daemon.store import Store  # noqa: E402  # as above
from rocscope.daemon.store_samples import Bucket  # noqa: E402  # as above

SMOKE = "--smoke" in sys.argv
HOURS = 1 if SMOKE else 24
CPU_BUDGET_FRAC, MEMORY_BUDGET_MB, DISK_BUDGET_MB = 0.002, 12, 400
SERIES = [("telemetry", f"gpu:{gpu}", f"metric_{n}") for gpu in range(8) for n in range(25)]
SERIES += [("engine", "engine:http://127.0.0.1:8000", f"metric_{n}") for n in range(60)]
KEEP_S = {10: 6 * 3600.0, 60: 14 * 86_400.0}


def buckets(res_s, ts):
    chance = random.random
    made = []
    for source, subject, metric in SERIES:
        low = chance()
        made.append(Bucket(source, subject, metric, res_s, ts, res_s, low + 0.1, low, low + chance()))
    return made


def rss_mb():
    return psutil.Process().memory_info().rss / 1e6


def written_mb():
    """Bytes given to the system to write, whatever becomes of them."""
    return int(Path("/proc/self/io").read_text().split("wchar: ")[1].split()[0]) / 1e6


def draw(store, now, span_s):
    with store.read() as connection:
        for source, subject, metric in SERIES[:: len(SERIES) // 20]:
            store_samples.draw(connection, subject, metric, now - span_s, now, source=source)


def day(store, retention, hands):
    cpu = {"samples": 0.0, "retention": 0.0, "views": 0.0}
    start, memory = int(NOON) // 60 * 60, []
    for ts in range(start, start + HOURS * 3600, 10):
        rows = [buckets(10, ts), *([buckets(60, ts)] if ts % 60 == 0 else [])]
        began = time.process_time()
        for each in rows:
            store.add_samples(each).result()
        cpu["samples"] += time.process_time() - began
        hands.pass_s(10)
        if ts % 60 == 0:
            began = time.process_time()
            retention.collect()
            cpu["retention"] += time.process_time() - began
        if ts % 600 == 0:
            began = time.process_time()
            draw(store, ts, 3600)
            cpu["views"] += time.process_time() - began
            memory.append(rss_mb())
    return cpu, memory


with tempfile.TemporaryDirectory() as place:
    hands, before_mb = Hands(), rss_mb()
    with StateDir.claim(Path(place) / "state") as folder:
        store = Store.open(folder, hands.clock())
        limits = Limits(2 << 30, 1, KEEP_S, 90 * 86_400.0, 20, 5000, 30, 1 << 29, folder.reports)
        retention = Retention(store, lambda: limits)
        began_mb = written_mb()
        cpu, memory = day(store, retention, hands)
        wrote_mb = written_mb() - began_mb
        store.write(store_samples.settle).result()
        store.checkpoint().result()
        with store.read() as connection:
            rows = connection.execute("SELECT count(*) FROM samples").fetchone()[0]
        disk_mb = folder.database.stat().st_size / 1e6
        began = time.process_time()
        draw(store, hands.wall_s, HOURS * 3600)
        view_ms = (time.process_time() - began) / 20 * 1e3
        assert store.close()
    kept = len(SERIES) * sum(keep_s / res_s for res_s, keep_s in KEEP_S.items())
    full_mb = disk_mb / rows * kept
    share = sum(cpu.values()) / (HOURS * 3600)
    quarter = max(1, len(memory) // 4)
    grown_mb = statistics.median(memory[-quarter:]) - statistics.median(memory[quarter : 2 * quarter])
    print(
        f"{HOURS} h of {len(SERIES)} series: "
        + ", ".join(f"{name} {spent:.1f} s" for name, spent in cpu.items())
        + f" of CPU, {share:.3%} of one core (budget {CPU_BUDGET_FRAC:.1%}); {wrote_mb:.0f} MB given to write"
    )
    print(
        f"on disk {disk_mb:.1f} MB, {disk_mb / rows * 1e6:.0f} bytes a bucket; with all ages full "
        f"{full_mb:.0f} MB (budget {DISK_BUDGET_MB} MB); a series over {HOURS} h drawn in {view_ms:.1f} ms"
    )
    print(
        f"memory {max(memory) - before_mb:.1f} MB beyond the start (budget {MEMORY_BUDGET_MB} MB), "
        f"{grown_mb:+.1f} MB from the second quarter to the last"
    )
    shutil.rmtree(place, ignore_errors=True)
fits = share < CPU_BUDGET_FRAC and max(memory) - before_mb < MEMORY_BUDGET_MB and full_mb < DISK_BUDGET_MB
sys.exit(0 if SMOKE or fits else 1)
