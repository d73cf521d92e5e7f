"""Recordings of decode steps made by a seeded generator. Nothing here was recorded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rocscope.capture import Capture
from synthetic_capture import capture, row

KERNELS = (
    ("embed", 20_000),
    ("norm", 30_000),
    ("product", 500_000),
    ("attention", 250_000),
    ("sample", 50_000),
)
IDLE_NS = 150_000


def decode_steps(
    *,
    count: int = 20,
    factor: float = 1.0,
    noise_frac: float = 0.004,
    seed: int = 0,
    sequences: int = 1,
    start_ns: int = 1_000_000,
    gpu: str = "gfx000",
    graphs: bool = False,
    factors: dict[str, float] | None = None,
    **manifest: object,
) -> Capture:
    """``count`` annotated steps of about 1 ms: five kernels with noise, the rest idle.

    ``factor`` makes all of a step longer, ``factors`` single kernels; of ``graphs`` one call launches a step.
    """
    random = np.random.default_rng(seed)
    rows, spans, at = [], [], start_ns + seed * 10_000_000_000
    for _ in range(count + 1):
        begin = at
        for name, length in KERNELS:
            spread = 1 + noise_frac * random.standard_normal()
            took = round(length * factor * (factors or {}).get(name, 1.0) * spread)
            call = {"correlation_id": len(spans) + 1} if graphs else {}
            rows.append(row(name, at, took, **call))
            at += took + round(IDLE_NS * factor / len(KERNELS) * (1 + 0.1 * random.standard_normal()))
        spans.append(
            {
                "process": 0,
                "kind": "gpu_annotation",
                "name": f"execute_context_0(0)_generation_{sequences}({sequences})",
                "start_ns": begin,
                "end_ns": at - 10,
                "gpu": 0,
            }
        )
    made = capture(rows, spans=spans, **manifest)
    made.manifest.gpus[0] = made.manifest.gpus[0].model_copy(update={"arch": gpu, "name": f"Paper {gpu}"})
    made.manifest.window_ns = (rows[0]["start_ns"], rows[-1]["end_ns"])
    return made


def laid_out(
    times: np.ndarray,
    *,
    kernels: tuple[tuple[str, int], ...] = KERNELS,
    idle_ns: int = 20_000,
    tick_ns: int = 1,
    start_ns: int = 1_000_000,
) -> Capture:
    """Annotated steps whose kernels take ``times``, [steps, kernels], relative to their usual lengths."""
    lengths = (
        np.rint(times * np.array([length for _, length in kernels]) / tick_ns).astype(np.int64) * tick_ns
    )
    lengths = np.vstack([lengths, lengths[-1:]])  # one more, so that each is followed
    ends = start_ns + np.cumsum(lengths + idle_ns).reshape(lengths.shape)
    starts = ends - lengths - idle_ns
    rows = [
        row(name, int(starts[step, index]), int(lengths[step, index]))
        for step in range(len(lengths))
        for index, (name, _) in enumerate(kernels)
    ]
    spans = [
        {
            "process": 0,
            "kind": "gpu_annotation",
            "name": "execute_context_0(0)_generation_1(1)",
            "start_ns": int(first[0]),
            "end_ns": int(last[-1]) - 10,
            "gpu": 0,
        }
        for first, last in zip(starts, ends, strict=True)
    ]
    return capture(rows, spans=spans)


def annotated(
    told: Sequence[tuple[str, Sequence[tuple[str, float]]]],
    *,
    idle_ns: int = 2_000,
    start_ns: int = 1_000_000,
) -> Capture:
    """Steps by their annotation, each with its kernels and what they take, ns; idle time follows each."""
    rows, spans, at = [], [], start_ns
    for name, kernels in told:
        begin = at
        for kernel, length in kernels:
            rows.append(row(kernel, at, round(length)))
            at += round(length) + idle_ns
        spans.append(
            {
                "process": 0,
                "kind": "gpu_annotation",
                "name": name,
                "start_ns": begin,
                "end_ns": at - 10,
                "gpu": 0,
            }
        )
    return capture(rows, spans=spans)
