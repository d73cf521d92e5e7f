"""The names under which Prometheus finds what the daemon knows: base units, one meaning a name.

Device series carry ``gpu`` (its place among the node's GPUs, for people), ``bdf`` and ``uuid``; kernels
appear by family alone, a closed list, never by name.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Gauge(NamedTuple):
    """A reading of a GPU: our metric, its Prometheus name, what it means, one more label."""

    metric: str
    name: str
    help: str
    label: str = ""
    value: str = ""


class Counter(NamedTuple):
    """A total of a GPU, as :class:`Gauge`; ``name`` without ``_total``."""

    metric: str
    name: str
    help: str
    labels: tuple[tuple[str, str], ...] = ()


DEVICE_LABELS: Final = ("gpu", "bdf", "uuid")

GAUGES: Final = (
    Gauge("power_w", "rocscope_gpu_power_watts", "Power of a GPU; on MI100 the firmware's average."),
    Gauge("power_cap_w", "rocscope_gpu_power_cap_watts", "Power that a GPU may take."),
    *(
        Gauge(f"temperature_{sensor}_c", "rocscope_gpu_temperature_celsius", "Temperature of a GPU.",
              "sensor", sensor)
        for sensor in ("edge", "hotspot", "memory")
    ),
    *(
        Gauge(metric, "rocscope_gpu_clock_hertz", "Clock of a GPU.", "domain", domain)
        for metric, domain in (("clock_hz", "gfx"), ("memory_clock_hz", "mem"), ("soc_clock_hz", "soc"))
    ),
    *(
        Gauge(metric, "rocscope_gpu_activity_ratio", "Share of time in which a part of a GPU was busy.",
              "engine", engine)
        for metric, engine in (("busy_frac", "gfx"), ("memory_busy_frac", "memory"))
    ),
    Gauge("vram_used_bytes", "rocscope_gpu_memory_used_bytes", "Memory of a GPU in use."),
    Gauge("vram_total_bytes", "rocscope_gpu_memory_size_bytes", "Memory of a GPU."),
    *(
        Gauge(f"throttled_{reason}", "rocscope_gpu_throttled", "Whether a GPU is throttled, by reason.",
              "reason", reason)
        for reason in ("power", "current", "thermal", "reliability")
    ),
    Gauge("pcie_link_width", "rocscope_gpu_pcie_link_width", "Lanes of a GPU's PCIe link in use."),
    Gauge("pcie_max_link_width", "rocscope_gpu_pcie_max_link_width", "Lanes that a GPU's link can have."),
)  # fmt: skip

COUNTERS: Final = (
    Counter("energy_j", "rocscope_gpu_energy_joules", "Energy that a GPU has used, unwrapped."),
    Counter("ecc_correctable", "rocscope_gpu_ecc_errors", "Memory errors of a GPU.",
            (("type", "correctable"), ("block", "all"))),
    Counter("ecc_uncorrectable", "rocscope_gpu_ecc_errors", "Memory errors of a GPU.",
            (("type", "uncorrectable"), ("block", "all"))),
    Counter("xgmi_read_bytes", "rocscope_gpu_xgmi_bytes", "Bytes over a GPU's links to other GPUs.",
            (("link", "all"), ("direction", "read"))),
    Counter("xgmi_write_bytes", "rocscope_gpu_xgmi_bytes", "Bytes over a GPU's links to other GPUs.",
            (("link", "all"), ("direction", "write"))),
)  # fmt: skip

SLOW: Final = frozenset(
    {
        *("power_cap_w", "vram_total_bytes", "ecc_correctable", "ecc_uncorrectable"),
        *("pcie_link_width", "pcie_max_link_width"),
    }
)
"""What is read every ten seconds and more, one GPU a tick."""
SLOW_FRESH_S: Final = 60.0
IN_WINDOWS: Final = " Seen inside windows only: compare ratios of two such counters, never their growth."
