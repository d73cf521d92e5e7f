#!/usr/bin/env python3
"""Part of the stand-in for rocprof v1: from the raw text of a run to results.csv and results.stats.csv."""

import os
import re
import sys
from pathlib import Path

FIELDS = ["gpu-id", "queue-id", "queue-index", "pid", "tid", "grd", "wgr", "lds", "scr", "arch_vgpr"]
FIELDS += ["accum_vgpr", "sgpr", "wave_size", "sig", "obj"]


def main() -> None:
    output, files = Path(sys.argv[1]), [Path(path) for path in sys.argv[2:] if Path(path).exists()]
    if not files:
        return
    stats, times = os.environ["ROCPROF_TABLE_STATS"] == "1", os.environ["ROCPROF_TABLE_TIMES"] == "on"
    columns = ["Index", "KernelName", *FIELDS]
    columns += ["DispatchNs", "BeginNs", "EndNs", "CompleteNs"] if times else []
    columns += ["DurationNs"] if stats else []
    lines = [line for path in files for line in path.read_text().splitlines()]
    counters = list(dict.fromkeys(line.split()[0] for line in lines if line.startswith("  ")))
    columns[2 + len(FIELDS) : 2 + len(FIELDS)] = counters
    quote = '"' if stats else ""  # the header is quoted only where the table comes from the database
    totals: dict[str, tuple[int, int]] = {}
    rows = [",".join(f"{quote}{name}{quote}" for name in columns)]
    starts = [at for at, line in enumerate(lines) if not line.startswith("  ")]
    for index, (at, until) in enumerate(zip(starts, [*starts[1:], len(lines)], strict=True)):
        line = lines[at]
        values = dict(re.fullmatch(r"  (\S+) \((.*)\)", each).groups() for each in lines[at + 1 : until])
        name, *clock = re.search(r'kernel-name\("(.*)"\), time\((\d+),(\d+),(\d+),(\d+)\)', line).groups()
        cells = [str(index), f'"{name}"']
        for field in FIELDS:
            value = re.search(rf"\b{field}\(([^)]*)\)", line)[1]
            cells.append(f'"{value}"' if stats and field in ("sig", "obj") else value)
        cells += [f"{float(values[name]):.10f}" for name in counters]
        duration = int(clock[2]) - int(clock[1])
        cells += clock if times else []
        cells += [str(duration)] if stats else []
        rows.append(",".join(cells))
        calls, total = totals.get(name, (0, 0))
        totals[name] = calls + 1, total + duration
    output.write_text("\n".join(rows) + "\n")
    if stats:
        everything = sum(total for _, total in totals.values())
        rows = ['"Name","Calls","TotalDurationNs","AverageNs","Percentage"']
        for name, (calls, total) in sorted(totals.items(), key=lambda each: -each[1][1]):
            rows.append(f'"{name}",{calls},{total},{total // calls},{100 * total / everything}')
        output.with_suffix(".stats.csv").write_text("\n".join(rows) + "\n")


main()
