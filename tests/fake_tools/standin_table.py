#!/usr/bin/env python3
"""Part of the stand-in for rocprof v1: from the raw text of one process to results.csv and results.stats.csv."""

import os
import re
import sys

FIELDS = "gpu-id queue-id queue-index pid tid grd wgr lds scr arch_vgpr accum_vgpr sgpr wave_size sig obj".split()


def main():
    output, files = sys.argv[1], [path for path in sys.argv[2:] if os.path.exists(path)]
    if not files:
        return
    stats, times = os.environ["ROCPROF_TABLE_STATS"] == "1", os.environ["ROCPROF_TABLE_TIMES"] == "on"
    columns = ["Index", "KernelName", *FIELDS]
    columns += ["DispatchNs", "BeginNs", "EndNs", "CompleteNs"] if times else []
    columns += ["DurationNs"] if stats else []
    quoted = (lambda name: f'"{name}"') if stats else str
    totals = {}
    with open(output, "w") as table:
        table.write(",".join(map(quoted, columns)) + "\n")
        index = 0
        for line in (line for path in files for line in open(path)):
            name = re.search(r'kernel-name\("(.*)"\), time', line)[1]
            clock = re.search(r"time\((\d+),(\d+),(\d+),(\d+)\)", line).groups()
            cells = [str(index), f'"{name}"']
            for field in FIELDS:
                value = re.search(rf"\b{field}\(([^)]*)\)", line)[1]
                cells.append(f'"{value}"' if stats and field in ("sig", "obj") else value)
            duration = int(clock[2]) - int(clock[1])
            cells += clock if times else []
            cells += [str(duration)] if stats else []
            table.write(",".join(cells) + "\n")
            calls, total = totals.get(name, (0, 0))
            totals[name] = calls + 1, total + duration
            index += 1
    if stats:
        everything = sum(total for _, total in totals.values())
        with open(output[: -len("csv")] + "stats.csv", "w") as table:
            table.write('"Name","Calls","TotalDurationNs","AverageNs","Percentage"\n')
            for name, (calls, total) in sorted(totals.items(), key=lambda each: -each[1][1]):
                table.write(f'"{name}",{calls},{total},{total // calls},{100 * total / everything}\n')


main()
