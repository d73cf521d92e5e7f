"""What the shipped dashboards show: the fleet at a glance, and one node's GPUs and kernels.

Names of metrics are those of ``metrics.py`` and ``metric_names.py``; a test holds them against a real scrape.
Counters of kernels are seen inside windows only, so they appear as ratios of two of them and never alone.
"""

from __future__ import annotations

from typing import Final

from rocscope.daemon.dashboards import Dashboard, Panel, Variable

NODE: Final = 'instance=~"$instance"'
GPU: Final = f'{NODE}, gpu=~"$gpu"'
KERNEL: Final = f'{GPU}, family=~"$family"'
SPAN: Final = "1h"  # of windows: by default four of them
SAMPLES: Final = (
    " Basis: the daemon's samples, once a second by default; Prometheus sees those of its scrapes."
)
WINDOWS: Final = (
    " Basis: kernels seen inside the profiling windows of the last hour, as a ratio of two counters; "
    "between windows nothing is known of kernels."
)
MODELLED: Final = (
    " Bytes and FLOPs come from shape models (measured where counters were read). Kernels without a model "
    "count with their time alone: it is at least so much."
)

_INSTANCES: Final = "label_values(rocscope_build_info, instance)"
_GPUS: Final = Variable("gpu", "GPU", f"label_values(rocscope_gpu_info{{{NODE}}}, gpu)")
_FAMILIES: Final = Variable(
    "family", "Kernel family", f"label_values(rocscope_kernel_dispatches_total{{{NODE}}}, family)"
)


def _grown(counter: str, by: str, where: str = KERNEL) -> str:
    return f"sum by ({by}) (increase(rocscope_kernel_{counter}_total{{{where}}}[{SPAN}]))"


def _per(counter: str, other: str, by: str) -> str:
    return f"{_grown(counter, by)} / {_grown(other, by)}"


