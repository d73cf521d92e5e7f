"""Timelines made by hand for the tests of reports: synthetic, no GPU was measured for them."""

from __future__ import annotations

import math

from rocscope.findings import LaneFamily, Timeline, TimelineGap, TimelineLane, TimelineSeries, TimelineSpan

BINS = 120
BIN_S = 0.01


def window_lane(gpu: int, late: float = 0.0) -> TimelineLane:
    """A rank that prefills, pauses and decodes; ``late`` thins its work."""
    gptq, attention, gemm = [], [], []
    for index in range(BINS):
        pause = 40 <= index < 55
        prefill = index < 40
        gptq.append(0.0 if pause or prefill else 0.62 - late)
        gemm.append(0.0 if pause else 0.78 - late if prefill else 0.06)
        attention.append(0.0 if pause else 0.12 + 0.04 * math.sin(index / 5))
    families = [("gptq_gemm", gptq), ("gemm", gemm), ("attention", attention)]
    return TimelineLane(
        gpu=gpu,
        label=f"rank {gpu}",
        busy_frac=[round(sum(values), 4) for values in zip(gptq, gemm, attention, strict=True)],
        families=[LaneFamily(family=name, busy_frac=values) for name, values in families],
    )


def sample_window(gpus: int = 2) -> Timeline:
    """A window of 1.2 s with a pause, two phases, sensors, and throttling near its end."""
    at = [round((index + 0.5) * BIN_S, 4) for index in range(BINS)]
    series = []
    for gpu in range(gpus):
        watts = [90.0 if 40 <= i < 55 else 250.0 + 20 * math.sin(i / 7) - 15 * gpu for i in range(BINS)]
        hertz = [1.502e9 if i < 90 else 1.2e9 for i in range(BINS)]
        series += [
            TimelineSeries(name="power", unit="W", gpu=gpu, source="amdsmi", time_s=at, value=watts),
            TimelineSeries(name="clock", unit="Hz", gpu=gpu, source="amdsmi", time_s=at, value=hertz),
        ]
    hot: list[float | None] = [70 + i / 6 if i % 17 else None for i in range(BINS)]
    series.append(TimelineSeries(name="temperature", unit="°C", gpu=0, source="amdsmi", time_s=at, value=hot))
    return Timeline(
        span_s=BINS * BIN_S,
        bin_s=BIN_S,
        lanes=[window_lane(gpu, 0.2 * gpu) for gpu in range(gpus)],
        gaps=[
            TimelineGap(gpu=0, start_s=0.4, duration_s=0.15, during="the host was in Scheduler.schedule"),
            TimelineGap(gpu=1, start_s=0.4, duration_s=0.15),
            TimelineGap(gpu=0, start_s=0.8, duration_s=0.004),
        ],
        gaps_left_out=12,
        gaps_left_out_s=0.006,
        spans=[
            TimelineSpan(kind="phase", name="prefill", gpu=None, start_s=0.0, end_s=0.4, steps=2),
            TimelineSpan(kind="phase", name="decode", gpu=None, start_s=0.55, end_s=1.2, steps=40),
            TimelineSpan(kind="throttled", name="thermal", gpu=0, start_s=0.9, end_s=1.2),
        ],
        series=series,
    )
