"""Each integrity check catches its seeded fault, and is silent on clean recordings. Faults are synthetic."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from rocscope import pipeline, selection
from rocscope.capture import Dropped
from rocscope.config import AnalyzeOptions
from rocscope.tables import conform
from synthetic_capture import capture, row

ALONE = "kineto_strided_graph.json.gz"
RANKS = ("tp2_straggler_rank0.json.gz", "tp2_straggler_rank1.json.gz")


def codes(made, **options):
    return {
        each.code for each in pipeline.analyze_capture(made, AnalyzeOptions(**options)).integrity.warnings
    }


def replace(made, column, values):
    table = made.dispatches
    index = table.schema.get_field_index(column)
    values = values.cast(table.schema.field(index).type) if hasattr(values, "cast") else values
    made.dispatches = table.set_column(index, table.schema.field(index), values)


def shifted(made, rows, by_ns):
    """Move the times of the dispatches of ``rows`` (a mask)."""
    for column in ("start_ns", "end_ns"):
        replace(
            made, column, pc.if_else(rows, pc.add(made.dispatches[column], by_ns), made.dispatches[column])
        )


def every(made, count):
    return pa.array([index % count == 0 for index in range(made.dispatches.num_rows)])


def dropped(made):
    made.manifest.dropped.append(Dropped(reason="no times", count=made.dispatches.num_rows // 10))


def backwards(made):
    durations = made.dispatches["duration_ns"]
    replace(made, "duration_ns", pc.if_else(every(made, 50), pc.negate(durations), durations))


def overlapping(made):
    longer = pc.add(made.dispatches["end_ns"], pa.scalar(20_000_000))
    replace(made, "end_ns", pc.if_else(every(made, 100), longer, made.dispatches["end_ns"]))


def saturated(made):
    rows = 4
    zeros = pa.array([0] * rows)
    made.counters = conform(
        "counters",
        {
            **dict.fromkeys(("pass", "process", "gpu"), zeros),
            "dispatch_id": pa.array(range(rows)),
            "counter": pa.array(["SQ_WAVE_CYCLES"] * rows),
            "value": pa.array([206158430160.0, 1.0, 2.0, 3.0]),
        },
        rows,
    )


def shapeless(made):
    replace(made, "grid_x", pa.nulls(made.dispatches.num_rows, pa.int64()))


def host_clock_off(made):
    """The GPU's clock runs at half the speed of the host's."""
    start = pc.min(made.dispatches["start_ns"]).as_py()
    for column in ("start_ns", "end_ns"):
        past = pc.cast(pc.subtract(made.dispatches[column], start), pa.float64())
        slow = pc.cast(pc.floor(pc.multiply(past, 0.5)), pa.int64())
        replace(made, column, pc.add(slow, start))


def rank_gone(made):
    made.manifest.world_size = 2


def rank_clock_off(made):
    made.manifest.window_ns = None  # it would cut the rank that is off
    shifted(made, pc.equal(made.dispatches["gpu"], 1), 5_000_000)


FAULTS = [
    (ALONE, dropped, "dropped-dispatches"),
    (ALONE, backwards, "negative-durations"),
    (ALONE, overlapping, "overlapping-dispatches"),
    (ALONE, saturated, "saturated-counters"),
    (ALONE, shapeless, "launch-shapes-missing"),
    (ALONE, host_clock_off, "clock-drift"),
    (ALONE, rank_gone, "ranks-missing"),
    (RANKS, rank_clock_off, "clock-drift"),
]


def load(examples, names):
    folder = examples / "h200_decoder"
    return pipeline.load(*(folder / name for name in ([names] if isinstance(names, str) else names)))


@pytest.mark.parametrize(("names", "seed", "code"), FAULTS, ids=lambda each: getattr(each, "__name__", None))
def test_a_seeded_fault_is_caught(examples, names, seed, code):
    made = load(examples, names)
    seed(made)
    assert code in codes(made)


@pytest.mark.parametrize("names", [ALONE, RANKS, "kineto_fp16_graph.json.gz", "kineto_strided_eager.json.gz"])
def test_clean_recordings_raise_none_of_them(examples, names):
    found = codes(load(examples, names))
    assert found.isdisjoint({code for _, _, code in FAULTS} | {"passes-disagree"})


@pytest.mark.captures
@pytest.mark.parametrize("name", ["h200_vllm/gptq8_graph.kineto.json.gz", "rocprofv3/tracelens_908"])
def test_clean_recordings_of_others_raise_none_of_them(captures, name):
    assert codes(pipeline.load(captures / name)).isdisjoint({code for _, _, code in FAULTS})


def passes(extra):
    """A pass without and a pass with counters, of the same work but for ``extra`` dispatches."""
    rows = [row("k", 100 * i, 90, dispatch_id=i) for i in range(10)]
    second = [{**each, "pass": 1} for each in rows]
    second += [row("k", 2000 + 100 * i, 90, dispatch_id=10 + i, **{"pass": 1}) for i in range(extra)]
    return capture([*rows, *second], passes=[{}, {"counters": ("SQ_WAVES",), "perturbed": True}])


def test_passes_that_disagree_are_caught_and_those_that_agree_are_not():
    assert "passes-disagree" in codes(passes(1))
    assert "passes-disagree" not in codes(passes(0))


def test_coverage_falls_with_what_cannot_be_labelled(examples):
    folder = examples / "h200_decoder"
    made = load(examples, ALONE)
    whole = pipeline.analyze_capture(made, AnalyzeOptions(model=folder / "w4_config.json")).integrity
    names = made.dispatches["kernel"].cast(pa.string())
    hidden = pc.if_else(pc.match_substring(names, "gptq"), pa.scalar("mystery"), names)
    replace(made, "kernel", hidden.combine_chunks().dictionary_encode())
    analysis = pipeline.analyze_capture(made, AnalyzeOptions(model=folder / "w4_config.json"))
    assert whole.classified_time_frac == 1.0
    assert analysis.integrity.classified_time_frac < 0.5
    assert analysis.integrity.labelled_time_frac < whole.labelled_time_frac
    told = [each for each in analysis.targets if each.id.startswith("rule-largest-family-unclassified")]
    assert told and "mystery" in told[0].problem and told[0].expected_gain is None


def test_a_selected_rank_is_not_a_missing_one(examples):
    made = selection.select(load(examples, RANKS), AnalyzeOptions(ranks=(1,)))
    assert "ranks-missing" not in codes(made, ranks=(1,))
