"""Joining launches: indices move, GPUs meet, nothing of a counter run reaches the clean one's times."""

from __future__ import annotations

import pyarrow as pa

from rocscope import tables
from rocscope.capture import Capture, Dropped, Gpu, Manifest, Pass, Process, Source
from rocscope.collectors.counter_input import Counting
from rocscope.collectors.pass_merge import Taken, merge
from rocscope.counter_plan import CounterPass

COUNTING = Counting("gfx908", (CounterPass(("SQ_LEVEL_WAVES", "SQ_ACCUM_PREV_HIRES")),), "gemm", (2, 9))


def capture(pid: int, agent: str = "Agent 1", counter: str = "", arch: str = "gfx908") -> Capture:
    """A synthetic launch: one GPU, one process, two dispatches."""
    one = Pass(index=0, counters=(counter,) if counter else (), perturbed=bool(counter), note="rocprof v1")
    manifest = Manifest(
        gpus=[Gpu(gpu=0, host="h", agent=agent, arch=arch)],
        processes=[Process(process=0, pid=pid, host="h")],
        passes=[one if counter else one.model_copy(update={"note": ""})],
        sources=[Source(path="h/1.csv", format="rocprofv3-csv-kernels", size_bytes=1)],
        dropped=[Dropped(reason="saturated counter values", count=1, source="x")],
        duration_s=float(pid),
    )
    zero = pa.array([0, 0], pa.int32())
    rows = tables.conform(
        "dispatches",
        {
            "pass": zero.cast(pa.int16()),
            "process": zero,
            "gpu": zero,
            "dispatch_id": pa.array([1, 2]),
            "kind": pa.scalar("kernel"),
            "kernel": pa.array([f"k{pid}", "same"]),
            "count": pa.array([1, 1]),
        },
        2,
    )
    made = Capture(manifest, dispatches=rows)
    if counter:
        made.counters = tables.conform(
            "counters",
            {
                "pass": zero.cast(pa.int16()),
                "process": zero,
                "gpu": zero,
                "dispatch_id": pa.array([1, 2]),
                "counter": pa.scalar(counter),
                "value": pa.array([5.0, 6.0]),
            },
            2,
        )
    made.notice("saturated-counters", f"of {pid}", "x")
    return made


def test_each_launch_is_a_pass_of_its_own() -> None:
    merged = merge(
        [
            Taken(1, capture(7), None),
            Taken(2, capture(8, "1", "SQ_WAVES"), Counting("gfx908", (CounterPass(("SQ_WAVES",)),))),
            Taken(4, capture(9, "gpu-1", "SQ_ACCUM_PREV_HIRES"), COUNTING),
        ]
    )
    assert [(one.index, one.perturbed, one.note) for one in merged.manifest.passes] == [
        (0, False, ""),
        (1, True, "rocprof v1"),
        (2, True, "level SQ_LEVEL_WAVES, rocprof v1"),
    ]
    assert (merged.manifest.passes[2].kernels, merged.manifest.passes[2].dispatches) == ("gemm", (2, 9))
    assert len(merged.manifest.gpus) == 1  # "Agent 1", "1" and "gpu-1" of one host and architecture
    assert [each.pid for each in merged.manifest.processes] == [7, 8, 9]
    rows = merged.dispatches.to_pylist()
    assert [(row["pass"], row["process"], row["gpu"], row["kernel"]) for row in rows] == [
        *[(0, 0, 0, "k7"), (0, 0, 0, "same"), (1, 1, 0, "k8"), (1, 1, 0, "same"), (2, 2, 0, "k9")],
        (2, 2, 0, "same"),
    ]
    assert merged.counters["pass"].to_pylist() == [1, 1, 2, 2]
    assert merged.dispatches.schema == tables.DISPATCHES
    assert merged.manifest.duration_s == 7.0
    assert [each.path for each in merged.manifest.sources] == ["h/1.csv", "pass-2/h/1.csv", "pass-4/h/1.csv"]
    assert merged.manifest.dropped[1].source == "pass 2 x"
    assert [each.source for each in merged.manifest.notices] == ["x", "pass 2 x", "pass 4 x"]


def test_a_gpu_that_cannot_be_told_stays_apart_and_is_said() -> None:
    first = capture(7)
    first.manifest.gpus.append(Gpu(gpu=1, host="h", agent="Agent 2", arch="gfx908"))
    merged = merge([Taken(1, first, None), Taken(2, capture(8, "Agent 5", "SQ_WAVES"), COUNTING)])
    assert len(merged.manifest.gpus) == 3
    assert set(merged.counters["gpu"].to_pylist()) == {2}
    assert any(each.code == "gpu-unmatched" for each in merged.manifest.notices)
    other = merge([Taken(1, capture(7), None), Taken(2, capture(8, "1", "SQ_WAVES", "gfx90a"), COUNTING)])
    assert len(other.manifest.gpus) == 2  # two architectures are never one card


def test_single_cards_are_one_whatever_their_number() -> None:
    merged = merge([Taken(1, capture(7, "Agent 4"), None), Taken(2, capture(8, "1", "SQ_WAVES"), COUNTING)])
    assert len(merged.manifest.gpus) == 1


def test_an_empty_first_launch_leaves_the_others_whole() -> None:
    merged = merge([Taken(1, Capture(Manifest()), None), Taken(2, capture(8, "1", "SQ_WAVES"), COUNTING)])
    assert merged.counters.num_rows == 2 and len(merged.manifest.gpus) == 1
    assert not any(each.code == "gpu-unmatched" for each in merged.manifest.notices)


def test_sharing_keeps_that_a_filter_was_set_and_not_which() -> None:
    from rocscope.redaction import redact

    counting = Counting("gfx908", (CounterPass(("SQ_WAVES",)),), "secret_kernel", (2, 9))
    merged = merge([Taken(1, capture(7), None), Taken(2, capture(8, "1", "SQ_WAVES"), counting)])
    shared, _ = redact(merged)
    assert [bool(each.kernels) for each in shared.manifest.passes] == [False, True]
    assert "secret_kernel" not in shared.manifest.model_dump_json()
