"""Few dispatches of which one paid for first use: neither a label nor a forecast is made of their mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocscope import pipeline

TRACE = (
    '"Kind","Agent_Id","Queue_Id","Thread_Id","Dispatch_Id","Kernel_Id","Kernel_Name","Correlation_Id",'
    '"Start_Timestamp","End_Timestamp","Private_Segment_Size","Group_Segment_Size","Workgroup_Size_X",'
    '"Workgroup_Size_Y","Workgroup_Size_Z","Grid_Size_X","Grid_Size_Y","Grid_Size_Z"\n'
)


def trace(folder: Path, durations_ns: list[int]) -> Path:
    rows, at = [], 10_000
    for number, length in enumerate(durations_ns, 1):
        rows.append(
            f'"KERNEL_DISPATCH",1,1,7,{number},1,"__amd_rocclr_fillBufferAligned",{number},'
            f"{at},{at + length},0,0,256,1,1,65536,1,1"
        )
        at += length + 1000
    path = folder / "7_kernel_trace.csv"
    path.write_text(TRACE + "\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize(
    ("durations_ns", "uneven"),
    [
        ([430_000_000, 630_000], True),
        ([5_000_000, 500_000, 510_000], True),
        ([630_000, 640_000], False),
        ([4_000_000, 500_000], False),  # a few times is what clocks and neighbours do
        ([5_000_000, *[500_000] * 40], False),  # one of many
        ([630_000], False),
    ],
)
def test_uneven_times_are_said(tmp_path: Path, durations_ns: list[int], uneven: bool) -> None:
    analysis = pipeline.analyze(trace(tmp_path, durations_ns), gpu="MI100")
    (kernel,) = analysis.kernels
    said = [each for each in kernel.evidence if "limiter-uneven-times" in each]
    assert bool(said) == uneven
    if uneven:
        assert (kernel.limiter, kernel.confidence) == ("unknown", "low")
        assert not any(target.kernel and target.expected_gain for target in analysis.targets)


@pytest.mark.captures
def test_the_mi300a_recording_promises_nothing_for_its_first_dispatch(captures: Path) -> None:
    analysis = pipeline.analyze(captures / "omniperf" / "openmp_collapse_MI300A")
    first = max(analysis.kernels, key=lambda kernel: kernel.time_s)
    assert first.limiter == "unknown"
    assert all((t.expected_gain is None or t.expected_gain.mid_frac < 0.1) for t in analysis.targets)
