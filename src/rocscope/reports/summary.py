"""The sentences that every report opens with, made once from the analysis."""

from __future__ import annotations

import math
from typing import Any, Final, Literal

from rocscope.findings import Analysis, CaptureInfo, FamilySummary, Integrity, KernelFinding, Target
from rocscope.reports import figures

MAX_GPUS: Final = 16  # that have a line of their own
NO_KERNELS: Final = "no GPU kernels in this recording"
LIMITER_WORDS: Final = {
    "memory-bandwidth": "held back by memory bandwidth",
    "cache-bandwidth": "held back by cache bandwidth",
    "compute": "held back by arithmetic",
    "balanced": "near both its memory and its compute roof",
    "latency": "held back by latency, not by bandwidth or arithmetic",
    "occupancy": "held back by low occupancy",
    "parallelism": "held back by too few workgroups for the GPU",
    "launch": "near the launch floor",
    "communication": "waiting for other GPUs",
    "unknown": "limiter unknown",
}
GLOSSARY: Final = (
    ("Bound", "Which roof lies above a kernel at its arithmetic intensity: memory or compute."),
    (
        "Limiter",
        "What holds a kernel back now. A memory-bound kernel far below its roof may be held back by "
        "latency or occupancy rather than by bandwidth.",
    ),
    ("Arithmetic intensity", "Floating-point operations for each byte moved to or from memory."),
    ("Ridge", "The intensity at which the memory roof meets the compute roof."),
    ("Datasheet roof", "The peak rate that the maker states."),
    ("Achievable roof", "The rate a benchmark reached on this card, or a published one, named."),
    ("Headroom", "Time spent above what the achievable roof would allow. It is not the gain to expect."),
    ("Expected gain", "End-to-end time saved if the target is mended: middle and interval, with its basis."),
    ("Exposed time", "Time in which nothing else ran on that GPU."),
    ("Occupancy", "Waves resident on a compute unit against the most that could be."),
    ("Measured, modelled", "From hardware counters; from the shape of the problem."),
    ("Confidence", "High, medium or low: how much of the evidence is measured and agrees."),
)


def has_kernels(analysis: Analysis) -> bool:
    """Return whether there is any kernel to speak of."""
    return bool(analysis.kernels)


def provenance(capture: CaptureInfo) -> str:
    """Return the first line of a report whose device side was not recorded, else ``""``."""
    if capture.provenance == "recorded":
        return ""
    note = f" {capture.provenance_note}" if capture.provenance_note else ""
    if capture.provenance == "replayed":
        origin = note.removeprefix(" from").rstrip(".") or " a saved capture"
        return f"Device side replayed from{origin}. Nothing ran on a GPU here."
    if capture.provenance == "synthetic":
        return f"Synthetic: no GPU was measured.{note}"
    return f"Device side is {capture.provenance}, not recorded.{note}"


def kernel_time_s(analysis: Analysis) -> float | None:
    """Return the time of all kernels and copies together, s, on all GPUs; ``None`` where none is timed."""
    times = [family.time_s for family in analysis.families if family.time_s is not None]
    return math.fsum(times) if times else None


def headline(analysis: Analysis) -> str:
    """Return where the time went, in one sentence."""
    if not has_kernels(analysis):
        return f"There are {NO_KERNELS}."
    timed = [f for f in analysis.families if f.time_frac is not None]
    if not timed:
        return "The kernels in this recording carry no times; only their counts are known."
    top = max(timed, key=lambda family: family.time_frac or 0.0)
    who = "kernels of no known family take" if top.family == "other" else f"{top.family} takes"
    spent = f"{who} {figures.percent(top.time_frac)} of GPU kernel time"
    part = _largest_part(top, "limiter") if top.limiter == "unknown" else None
    if part is not None:
        return f"{spent}; {figures.percent(part['time_frac'])} of that is {LIMITER_WORDS[part['limiter']]}."
    return f"{spent}, {LIMITER_WORDS[top.limiter]}."


def verdict(family: FamilySummary, what: Literal["bound", "limiter"]) -> str:
    """Return a family's bound or limiter; of a divided family that of the half or more that has one."""
    said: str = getattr(family, what)
    part = _largest_part(family, what) if said == "unknown" else None
    return said if part is None else f"{part[what]} ({figures.percent(part['time_frac'])})"


def _largest_part(family: FamilySummary, what: str) -> dict[str, Any] | None:
    """Return the part of a divided family that speaks for it: known, and half of its time or more."""
    known = [
        part
        for part in family.split
        if part.get(what) in {*LIMITER_WORDS, "memory"} - {"unknown"}
        and (part.get("time_frac") or 0.0) >= 0.5
    ]
    return max(known, key=lambda part: part["time_frac"], default=None)


def first_target(analysis: Analysis) -> str:
    """Return what to change first, in one sentence, without the target's own text."""
    if not has_kernels(analysis):
        return ""
    gains = [t for t in analysis.targets if t.expected_gain is not None]
    if not gains:
        return "No target has a gain that can be estimated from this recording."
    top = min(gains, key=lambda target: target.rank)
    assert top.expected_gain is not None  # noqa: S101  # chosen so; for the type checker
    low, high = figures.percent(top.expected_gain.low_frac), figures.percent(top.expected_gain.high_frac)
    return f"The first target may save {low} to {high} of the end-to-end time ({top.confidence} confidence)."


