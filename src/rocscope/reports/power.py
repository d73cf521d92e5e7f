"""Power, clocks and the host, in words and cells, the same for every report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rocscope.findings import Analysis
from rocscope.reports import figures

TITLE: Final = "Power and host"
HEADER: Final = ("GPU", "energy", "power", "at work", "idle", "of cap", "clock", "of peak", "hottest")
PROCESS_HEADER: Final = ("process", "CPU", "most CPU", "most memory", "threads", "read", "written")
MAX_PROCESSES: Final = 6
MAX_FAMILIES: Final = 5
_Part = Mapping[str, Any]


def present(analysis: Analysis) -> bool:
    """Return whether there is anything to show."""
    return bool(gpus(analysis) or processes(analysis) or sentences(analysis))


def gpus(analysis: Analysis) -> list[list[str]]:
    """Return a row for each GPU that was sampled, under :data:`HEADER`."""
    return [_gpu(each) for each in analysis.telemetry.get("gpus") or ()]


def _gpu(entry: _Part) -> list[str]:
    power, clock, energy = (entry.get(name) or {} for name in ("power_w", "clock_hz", "energy_j"))
    mean, peak = clock.get("mean"), clock.get("peak")
    hot = [
        found["most"]
        for name in ("hotspot", "memory", "edge")
        if (found := entry.get(f"temperature_{name}_c"))
    ]
    return [
        str(entry.get("gpu")),
        quantity(energy.get("value"), "J"),
        quantity(power.get("mean"), "W"),
        quantity(power.get("at_work"), "W"),
        quantity(power.get("idle"), "W"),
        figures.percent(entry.get("power_cap_frac")),
        quantity(mean / 1e6 if mean is not None else None, "MHz"),
        figures.percent(mean / peak if mean is not None and peak else None),
        quantity(max(hot, default=None), "°C"),
    ]


def quantity(value: float | None, unit: str) -> str:
    """Write a figure with its unit, or a dash."""
    return figures.UNKNOWN if value is None else f"{figures.significant(value)}{figures.NBSP}{unit}"


def processes(analysis: Analysis) -> list[list[str]]:
    """Return a row for each of the processes that used most CPU time, under :data:`PROCESS_HEADER`."""
    host = analysis.telemetry.get("host") or {}
    return [_process(each) for each in (host.get("processes") or ())[:MAX_PROCESSES]]


def _process(each: _Part) -> list[str]:
    cpu, memory, threads = (each.get(name) or {} for name in ("cpu_frac", "rss_bytes", "threads"))
    return [
        f"{each.get('name') or 'unnamed'} ({each.get('pid')})",
        figures.percent(cpu.get("mean")),
        figures.percent(cpu.get("most")),
        figures.size_bytes(memory.get("most")),
        figures.count(threads.get("most")),
        figures.size_bytes(each.get("io_read_bytes")),
        figures.size_bytes(each.get("io_write_bytes")),
    ]


def sentences(analysis: Analysis) -> list[str]:
    """Return what the tables do not hold: tokens, families, throttling, what is missing, and the cost."""
    telemetry = analysis.telemetry
    told = [_token(each) for each in telemetry.get("energy_per_token") or ()]
    if telemetry.get("gpus") and not told and (why := telemetry.get("energy_per_token_missing")):
        told.append(f"Joules a token are not known: {why}.")
    for entry in telemetry.get("gpus") or ():
        told += _of_gpu(entry)
    told += [_phase(each) for each in telemetry.get("marked_phases") or ()]
    if why := telemetry.get("not_set_against_kernels"):
        told.append(f"Readings are not set against kernels: {why}.")
    return told + _cost((telemetry.get("host") or {}).get("sampling_cost") or {})


def _token(row: _Part) -> str:
    joules = f"{figures.significant(row['joules_per_token'])}{figures.NBSP}J"
    return f"{joules} a token, {row['of']} ({figures.count(row['tokens'])}); {row['basis']}: {row['source']}."


def _of_gpu(entry: _Part) -> list[str]:
    name, energy = f"GPU {entry.get('gpu')}", entry.get("energy_j") or {}
    told = []
    if energy.get("value") is None and energy.get("source"):
        told.append(f"The energy of {name} is not known: {energy['source']}.")
    elif energy.get("source"):
        told.append(f"Energy of {name}: {energy['source']}.")
    families = [
        f"{each['family']} {quantity(each['energy_j'], 'J')}"
        for each in (entry.get("families") or ())[:MAX_FAMILIES]
    ]
    if families:
        told.append(f"{name} by family, modelled as {entry['families'][0]['source']}: {', '.join(families)}.")
    reasons = [
        f"{reason} {figures.percent(share)}"
        for reason, share in (entry.get("throttled_frac") or {}).items()
        if share
    ]
    if reasons:
        told.append(f"{name} said that it was throttled, of the readings at work: {', '.join(reasons)}.")
    if slow := entry.get("slowdown_by_clock"):
        told.append(
            f"{name}: kernels took {figures.percent(slow['slower_frac'])} longer at the low clock, where the "
            f"same cycles mean {figures.percent(slow['slower_if_same_cycles_frac'])}: {slow['verdict']}."
        )
    return told


def _phase(phase: _Part) -> str:
    powers = ", ".join(f"GPU {each['gpu']} {quantity(each['power_w'], 'W')}" for each in phase["gpus"])
    return f"In the phase {phase['phase']}, {figures.seconds(phase['seconds'])}: {powers}."


def _cost(cost: _Part) -> list[str]:
    parts = [
        f"{name.replace('_', ' ')} {figures.percent(each['core_frac'])}"
        for name, each in cost.items()
        if each and each.get("core_frac") is not None
    ]
    return [f"Sampling took, of one core: {', '.join(parts)}."] if parts else []
