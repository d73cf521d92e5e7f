"""A timeline made by hand for the tests of reports: synthetic, as is the analysis that it belongs to."""

from __future__ import annotations

from typing import Any

from rocscope.findings import (
    LaneFamily,
    Timeline,
    TimelineGap,
    TimelineLane,
    TimelineSeries,
    TimelineSpan,
)


def sample_lane(gpu: int = 0) -> TimelineLane:
    """Four steps in 48 bins: a prefill, then three decodes with a pause before each."""
    step = [0.0, 0.5, *[1.0] * 10]
    gptq, rest = 0.7, 0.2
    return TimelineLane(
        gpu=gpu,
        label=f"rank {gpu}",
        busy_frac=[round(part * (gptq + rest + 0.05), 6) for part in step * 4],
        families=[
            LaneFamily(family="gptq_gemm", busy_frac=[round(part * gptq, 6) for part in step * 4]),
            LaneFamily(family="gemm", busy_frac=[round(part * rest, 6) for part in step * 4]),
            LaneFamily(family="communication", busy_frac=[round(part * 0.05, 6) for part in step * 4]),
        ],
    )


def sample_timeline(**changes: Any) -> Timeline:
    """One GPU over 24 ms, its sensors and its server. Made up: real sensors are read more seldom."""
    middle = [round(0.0005 * (at + 0.5), 6) for at in range(48)]
    known: dict[str, Any] = {
        "span_s": 0.024,
        "bin_s": 0.0005,
        "lanes": [sample_lane()],
        "gaps": [
            TimelineGap(gpu=0, start_s=0.012, duration_s=0.00075,
                        during="in a decode step, waiting for launches, host in hipGraphLaunch"),
            TimelineGap(gpu=0, start_s=0.018, duration_s=0.0007, during="no request was running or waiting"),
            TimelineGap(gpu=0, start_s=0.006, duration_s=0.0006),
        ],
        "gaps_left_out": 412,
        "gaps_left_out_s": 0.00094,
        "spans": [
            TimelineSpan(kind="phase", name="prefill", gpu=None, start_s=0.0, end_s=0.006, steps=1),
            TimelineSpan(kind="phase", name="decode", gpu=None, start_s=0.006, end_s=0.024, steps=3),
            TimelineSpan(kind="throttled", name="power", gpu=0, start_s=0.002, end_s=0.005),
        ],
        "series": [
            TimelineSeries(name="power", unit="W", gpu=0, source="amdsmi: power_w", time_s=middle,
                           value=[180.0 + 2.5 * (at % 12) for at in range(48)]),
            TimelineSeries(name="clock", unit="Hz", gpu=0, source="amdsmi: clock_hz", time_s=middle,
                           value=[None if at == 20 else 1.502e9 - 4e6 * (at % 12) for at in range(48)]),
            TimelineSeries(name="memory clock", unit="Hz", gpu=0, source="amdsmi: memory_clock_hz",
                           time_s=middle, value=[1.2e9] * 48),
            TimelineSeries(name="temperature", unit="°C", gpu=0, source="amdsmi: temperature_hotspot_c",
                           time_s=middle, value=[71.0 + at / 8 for at in range(48)]),
            TimelineSeries(name="requests running", unit="", gpu=None,
                           source="the server's /metrics: requests_running",
                           time_s=[0.001, 0.009, 0.0183, 0.0235], value=[4.0, 4.0, 0.0, 2.0]),
            TimelineSeries(name="tokens generated", unit="tokens/s", gpu=None,
                           source="the server's /metrics: generation_tokens",
                           time_s=[0.005, 0.01365, 0.0209], value=[47.0, 52.5, 31.0]),
        ],
        "notes": [],
    }  # fmt: skip
    return Timeline(**{**known, **changes})


def hostile_timeline(names: tuple[str, ...]) -> Timeline:
    """A span of the host, a phase, a rank and a source may have any name."""
    bad = names[0]
    base = sample_timeline()
    lane = sample_lane()
    return sample_timeline(
        lanes=[
            lane.model_copy(
                update={
                    "label": bad,
                    "families": [lane.families[0].model_copy(update={"family": bad}), *lane.families[1:]],
                }
            )
        ],
        gaps=[
            gap.model_copy(update={"during": name}) for gap, name in zip(base.gaps, names[1:], strict=True)
        ],
        spans=[each.model_copy(update={"name": bad}) for each in base.spans],
        series=[each.model_copy(update={"name": bad, "unit": bad, "source": bad}) for each in base.series],
        notes=list(names),
    )
