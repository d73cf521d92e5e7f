"""Launch kernels of which everything is known beforehand, and say as JSON what must be true of them.

Runs in any Python that has torch with a GPU (and Triton, for all kernels but two); it imports nothing else
but the two files beside it, so that it can be carried to a container. A profiler that watches it must see
each kernel as often, with such a grid and such traffic as is printed here. Sizes and counts are fixed: two
runs launch the same. Times are those of the GPU's events around several launches. What is being run is said
on standard error.
usage: known_kernels.py [--device N] [--output FOLDER] [--energy-seconds S] [--verify] [--probe]
"""

import argparse
import json
import math
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

try:
    import torch
except ImportError:
    sys.exit("this Python has no torch")

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out
from known_cases import LIBRARY_CASES, TRITON_CASES, WARPS, Case, busy, fma_case, triton

WARM = 2  # launches that compile and fill caches, not timed
BATCHES, EACH = 5, 10  # timed launches: so often, so many between two events
AHEAD = 3  # launches of the load before them, so that they wait in the queue, one behind the other
SPINS = 60  # launches of the vector loop before all else, for clocks to rise
EMPTY_LAUNCHES = 100


def say(text: str) -> None:
    """Tell whoever waits what is being run."""
    print(f"known kernels: {text}", file=sys.stderr, flush=True)


def timed(case: Case, ahead: Any) -> dict[str, Any]:
    """Launch a case; return what a launch took by the GPU's events, and whether the launches had no gaps.

    ``ahead`` keeps the GPU busy while they are put into its queue.
    """
    case.run(WARM)
    torch.cuda.synchronize()
    each = EMPTY_LAUNCHES // BATCHES if case.truth["case"] == "empty" else EACH
    times, waited = [], []
    for _ in range(BATCHES):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(AHEAD):
            ahead()
        first.record()
        case.run(each)
        last.record()
        waited.append(not first.query())
        torch.cuda.synchronize()
        times.append(first.elapsed_time(last) * 1e6 / each)
    return {
        "timed_launches": each * BATCHES,  # the last of all
        "event_ns": statistics.median(times),
        "event_least_ns": min(times),
        "event_most_ns": max(times),
        "queued": all(waited),  # else the events include waiting for the host
    }


def verified(case: Case) -> dict[str, Any]:
    """Hold the result against torch's, in 64 bit: the largest error as a share of the largest value."""
    found, expected = case.reference()
    expected = expected.double()
    scale = max(float(expected.abs().max()), 1e-30)
    error = float((found.double() - expected).abs().max()) / scale
    return {"result_error_frac": error if math.isfinite(error) else None}


def watched(seconds: float, threads: int) -> dict[str, Any]:
    """Keep the GPU busy for so long, and say when; clock: since boot."""
    say(f"load for {seconds:g} s")
    case = fma_case(threads, "load")
    case.run(SPINS)
    torch.cuda.synchronize()
    began = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    while time.clock_gettime_ns(time.CLOCK_BOOTTIME) - began < seconds * 1e9:
        case.run(20)
        torch.cuda.synchronize()
    ended = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return {"start_boottime_ns": began, "end_boottime_ns": ended, "launches": case.launched}


def wave_size(properties: Any) -> int:
    """Return how many threads a wave has here."""
    if getattr(properties, "warp_size", None):
        return int(properties.warp_size)
    return 64 if torch.version.hip and properties.gcnArchName.startswith("gfx9") else 32


def described(index: int) -> dict[str, Any]:
    """Say what device this is."""
    properties = torch.cuda.get_device_properties(index)
    arch = properties.gcnArchName if torch.version.hip else f"sm_{properties.major}{properties.minor}"
    return {
        "index": index,
        "count": torch.cuda.device_count(),
        "name": properties.name,
        "arch": arch,
        "compute_units": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "wave_size": wave_size(properties),
    }


def first_line(error: BaseException) -> str:
    """Say in a line what went wrong."""
    return f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0][:200]}"


def all_cases(threads: int, *, verify: bool) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Run every case; return the truth of each, and why others could not be run."""
    found: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    if triton is None:
        left_out = dict.fromkeys(TRITON_CASES, "this Python has no Triton")
    ahead = busy(threads)
    makers = {**(TRITON_CASES if triton is not None else {}), **LIBRARY_CASES}
    for name, make in makers.items():
        say(name)
        try:
            case = make(threads)
            if name == "fma":
                case.run(SPINS)
            times = timed(case, ahead)
            checked = verified(case) if verify else {}
            found.append({**case.truth, **times, **checked, "launches": case.launched})
        except Exception as error:  # noqa: BLE001  # what torch and Triton raise differs by version and card
            left_out[name] = first_line(error)
        case = None
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    return found, left_out


def main() -> None:
    """Run all kernels on one device and print what must be true of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--output", type=Path, help="folder for PID.json, in place of standard output")
    parser.add_argument("--energy-seconds", type=float, default=0.0, help="of load, for the energy meter")
    parser.add_argument("--verify", action="store_true", help="hold the results against torch's")
    parser.add_argument("--probe", action="store_true", help="only say what device and software this is")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("torch sees no GPU in this Python")
    count = torch.cuda.device_count()
    if options.device not in range(count):
        sys.exit(f"torch sees {count} GPUs: there is no device {options.device}")
    torch.cuda.set_device(options.device)
    device = described(options.device)
    result: dict[str, Any] = {
        "schema_version": "1",
        "pid": os.getpid(),
        "start_boottime_ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        "device": device,
        "software": {
            "torch": torch.__version__,
            "runtime": torch.version.hip or torch.version.cuda,
            "triton": getattr(triton, "__version__", None),
        },
    }
    if not options.probe:
        threads = WARPS * device["wave_size"]
        torch.manual_seed(0)
        result["kernels"], result["left_out"] = all_cases(threads, verify=options.verify)
        runs = "fma" not in result["left_out"]
        result["energy"] = (
            watched(options.energy_seconds, threads) if runs and options.energy_seconds else None
        )
    text = json.dumps(result, indent=1)
    if options.output is None:
        print(text)
        return
    options.output.mkdir(parents=True, exist_ok=True)
    partial = options.output / f"{os.getpid()}.part"
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(options.output / f"{os.getpid()}.json")


if __name__ == "__main__":
    main()
