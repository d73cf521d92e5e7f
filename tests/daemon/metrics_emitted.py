"""The names and labels that a daemon really emits, from a scrape of one in this process."""

import asyncio
import re

from http_serving import Windows, serving, write

from rocscope.daemon import store_windows
from rocscope.daemon.metric_names import COUNTERS, GAUGES
from rocscope.daemon.metrics import DaemonCollector

NAME = re.compile(r"\brocscope_[a-z0-9_]+")


def emitted(folder):
    """Return label names by the name of each metric; ``None`` for one that this daemon had no value for."""

    async def scenario():
        async with serving(folder, gpus=1, parts={"windows": Windows}) as (context, _):
            wall, now = context.clock.wall_s(), context.clock.monotonic_s()
            rows = [{"gpu": "0", "family": "gemm", "dispatches": 1, "busy_s": 1.0, "bytes": 1.0,
                     "flops": 1.0, "bytes_basis": "modelled",
                     "flops_basis": "modelled", "bandwidth_frac": 0.5}]  # fmt: skip

            def group(connection):
                store_windows.create(connection, "w1", "schedule", wall, started_at=wall)
                store_windows.commit_window_result(connection, {"window_id": "w1", "families": rows})

            await write(context, group)
            context.history.add_all(now, "daemon", "daemon", {"cpu_s": 1.0, "rss_bytes": 1.0})
            values = dict.fromkeys([each.metric for each in (*GAUGES, *COUNTERS)], 1.0)
            context.history.add_all(now, "telemetry", "gpu:0000:00:00.0", values)
            context.part("telemetry").cpu_s = 1.0
            context.store.measured(1000, 2000)
            return DaemonCollector(context).text()

    page = asyncio.run(scenario())
    found = dict.fromkeys(re.findall(r"^# TYPE (\S+) ", page, re.MULTILINE))
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", page, re.MULTILINE):
        found[name] = frozenset(re.findall(r'(\w+)="', labels))
    return found