def _kernels(by: str, legend: str) -> tuple[Panel, ...]:
    """Return the panels on kernels that both dashboards have."""
    return (
        Panel(
            "Share of kernel time by family",
            "percentunit",
            "Which families the GPUs' kernel time goes to, of all families, also those that are not chosen."
            + WINDOWS,
            (
                (
                    f"{_grown('busy_seconds', 'family')} / ignoring (family) group_left () "
                    f"sum (increase(rocscope_kernel_busy_seconds_total{{{GPU}}}[{SPAN}]))",
                    "{{family}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Time per dispatch",
            "s",
            "Mean time of one dispatch. It moves with batches and contexts as with the kernel: look at "
            "bytes and FLOPs a dispatch before calling it a regression." + WINDOWS,
            ((_per("busy_seconds", "dispatches", by), legend),),
        ),
    )


FLEET: Final = Dashboard(
    "rocscope-fleet",
    "rocscope: fleet",
    "All nodes with a rocscope daemon: load, heat, throttling, kernel families, and how the daemons do.",
    (Variable("instance", "Node", _INSTANCES), _GPUS, _FAMILIES),
    (
        (
            "Now",
            (
                Panel("Nodes", "none", "Nodes whose daemon answers Prometheus. Basis: the last scrape.",
                      ((f"count(rocscope_build_info{{{NODE}}})", ""),), "stat"),
                Panel("GPUs", "none", "GPUs that the daemons read. Basis: the last scrape.",
                      ((f"count(rocscope_gpu_info{{{GPU}}})", ""),), "stat"),
                Panel("vLLM servers up", "none", "Servers that answer the daemons. Basis: the last scrape.",
                      ((f'sum(rocscope_engines{{{NODE}, state="up"}})', ""),), "stat"),
                Panel("vLLM servers down", "none",
                      "Servers that are known and do not answer. Basis: the last scrape.",
                      ((f'sum(rocscope_engines{{{NODE}, state="down"}})', ""),), "stat"),
                Panel("Power", "watt",
                      "All GPUs together; MI100 and MI200 tell an average. Basis: the last sample.",
                      ((f"sum(rocscope_gpu_power_watts{{{GPU}}})", ""),), "stat"),
                Panel("Throttled GPUs", "none",
                      "GPUs that say now that their clock is held down. Basis: the last sample; GPUs that do "
                      "not tell are not counted.",
                      ((f"count(max by (instance, gpu) (rocscope_gpu_throttled{{{GPU}}}) == 1) "
                        f"or (count(rocscope_gpu_throttled{{{GPU}}}) * 0)", ""),), "stat"),
            ),
        ),
        (
            "GPUs",
            (
                Panel("Power by node", "watt",
                      "Sum over a node's GPUs; MI100 and MI200 tell an average." + SAMPLES,
                      ((f"sum by (instance) (rocscope_gpu_power_watts{{{GPU}}})", "{{instance}}"),)),
                Panel("Busy GPUs by node", "percentunit",
                      "Share of time in which something ran on a GPU, mean over a node's. It says nothing of "
                      "how well the GPU was used." + SAMPLES,
                      ((f'avg by (instance) (rocscope_gpu_activity_ratio{{{GPU}, engine="gfx"}})',
                        "{{instance}}"),)),
                Panel("Hottest GPU by node", "celsius", "Highest of a node's GPUs, by sensor." + SAMPLES,
                      ((f"max by (instance, sensor) (rocscope_gpu_temperature_celsius{{{GPU}}})",
                        "{{instance}} {{sensor}}"),)),
                Panel("Throttled time by node", "percentunit",
                      "Share of time in which the GPU throttled most was so, by reason. They overlap: "
                      "do not add them." + SAMPLES,
                      ((f"max by (instance, reason) (rate(rocscope_gpu_throttled_seconds_total{{{GPU}}}"
                        "[$__rate_interval]))", "{{instance}} {{reason}}"),)),
                Panel("Memory in use by node", "percentunit", "Of all GPUs of a node together." + SAMPLES,
                      ((f"sum by (instance) (rocscope_gpu_memory_used_bytes{{{GPU}}}) "
                        f"/ sum by (instance) (rocscope_gpu_memory_size_bytes{{{GPU}}})", "{{instance}}"),)),
                Panel("Uncorrectable memory errors", "none",
                      "Growth of the driver's count over the last day, GPUs that have any. Basis: the count "
                      "of all blocks, read every 10 s.",
                      ((f'sum by (instance, gpu) (increase(rocscope_gpu_ecc_errors_total{{{GPU}, '
                        'type="uncorrectable"}[1d])) > 0', "{{instance}} GPU {{gpu}}"),)),
            ),
        ),
        ("Kernels", _kernels("instance, family", "{{instance}} {{family}}")),
        (
            "Daemons",
            (
                Panel("Since the last sample", "s",
                      "Age of each source's last reading. Basis: the node's clock against that of "
                      "Prometheus: a clock that is off shows here too.",
                      ((f"time() - rocscope_last_sample_timestamp_seconds{{{NODE}}}",
                        "{{instance}} {{source}}"),)),
                Panel("Windows an hour, by how they ended", "none",
                      "Profiling windows; skipped ones were asked for and refused by the budget. Basis: the "
                      "daemons' counts, over the last hour.",
                      ((f"sum by (result) (increase(rocscope_windows_total{{{NODE}}}[1h]))", "{{result}}"),),
                      stacked=True),
                Panel("What windows cost serving", "percentunit",
                      "Share of tokens a second that the last window took while it was open. Basis: measured "
                      "against the minute before and after; nothing where traffic moved or there was none.",
                      ((f"rocscope_window_overhead_ratio{{{NODE}}}", "{{instance}}"),)),
                Panel("What sampling costs", "percentunit",
                      "CPU time of daemon and telemetry process, of one core, and their limit. Basis: the "
                      "kernel's accounts, over half an hour; windows are not in it.",
                      ((f"sum by (instance) (rate(rocscope_sampling_cpu_seconds_total{{{NODE}}}[30m]))",
                        "{{instance}}"),
                       (f"max(rocscope_sampling_cpu_limit_ratio{{{NODE}}})", "highest limit"))),
                Panel("Store, share of its limit", "percentunit",
                      "At the limit the oldest is deleted. Basis: the state folder, as it was measured last.",
                      ((f"rocscope_store_bytes{{{NODE}}} / rocscope_store_limit_bytes{{{NODE}}}",
                        "{{instance}}"),)),
                Panel("Not well", "none",
                      "1 where the store takes nothing, and where windows stopped after failures in a row. "
                      "Basis: the last scrape.",
                      ((f"1 - rocscope_store_healthy{{{NODE}}}", "{{instance}} store"),
                       (f"rocscope_window_breaker_open{{{NODE}}}", "{{instance}} windows"))),
            ),
        ),
    ),
)  # fmt: skip

NODE_AND_GPUS: Final = Dashboard(
    "rocscope-node",
    "rocscope: node and GPUs",
    "One node: each GPU's sensors, and what its kernels did in windows.",
    (Variable("instance", "Node", _INSTANCES, several=False), _GPUS, _FAMILIES),
    (
        (
            "GPUs",
            (
                Panel("Power", "watt", "MI100 and MI200 tell an average; and the cap." + SAMPLES,
                      ((f"rocscope_gpu_power_watts{{{GPU}}}", "GPU {{gpu}}"),
                       (f"rocscope_gpu_power_cap_watts{{{GPU}}}", "cap of GPU {{gpu}}"))),
                Panel("Clocks", "hertz", "By domain; of several dies the mean." + SAMPLES,
                      ((f"rocscope_gpu_clock_hertz{{{GPU}}}", "GPU {{gpu}} {{domain}}"),)),
                Panel("Temperatures", "celsius", "By sensor." + SAMPLES,
                      ((f"rocscope_gpu_temperature_celsius{{{GPU}}}", "GPU {{gpu}} {{sensor}}"),)),
                Panel("Throttled time", "percentunit",
                      "Share of time in which the clock was held down, by reason. They overlap: do not add "
                      "them." + SAMPLES,
                      ((f"rate(rocscope_gpu_throttled_seconds_total{{{GPU}}}[$__rate_interval])",
                        "GPU {{gpu}} {{reason}}"),)),
                Panel("Busy", "percentunit",
                      "Share of time in which compute units and memory were busy, as firmware averages it."
                      + SAMPLES,
                      ((f"rocscope_gpu_activity_ratio{{{GPU}}}", "GPU {{gpu}} {{engine}}"),)),
                Panel("Memory", "bytes", "In use, and size." + SAMPLES,
                      ((f"rocscope_gpu_memory_used_bytes{{{GPU}}}", "GPU {{gpu}}"),
                       (f"rocscope_gpu_memory_size_bytes{{{GPU}}}", "size of GPU {{gpu}}"))),
                Panel("Power from energy", "watt",
                      "Growth of the energy counter over time: a true mean, where the GPU keeps one. Basis: "
                      "the GPU's own counter, unwrapped.",
                      ((f"rate(rocscope_gpu_energy_joules_total{{{GPU}}}[$__rate_interval])",
                        "GPU {{gpu}}"),)),
                Panel("PCIe lanes", "none",
                      "In use, and as many as the link can have; an idle GPU may give some up. Basis: the "
                      "driver, every 10 s.",
                      ((f"rocscope_gpu_pcie_link_width{{{GPU}}}", "GPU {{gpu}}"),
                       (f"rocscope_gpu_pcie_max_link_width{{{GPU}}}", "most of GPU {{gpu}}"))),
                Panel("Between GPUs", "Bps",
                      "Bytes a second over all XGMI links of a GPU; MI100 tells none. Basis: the GPU's own "
                      "totals.",
                      ((f"rate(rocscope_gpu_xgmi_bytes_total{{{GPU}}}[$__rate_interval])",
                        "GPU {{gpu}} {{direction}}"),)),
                Panel("Memory errors", "none",
                      "Growth over a day, by type. Basis: the driver's counts of all blocks, every 10 s.",
                      ((f"increase(rocscope_gpu_ecc_errors_total{{{GPU}}}[1d])", "GPU {{gpu}} {{type}}"),)),
            ),
        ),
        (
            "Kernels, by family",
            (
                *_kernels("gpu, family", "GPU {{gpu}} {{family}}"),
                Panel("Bandwidth, share of the peak", "percentunit",
                      "Bytes over kernel time and the GPU's peak. Basis: the last window alone, until "
                      "the next. Bytes come from shape models, or from counters, as the legend says.",
                      ((f"rocscope_kernel_bandwidth_utilization_ratio{{{KERNEL}}}",
                        "GPU {{gpu}} {{family}} ({{basis}})"),)),
                Panel("Bytes a second of kernel time", "Bps",
                      "How fast a family moves device memory while it runs." + WINDOWS + MODELLED,
                      ((_per("bytes", "busy_seconds", "gpu, family"), "GPU {{gpu}} {{family}}"),)),
                Panel("FLOPs a second of kernel time", "flops",
                      "How fast a family computes while it runs." + WINDOWS + MODELLED,
                      ((_per("flops", "busy_seconds", "gpu, family"), "GPU {{gpu}} {{family}}"),)),
                Panel("Bytes a dispatch", "bytes",
                      "The work of a dispatch: with other batches and contexts it moves, and time with it."
                      + WINDOWS + MODELLED,
                      ((_per("bytes", "dispatches", "gpu, family"), "GPU {{gpu}} {{family}}"),)),
                Panel("FLOPs a dispatch", "short",
                      "The work of a dispatch: with other batches and contexts it moves, and time with it."
                      + WINDOWS + MODELLED,
                      ((_per("flops", "dispatches", "gpu, family"), "GPU {{gpu}} {{family}}"),)),
                Panel("FLOPs a byte", "none",
                      "Arithmetic intensity: below a GPU's own ratio of peaks memory is the bound." + WINDOWS
                      + MODELLED,
                      ((_per("flops", "bytes", "gpu, family"), "GPU {{gpu}} {{family}}"),)),
            ),
        ),
        (
            "Daemon",
            (
                Panel("Time with a profiler on", "percentunit",
                      "Duty of windows over the last hour. Basis: the daemon's own account.",
                      ((f"rate(rocscope_window_seconds_total{{{NODE}}}[1h])", "duty"),)),
                Panel("Memory of the daemon", "bytes",
                      "Resident, of the daemon and of its children (telemetry, windows, analyses). Basis: "
                      "the kernel, every 10 s.",
                      ((f"rocscope_daemon_resident_bytes{{{NODE}}}", "{{of}}"),)),
                Panel("Files from the spool, an hour", "none",
                      "Recordings that were dropped into the spool, by what came of them. Basis: the "
                      "daemon's counts, over the last hour.",
                      ((f"sum by (result) (increase(rocscope_spool_files_total{{{NODE}}}[1h]))",
                        "{{result}}"),)),
                Panel("Store", "bytes", "The state folder, and its limit. Basis: as it was measured last.",
                      ((f"rocscope_store_bytes{{{NODE}}}", "store"),
                       (f"rocscope_store_limit_bytes{{{NODE}}}", "limit"))),
            ),
        ),
    ),
)  # fmt: skip

DASHBOARDS: Final = {f"{each.uid}.json": each for each in (FLEET, NODE_AND_GPUS)}
"""By the name of its file in ``data/dashboards``."""
