import pyarrow as pa
import pytest

from rocscope.analyzers.integrity import ANALYZER, kernels_missing
from rocscope.capture import Dropped, Notice
from synthetic_capture import capture, row, study


def missing(made):
    checked = study(made)
    ANALYZER.run(checked)
    return kernels_missing(checked)


def warnings(made, **options):
    checked = study(made, **options)
    ANALYZER.run(checked)
    return {each.code: each.message for each in checked.warnings}


CLEAN = [row("k", 100 * i, 90, queue=1, correlation_id=i, dispatch_id=i) for i in range(10)]


def test_a_clean_recording_raises_no_warning():
    assert warnings(capture(CLEAN)) == {}


def test_notices_of_readers_become_warnings():
    made = capture(CLEAN)
    made.manifest.notices.append(Notice(code="odd", message="something odd", source="a.csv"))
    assert warnings(made) == {"odd": "something odd (a.csv)"}


@pytest.mark.parametrize(("kind", "note"), [("replayed", ": a decoder"), ("synthetic", "")])
def test_provenance_is_said(kind, note):
    made = capture(CLEAN)
    made.manifest.provenance, made.manifest.provenance_note = kind, note.removeprefix(": ")
    assert warnings(made) == {f"provenance-{kind}": f"the device side is {kind}{note}"}


def test_no_kernels():
    assert warnings(capture([])) == {"no-gpu-kernels": "no GPU kernels in this recording"}
    said = capture([])
    said.notice("no-gpu-kernels", "no GPU kernels in this recording")
    assert len(warnings(said)) == 1


def test_dropped_rows_and_a_cut_recording_withhold_idle_time():
    made = capture(CLEAN)
    made.manifest.dropped.append(Dropped(reason="negative-duration", count=5))
    made.manifest.partial = True
    found = warnings(made)
    assert (
        "5 rows were left out beside 10" in found["dropped-dispatches"]
        and "33.3 %" in found["dropped-dispatches"]
    )
    assert "cut short" in found["partial-recording"]
    assert len(missing(made)) == 2
    assert missing(capture(CLEAN)) == []


def test_drops_that_lose_no_kernel_do_not_withhold_idle_time():
    made = capture(CLEAN)
    for reason in ("saturated counter values", "copies within the host", "negative-span"):
        made.manifest.dropped.append(Dropped(reason=reason, count=99))
    assert warnings(made) == {}


def launches(count, name="hipGraphLaunch"):
    return [
        {"process": 0, "kind": "api", "name": name, "start_ns": i, "end_ns": i + 1, "correlation_id": i}
        for i in range(count)
    ]


def test_launches_without_kernels_are_missing_kernels():
    made = capture(CLEAN, spans=launches(40))
    found = warnings(made)
    assert "30 of 40 launch calls have no kernel" in found["launches-without-kernels"]
    assert missing(made)
    assert warnings(capture(CLEAN, spans=launches(10))) == {}
    assert warnings(capture(CLEAN, spans=launches(40, "hipMalloc"))) == {}
    assert warnings(made, steps=(0, 1)) == {}  # a part was selected: the rest is not missing
    late = [
        {**each, "start_ns": 10**6, "end_ns": 10**6 + 1, "correlation_id": 1000 + i}
        for i, each in enumerate(launches(40))
    ]
    assert warnings(capture(CLEAN, spans=late)) == {}  # still pending when recording ended


def test_untimed_negative_and_aggregated_rows():
    rows = [*CLEAN, row("n", 2000, -5), row("u", None, None)]
    found = warnings(capture(rows))
    assert "1 dispatches end before they start" in found["negative-durations"]
    assert "1 of 12 rows carry no times" in found["untimed-dispatches"]
    assert "aggregate-only" not in warnings(capture([row("u", None, None)]))
    assert "only totals" in warnings(capture([row("k", None, 90, count=4)]))["aggregate-only"]


def test_barriers_and_perturbed_times():
    found = warnings(capture([*CLEAN, row("<barrier packet>", 0, 5000, kind="barrier")]))
    assert "1 barrier packets (5 µs)" in found["barriers-excluded"]
    perturbed = [{"counters": ("SQ_WAVES",), "perturbed": True}]
    assert "under counters" in warnings(capture(CLEAN, passes=perturbed))["perturbed-times"]


def test_overlap_within_a_queue_is_said_and_across_queues_is_not():
    rows = [row("k", 50 * i, 90, queue=1) for i in range(9, -1, -1)]
    assert "9 of 10 dispatches" in warnings(capture(rows))["overlapping-dispatches"]
    apart = [row("k", 50 * i, 90, queue=i) for i in range(10)]
    assert warnings(capture(apart)) == {}
    slight = [row("k", 1000 * i, 1001, queue=1) for i in range(10)]
    assert warnings(capture(slight)) == {}


def test_counters_that_stopped():
    made = capture(CLEAN)
    count = 3
    columns = {
        "pass": pa.array([0] * count),
        "process": pa.array([0] * count),
        "gpu": pa.array([0] * count),
        "dispatch_id": pa.array(range(count)),
        "counter": pa.array(["SQ_WAVE_CYCLES"] * count),
        "value": pa.array([206158430160.0, 7.0, None]),
    }
    from rocscope.tables import conform

    made.counters = conform("counters", columns, count)
    assert "1 counter values" in warnings(made)["saturated-counters"]


def test_missing_ranks():
    made = capture([row("k", 0, 9, gpu=g, process=g) for g in range(3)], ranks=3)
    assert "ranks-missing" not in warnings(made)
    assert "had 4 ranks, the recording holds 3" in warnings(made, tp=4)["ranks-missing"]
    assert "ranks-missing" not in warnings(made, tp=4, ranks=(0, 1))
    gone = made.manifest.processes[1].model_copy(update={"rank": 3})
    made.manifest.processes[1] = gone
    assert "ranks [1] are not in the recording" in warnings(made)["ranks-missing"]


def test_passes_that_disagree():
    counted = {"counters": ("SQ_WAVES",), "perturbed": True}
    rows = [*CLEAN, *({**each, "pass": 1} for each in CLEAN)]
    assert "passes-disagree" not in warnings(capture(rows, passes=[{}, counted]))
    found = warnings(capture([*rows, row("new", 0, 5, **{"pass": 1})], passes=[{}, counted]))
    assert "1 are not in every pass" in found["passes-disagree"]
    found = warnings(capture(rows[:-1], passes=[{}, counted]))
    assert "1 ran a different number of times" in found["passes-disagree"]


def test_kernels_without_launch_shape_and_unknown_gpus():
    rows = [row("k", 0, 75), row("bare", 75, 25, grid_x=None)]
    assert warnings(capture(rows))["launch-shapes-missing"].startswith("25 % of kernel time")
    assert "GPU 0 (Paper) is not in the GPU table" in warnings(capture(CLEAN), spec=None)["unknown-gpu"]
