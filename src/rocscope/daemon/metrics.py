"""``/metrics``: everything that Prometheus is told, from one look at the daemon.

A value that stopped coming is left out, never repeated. What is bounded is bounded here: GPUs by what the
node has, families by the closed list, no kernel's name, no engine's own series.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from rocscope.daemon import views
from rocscope.daemon.kernel_totals import KernelTotals
from rocscope.daemon.metric_names import COUNTERS, DEVICE_LABELS, GAUGES, IN_WINDOWS, SLOW, SLOW_FRESH_S
from rocscope.daemon.window_run import TriggerKind
from rocscope.untrusted import visible

if TYPE_CHECKING:
    from rocscope.collectors.gpu_device import Device
    from rocscope.daemon.context import Context

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
FRESH_S: Final = 5.0
MOST_GPUS: Final = 64
_FAMILY_LABELS: Final = ("gpu", "family")
_BASIS_LABELS: Final = ("gpu", "family", "basis")
_STALE_S: Final = 900.0
_OPENED: Final = ("ok", "failed", "aborted")  # counted by what asked for them; what was skipped, by why


class DaemonCollector(Collector):
    """Collects once for each scrape; made for one context, in the event loop's thread."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.totals = KernelTotals(context.facts.started_wall_s)
        self._throttled_s: dict[tuple[str, str], float] = {}  # by bdf and reason
        self._seen_s = context.clock.monotonic_s()

    def text(self) -> str:
        """Return the whole page."""
        from prometheus_client import generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry).decode("utf-8")

    def describe(self) -> list[Metric]:
        """Nothing is collected when it is registered."""
        return []

    def refresh(self) -> None:
        """Bring the totals up to date; called now and then also where nobody scrapes."""
        self._integrate()
        try:
            with self._context.store.read() as connection:
                self.totals.update(connection, self._context.clock.wall_s())
        except Exception:  # noqa: BLE001  # the store says itself what is wrong with it: no value is made up
            return

    def collect(self) -> Iterator[Metric]:
        """Give all metrics."""
        self.refresh()
        yield from self._build()
        yield from self._devices()
        yield from self._kernels()
        yield from self._windows()
        yield from self._store()
        yield from self._sampling()

    def _build(self) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "rocscope_build_info", "What runs; the value is 1.", labels=("version", "python", "telemetry")
        )
        telemetry = self._context.part("telemetry")
        way = telemetry.way if telemetry is not None else ""
        info.add_metric((self._context.facts.version, platform.python_version(), way), 1)
        yield info

    def _gpus(self) -> list[tuple[str, Device]]:
        telemetry = self._context.part("telemetry")
        devices = telemetry.devices if telemetry is not None else []
        return [(str(index), device) for index, device in enumerate(devices[:MOST_GPUS])]

    def _devices(self) -> Iterator[Metric]:
        gpus, history = self._gpus(), self._context.history
        info = GaugeMetricFamily(
            "rocscope_gpu_info", "A GPU; the value is 1.", labels=(*DEVICE_LABELS, "model", "gfx")
        )
        for index, device in gpus:
            info.add_metric((index, device.bdf, device.uuid, visible(device.name), device.arch), 1)
        yield info
        families: dict[str, Any] = {}  # of both kinds, whose add_metric take the same
        for gauge in GAUGES:
            labels = (*DEVICE_LABELS, *((gauge.label,) if gauge.label else ()))
            found = families.setdefault(gauge.name, GaugeMetricFamily(gauge.name, gauge.help, labels=labels))
            for index, device in gpus:
                value = history.latest(_subject(device), gauge.metric, _fresh_s(gauge.metric))
                if value is not None:
                    found.add_metric(_labels(index, device, [gauge.value] if gauge.label else []), value)
        for counter in COUNTERS:
            labels = (*DEVICE_LABELS, *(name for name, _ in counter.labels))
            found = families.setdefault(
                counter.name, CounterMetricFamily(counter.name, counter.help, labels=labels)
            )
            for index, device in gpus:
                value = history.latest(_subject(device), counter.metric, _fresh_s(counter.metric))
                if value is not None:
                    more = [value for _, value in counter.labels]
                    found.add_metric(_labels(index, device, more), value)
        yield from families.values()
        yield self._throttled(gpus)

    def _throttled(self, gpus: list[tuple[str, Device]]) -> Metric:
        found = CounterMetricFamily(
            "rocscope_gpu_throttled_seconds",
            "Time in which a GPU was throttled, by reason, from samples.",
            labels=(*DEVICE_LABELS, "reason"),
        )
        for index, device in gpus:
            for (bdf, reason), seconds in sorted(self._throttled_s.items()):
                if bdf == device.bdf:
                    found.add_metric((index, device.bdf, device.uuid, reason), seconds)
        return found

    def _integrate(self) -> None:
        """Add the time that samples since the last look were throttled: each counts until the next."""
        now, history = self._context.clock.monotonic_s(), self._context.history
        over_s, self._seen_s = min(_STALE_S, now - self._seen_s), now
        for _, device in self._gpus():
            for gauge in GAUGES:
                if gauge.name != "rocscope_gpu_throttled":
                    continue
                points = history.points(_subject(device), gauge.metric, over_s + FRESH_S)
                if not points:
                    continue
                key = (device.bdf, gauge.value)
                self._throttled_s.setdefault(key, 0.0)
                begins = now - over_s
                for at, (moment, value) in enumerate(points):
                    until = points[at + 1][0] if at + 1 < len(points) else min(now, moment + 1.0)
                    seconds = min(until, moment + FRESH_S) - max(moment, begins)
                    if value and seconds > 0:
                        self._throttled_s[key] += seconds

    def _kernels(self) -> Iterator[Metric]:
        totals = self.totals
        for name, text, labels, values in (
            ("rocscope_kernel_busy_seconds", "Time of a family's kernels.", _FAMILY_LABELS, totals.busy_s),
            ("rocscope_kernel_dispatches", "Dispatches of a family.", _FAMILY_LABELS, totals.dispatches),
            (
                "rocscope_kernel_bytes",
                "Bytes of device memory that a family moved.",
                _BASIS_LABELS,
                totals.bytes,
            ),
            ("rocscope_kernel_flops", "Arithmetic of a family.", _BASIS_LABELS, totals.flops),
        ):
            counter = CounterMetricFamily(name, text + IN_WINDOWS, labels=labels)
            _fill(counter, values)
            yield counter
        gauge = GaugeMetricFamily(
            "rocscope_kernel_bandwidth_utilization_ratio",
            "A family's bytes over its time and the GPU's peak, in the last window.",
            labels=_BASIS_LABELS,
        )
        _fill(gauge, totals.bandwidth)
        yield gauge

    def _windows(self) -> Iterator[Metric]:
        opened = CounterMetricFamily("rocscope_window_seconds", "Time in which a profiler was on.")
        opened.add_metric((), self.totals.open_s)
        yield opened
        windows = CounterMetricFamily(
            "rocscope_windows", "Windows by how they ended, and why.", labels=("result", "reason")
        )
        known = {(result, trigger) for result in _OPENED for trigger in get_args(TriggerKind)}
        for each in sorted(
            known | self.totals.windows.keys()
        ):  # from 0 on, so that the first one is a growth
            windows.add_metric(each, self.totals.windows.get(each, 0))
        yield windows
        cost = GaugeMetricFamily(
            "rocscope_window_overhead_ratio", "Share of tokens a second that the last measured window took."
        )
        if (found := self._overhead()) is not None:
            cost.add_metric((), found)
        yield cost
        breaker = GaugeMetricFamily("rocscope_window_breaker_open", "Whether windows stopped after failures.")
        part = self._context.part("windows")
        if part is not None:
            breaker.add_metric((), float(part.budget.broken))
        yield breaker

    def _overhead(self) -> float | None:
        status = views.windows(self._context)
        for each in status.recent if status is not None else []:
            found = (each.overhead or {}).get("overhead_frac")
            if isinstance(found, float):
                return found
        return None

    def _store(self) -> Iterator[Metric]:
        state = views.store(self._context)
        for name, text, value in (
            ("rocscope_store_bytes", "Bytes of the daemon's folder.", state.bytes),
            ("rocscope_store_limit_bytes", "Bytes that the daemon's folder may have.", state.limit_bytes),
        ):
            gauge = GaugeMetricFamily(name, text)
            if value is not None:
                gauge.add_metric((), value)
            yield gauge
        healthy = GaugeMetricFamily("rocscope_store_healthy", "Whether the store takes what is written.")
        if state.state != "unknown":
            healthy.add_metric((), float(state.state == "ok"))
        yield healthy
        spool = self._context.part("spool")
        files = CounterMetricFamily(
            "rocscope_spool_files",
            "Drops into the spool: taken, known already, refused at sight. How analyses ended is in "
            'rocscope_windows_total of reason "spool".',
            labels=("result",),
        )
        for result, count in sorted(spool.counts.items()) if spool is not None else ():
            files.add_metric((result,), count)
        yield files

    def _sampling(self) -> Iterator[Metric]:
        """Give when each source was read last, and what we cost ourselves."""
        clock, history = self._context.clock, self._context.history
        offset = clock.wall_s() - clock.monotonic_s()
        last = GaugeMetricFamily(
            "rocscope_last_sample_timestamp_seconds", "When a source was read last.", labels=("source",)
        )
        moments: dict[str, float] = {}
        for source, subject, metric in history.series():
            found = history.latest_at(subject, metric, _STALE_S)
            if found is not None:
                moments[source] = max(moments.get(source, 0.0), found[0])
        for source, at in sorted(moments.items()):
            last.add_metric((source,), at + offset)
        yield last
        cpu = CounterMetricFamily("rocscope_daemon_cpu_seconds", "CPU time of the daemon.", labels=("of",))
        memory = GaugeMetricFamily("rocscope_daemon_resident_bytes", "Memory of the daemon.", labels=("of",))
        for of, prefix in (("daemon", ""), ("children", "children_")):
            for family, metric in ((cpu, "cpu_s"), (memory, "rss_bytes")):
                value = history.latest("daemon", f"{prefix}{metric}", SLOW_FRESH_S)
                if value is not None:
                    family.add_metric((of,), value)
        yield cpu
        yield memory
        yield from self._sampling_cost()
        up = GaugeMetricFamily("rocscope_engines", "vLLM servers that are watched.", labels=("state",))
        engines = views.engines(self._context)
        up.add_metric(("up",), sum(each.up for each in engines))
        up.add_metric(("down",), sum(not each.up for each in engines))
        yield up

    def _sampling_cost(self) -> Iterator[Metric]:
        """Give what the limit of ``sampling.max_cpu_frac`` holds, each process apart: one may start anew."""
        cost = CounterMetricFamily(
            "rocscope_sampling_cpu_seconds",
            "CPU time of what runs all the time: the daemon and its telemetry process, no windows.",
            labels=("process",),
        )
        telemetry = self._context.part("telemetry")
        for process, seconds in (
            ("daemon", self._context.history.latest("daemon", "cpu_s", SLOW_FRESH_S)),
            ("telemetry", getattr(telemetry, "cpu_s", None)),
        ):
            if seconds is not None:
                cost.add_metric((process,), seconds)
        yield cost
        limit = GaugeMetricFamily(
            "rocscope_sampling_cpu_limit_ratio", "Share of one core that sampling may cost over ten minutes."
        )
        limit.add_metric((), self._context.settings.sampling.max_cpu_frac)
        yield limit


def _subject(device: Device) -> str:
    return f"gpu:{device.bdf}"


def _labels(index: str, device: Device, more: list[str]) -> list[str]:
    return [index, device.bdf, device.uuid, *more]


def _fresh_s(metric: str) -> float:
    return SLOW_FRESH_S if metric in SLOW else FRESH_S


def _fill(family: Any, values: dict[Any, float]) -> None:
    for labels, value in sorted(values.items()):
        family.add_metric(tuple(labels), value)