def how_sure(analysis: Analysis) -> str:
    """Return how much of the recording the labels cover, and how much is wrong with it."""
    integrity = analysis.integrity
    if not has_kernels(analysis):
        parts = ["Nothing could be labelled"]
    elif integrity.labelled_time_frac is None:
        parts = ["The labelled share of kernel time is unknown"]
    else:
        parts = [
            f"Labels cover {figures.percent(integrity.labelled_time_frac)} of kernel time{grounds(integrity)}"
        ]
    return "; ".join([*parts, weaknesses(integrity)]) + "."


def weaknesses(integrity: Integrity) -> str:
    """Return what is wrong with the recording: rows left out and warnings, counted."""
    parts = []
    dropped = sum(drop.count for drop in integrity.dropped)
    if dropped:
        parts.append(f"{figures.count(dropped)} {'row was' if dropped == 1 else 'rows were'} left out")
    warned = len(integrity.warnings)
    parts.append(f"{warned} integrity warning{'' if warned == 1 else 's'}" if warned else "no warnings")
    return "; ".join(parts)


def strip(analysis: Analysis) -> list[tuple[str, str]]:
    """Return what the recording is of, a name and a figure each; what is not known is left out."""
    gpus = analysis.gpus
    models = sorted({gpu.model for gpu in gpus if gpu.model})
    shares = [gpu.busy_frac for gpu in gpus if gpu.busy_frac is not None]
    busy = [figures.percent(each) for each in sorted({min(shares), max(shares)})] if shares else []
    told = [
        ("GPU" if len(gpus) == 1 else "GPUs", f"{len(gpus)} × {', '.join(models) or 'unknown model'}"),
        ("kernel time", figures.seconds(kernel_time_s(analysis))),
        ("GPU busy", " to ".join(busy)),
        ("dispatches", figures.count(analysis.integrity.dispatches)),
        ("kernels with their shapes", figures.count(len(analysis.kernels))),
    ]
    return [(name, text) for name, text in told if text and text != figures.UNKNOWN]


def _grounds(integrity: Integrity) -> list[str]:
    """Return what the bounds rest on, each with its share of kernel time; what took no time is left out."""
    told = (
        (integrity.bound_with_bytes_time_frac, "by bytes and FLOPs"),
        (integrity.bound_by_pipes_time_frac, "by busy pipes"),
        (integrity.bound_by_limit_time_frac, "by a limit of FLOPs a byte"),
    )
    return [f"{figures.percent(share)} {what}" for share, what in told if share]


def grounds(integrity: Integrity) -> str:
    """Return what the bounds rest on, in brackets, or ``""``."""
    told = _grounds(integrity)
    return f" ({', '.join(told)})" if told else ""


def problem_shape(kernel: KernelFinding) -> str:
    """Write the problem shape, ``M=1 N=3584 K=5120``, or a dash."""
    if not kernel.problem_shape:
        return figures.UNKNOWN
    parts = []
    for key, value in kernel.problem_shape.items():
        if value is None:
            continue
        parts.append(f"{key}={figures.size(value)}")
    return " ".join(parts)


def shape(kernel: KernelFinding) -> str:
    """Write the problem shape where it is known, else the grid and workgroup."""
    return problem_shape(kernel) if kernel.problem_shape else figures.launch(kernel.launch_shape)


def occupancy(kernel: KernelFinding, *, why: bool = True) -> str:
    """Write waves resident against the most that could be, and ``why`` no more could; or a dash."""
    found = kernel.occupancy
    most = figures.percent(found.theoretical_frac)
    bounded = f", by {found.limited_by}" if found.limited_by and why else ""
    if found.achieved_frac is None:
        return figures.UNKNOWN if found.theoretical_frac is None else f"at most {most}{bounded}"
    reached = figures.percent(found.achieved_frac)
    return reached if found.theoretical_frac is None else f"{reached} of {most}{bounded}"


def problem(target: Target) -> str:
    """Return a target's problem as a heading: a sentence with its first letter large, a name as it is."""
    return heading(target.problem, target.kernel)


def heading(problem: str, kernel: str | None = None) -> str:
    """Begin a sentence with a large letter, unless with ``kernel`` or with a name such as ``vecCopy``."""
    first = problem.split(" ", 1)[0].rstrip(",:;")
    plain = first.isalpha() and first.islower() and not (kernel and problem.startswith(kernel))
    return f"{problem[:1].upper()}{problem[1:]}" if plain else problem


def command(capture: CaptureInfo) -> str:
    """Write the command as a shell would take it, or a dash."""
    import shlex

    return shlex.join(capture.command) if capture.command else figures.UNKNOWN


def measured(analysis: Analysis) -> list[str]:
    """Return what recorded it and how busy each GPU was, a line each; the command stands beside it."""
    capture = analysis.capture
    by = " ".join(part for part in (capture.profiler, capture.profiler_version) if part)
    lines = [f"{by}, {capture.provenance}"]
    lines += [
        f"GPU {gpu.gpu}: {' '.join(part for part in (gpu.model or 'unknown model', gpu.arch) if part)}, busy "
        f"{figures.seconds(gpu.busy_s)} of {figures.seconds(gpu.wall_s)} ({figures.percent(gpu.busy_frac)})"
        for gpu in analysis.gpus[:MAX_GPUS]
    ]
    more = len(analysis.gpus) - MAX_GPUS
    return [*lines, *([f"{more} more GPUs in analysis.json"] if more > 0 else [])]
