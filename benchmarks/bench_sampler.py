"""What GPU telemetry costs: 8 synthetic GPUs at 1 Hz, through AMD SMI's binding and the driver's files.

Budgets: below 0.5 % of one core and 60 MB beyond a bare interpreter, parent and telemetry process together;
less than 0.1 s added to a run by starting and ending it. The library is a stand-in built with gcc, the files
are a synthetic tree: what a real driver adds to each reading is not in these figures.
usage: bench_sampler.py [--smoke]
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "data_makers")]
import synthetic_sysfs  # noqa: E402  # its folder is put on the path above

from fake_tools import fake_amdsmi  # noqa: E402  # as above
from rocscope.collectors.telemetry import TelemetrySampler  # noqa: E402  # as above
from rocscope.collectors.telemetry_sources import TelemetrySource  # noqa: E402  # as above

SMOKE = "--smoke" in sys.argv
WINDOW_S, GPUS, HZ = (3 if SMOKE else 30), 8, 1.0
CPU_BUDGET_FRAC, MEMORY_BUDGET_MB, START_BUDGET_S = 0.005, 60, 0.1


def rss_mb(process: psutil.Process) -> float:
    return process.memory_info().rss / 1e6


def bare_interpreter_mb() -> float:
    with psutil.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=-1) as process:
        time.sleep(0.5)
        found = rss_mb(process)
        process.stdin.close()
    return found


def cpu_s(*processes: psutil.Process) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def measure(way: TelemetrySource) -> bool:
    ours = psutil.Process()
    before_mb = rss_mb(ours)
    sampler = TelemetrySampler([way], HZ)
    while not len(sampler.readings):
        time.sleep(0.05)
    child = psutil.Process(sampler._process.pid)  # measured from outside, as top does
    time.sleep(0.5)
    began, used, started_s = time.monotonic(), cpu_s(ours, child), cpu_s(child)
    time.sleep(WINDOW_S)
    frac = (cpu_s(ours, child) - used) / (time.monotonic() - began)
    memory = rss_mb(child) - bare_interpreter_mb() + rss_mb(ours) - before_mb
    ticks = sampler._ticks  # as above
    assert sampler.stop(), "the sampler did not end"
    rows = len(sampler.readings)
    columns = sampler.readings.columns()
    took = [v for name, v in zip(columns.metric[0], columns.values, strict=True)
            if columns.metric[1][name] == "telemetry_read_s"]  # fmt: skip
    print(
        f"{way.name}: {GPUS} GPUs at {HZ:g} Hz for {WINDOW_S} s: {frac:.2%} of one core (budget "
        f"{CPU_BUDGET_FRAC:.1%}), {memory:.1f} MB beyond the interpreter (budget {MEMORY_BUDGET_MB} MB); "
        f"{ticks} ticks, {rows} rows, {statistics.median(took) * 1e3:.1f} ms to read all; once at its start "
        f"{started_s:.2f} s of CPU"
    )
    return frac < CPU_BUDGET_FRAC and memory < MEMORY_BUDGET_MB


def start_and_end_s(way: TelemetrySource) -> float:
    times = []
    for _ in range(3 if SMOKE else 15):
        began = time.perf_counter()
        TelemetrySampler([way], HZ).stop()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


with tempfile.TemporaryDirectory() as folder:
    place = Path(folder)
    for index in range(GPUS):
        synthetic_sysfs.card(
            place / "sys",
            index,
            blob=synthetic_sysfs.table(3, synthetic_sysfs.MI100),
            node=index + 1,
            hwmon__power1_cap="290000000",
            ras__umc_err_count="ue: 0\nce: 0",
        )
    ways = [TelemetrySource("sysfs", str(place / "sys"))]
    if shutil.which("gcc"):
        os.environ["ROCM_PATH"] = str(fake_amdsmi.install(place / "rocm"))
        os.environ["FAKE_AMDSMI"] = str(place / "told")
        fake_amdsmi.tell(place / "told", gpus=GPUS)
        ways.insert(0, TelemetrySource("amdsmi"))
    else:
        print("amdsmi: no gcc to build the stand-in for libamd_smi.so with")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    kept = [measure(way) for way in ways]
    added = max(start_and_end_s(way) for way in ways)
    print(f"starting and ending it: {added * 1e3:.0f} ms; budget {START_BUDGET_S * 1e3:.0f} ms")
sys.exit(0 if SMOKE or (all(kept) and added < START_BUDGET_S) else 1)
