"""Telemetry in CSV files: columns by name, times set against a recording only where that is honest."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rocscope
from rocscope import pipeline
from rocscope.capture import Clock
from rocscope.collectors import discovery
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.source import Source
from rocscope.collectors.telemetry_csv import READERS
from rocscope.errors import InputError, UnknownFormat

UNIX = 1_795_210_208_000_000_000
HEADER = "time_ns,phase,power_mw,gpu_util,mem_util,sm_mhz,mem_mhz,temp_c\n"


def read(tmp_path, text, builder=None):
    path = tmp_path / "telemetry.csv"
    path.write_text(text, encoding="utf-8")
    builder = builder or CaptureBuilder()
    reader = READERS[0]
    source = Source.open(path)
    assert reader.recognises(source)
    reader.read(source, builder)
    return builder.build()


def rows(made):
    return [(row["time_ns"], row["subject"], row["metric"], row["value"]) for row in made.samples.to_pylist()]


def with_kernel(gpus=1, **clock):
    builder = CaptureBuilder()
    for index in range(gpus):
        builder.gpu(str(index))
    builder.process(1)
    builder.add_pass()
    import pyarrow as pa

    numbers = {
        name: pa.scalar(0, pa.int64()) for name in ("process", "gpu", "start_ns", "end_ns", "duration_ns")
    }
    builder.append(
        "dispatches", 1, **numbers, **{"pass": pa.scalar(0)}, kind=pa.scalar("kernel"), kernel=pa.scalar("k"),
        count=pa.scalar(1),
    )  # fmt: skip
    if clock:
        builder.manifest["clock"] = Clock(**clock)
    return builder


def test_columns_of_a_loop_over_nvml_in_our_units(tmp_path):
    made = read(tmp_path, HEADER + f"{UNIX},c1,124403,50,25,1980,3201,46\n")
    assert rows(made) == [
        (UNIX, "gpu:0", "power_w", pytest.approx(124.403)),
        (UNIX, "gpu:0", "busy_frac", 0.5),
        (UNIX, "gpu:0", "memory_busy_frac", 0.25),
        (UNIX, "gpu:0", "clock_hz", 1.98e9),
        (UNIX, "gpu:0", "memory_clock_hz", 3.201e9),
        (UNIX, "gpu:0", "temperature_edge_c", 46.0),
        (UNIX, "phase:c1", "marked", 1.0),
    ]
    assert {row["source"] for row in made.samples.to_pylist()} == {"file"}
    assert made.manifest.notices == []


def test_times_are_brought_into_the_recordings_clock(tmp_path):
    made = read(
        tmp_path, f"time_ns,power_w\n{UNIX + 5},100\n", with_kernel(domain="realtime", wall_offset_ns=UNIX)
    )
    assert rows(made) == [(5, "gpu:0", "power_w", 100.0)] and made.manifest.notices == []


@pytest.mark.parametrize(
    ("text", "clock", "words"),
    [
        ("time_ns,power_w\n12,100\n", {"domain": "realtime", "wall_offset_ns": UNIX}, "no known moment"),
        ("time_s,power_w\n0.5,100\n", {"domain": "realtime", "wall_offset_ns": UNIX}, "no known moment"),
        (f"time_ns,power_w\n{UNIX},100\n", {}, "does not tell its times in Unix time"),
    ],
)
def test_what_cannot_be_set_against_kernels_says_so(tmp_path, text, clock, words):
    made = read(tmp_path, text, with_kernel(**clock))
    assert [each.code for each in made.manifest.notices] == ["telemetry-unaligned"]
    assert words in made.manifest.notices[0].message and made.samples.num_rows == 1
    assert rocscope.analyze(made).telemetry["not_set_against_kernels"] is not None


def test_seconds_of_several_gpus(tmp_path):
    made = read(tmp_path, f"time_s,gpu,power_w,energy_j\n{UNIX // 10**9}.25,1,100,\n{UNIX // 10**9},x,1,2\n")
    [(time, *rest)] = rows(made)
    assert abs(time - UNIX - 250_000_000) < 1000 and rest == ["gpu:1", "power_w", 100.0]
    assert [(each.reason, each.count) for each in made.manifest.dropped] == [
        ("telemetry rows without a GPU", 1)
    ]
    one = read(
        tmp_path, f"time_ns,power_w\n{UNIX},1\n", with_kernel(2, domain="realtime", wall_offset_ns=UNIX)
    )
    assert [each.code for each in one.manifest.notices] == ["telemetry-unmatched"]
    assert rows(one)[0][1] == "device:unnamed"


def test_bad_rows_are_counted_and_the_rest_is_used(tmp_path):
    text = f"time_ns,power_w,phase\nsoon,1,a\n{UNIX},N/A,a\n{UNIX + 1},7,<b>\x1b\n{UNIX + 2},8\n"
    made = read(tmp_path, text)
    assert (UNIX + 1, "gpu:0", "power_w", 7.0) in rows(made)
    assert any(subject == "phase:?b??" for _, subject, _, _ in rows(made))
    assert {each.reason for each in made.manifest.dropped} == {
        "malformed rows",
        "telemetry rows without a time",
    }
    for text, words in (
        (HEADER + "x,,,,,,,\n", "no row has a time"),
        (HEADER + f"{UNIX},,,,,,,\n", "no reading"),
    ):
        with pytest.raises(InputError, match=words):
            read(tmp_path, text)
    many = "".join(f"{UNIX + i},1,p{i}\n" for i in range(101))
    assert [each.code for each in read(tmp_path, "time_ns,power_w,phase\n" + many).manifest.notices] == [
        "telemetry-phases"
    ]


def test_other_tables_are_not_taken_for_telemetry(tmp_path):
    for text in ("time_ns,temp_c\n1,2\n", "power_w,clock_hz\n1,2\n", "Kernel_Name,time_ns\nk,1\n"):
        path = tmp_path / "other.csv"
        path.write_text(text)
        assert not READERS[0].recognises(Source.open(path))
    with pytest.raises(UnknownFormat, match="not a format"):
        discovery.load([path])


@given(st.text(alphabet="time_ns,power0123456789.e-+\n\"'\x00é", max_size=300))
def test_any_text_gives_samples_or_a_clear_error(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "t.csv"
    path.write_text("time_ns,power_w,phase\n" + text, encoding="utf-8")
    builder = CaptureBuilder()
    try:
        READERS[0].read(Source.open(path), builder)
    except InputError:
        return
    assert builder.build().samples.num_rows > 0


@pytest.mark.captures
@pytest.mark.parametrize(
    ("which", "c1", "c16"),
    [
        ("fp16", (464.9, 168.86, 2.753), (531.6, 1977.3, 0.2689)),
        ("gptq8", (367.7, 199.13, 1.847), (487.6, 1044.6, 0.4668)),
    ],
)
def test_joules_a_token_of_recorded_runs(captures, which, c1, c16):
    """Watts from the telemetry over tokens a second of the load; 8 bits win alone and lose at sixteen."""
    stem = captures / "h200_vllm" / f"{which}_graph"
    made = rocscope.load(stem.with_suffix(".kineto.json.gz"), stem.with_suffix(".telemetry.csv"))
    levels = json.loads(stem.with_suffix(".load.json").read_text())
    measured = [
        {**each, "output_tokens": each["requests"] * each["output"], "duration_s": each["wall_s"]}
        for each in levels
    ]
    made.manifest.load = {
        "kind": "builtin",
        "profiled": None,
        "unprofiled": {"kind": "builtin", "levels": measured},
    }
    telemetry = pipeline.analyze_capture(made).telemetry
    told = {each["of"]: each["joules_per_token"] for each in telemetry["energy_per_token"]}
    phases = {each["phase"]: each["gpus"][0]["power_w"] for each in telemetry["marked_phases"]}
    for name, (watts, rate, joules) in (("1", c1), ("16", c16)):
        assert phases[f"c{name}"] == pytest.approx(watts, rel=1e-3)
        assert told[f"output tokens at concurrency {name}"] == pytest.approx(watts / rate, rel=1e-3)
        assert watts / rate == pytest.approx(joules, rel=1e-2)
    entry = telemetry["gpus"][0]
    assert telemetry["not_set_against_kernels"] is None
    assert entry["clock_hz"]["mean"] == 1.98e9 and entry["slowdown_by_clock"] is None
    # the part under the profiler is shorter than what the sensor averages over: no energy, and it says why
    assert entry["energy_j"]["value"] is None and "is shorter than 2 s" in entry["energy_j"]["source"]
    assert entry["power_w"]["at_work"] is None and entry["families"] == []
