"""rocpd databases. None was recorded for this project, so these are synthetic, with the schema's names."""

from __future__ import annotations

import gzip
import sqlite3
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import synthetic_rocpd as synthetic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocscope.capture import Capture
from rocscope.collectors.discovery import load, recognise
from rocscope.errors import InputError

SECRETS = {
    "HF_TOKEN": "hf_secretsecret",
    "VLLM_API_KEY": "s",
    "AWS_SECRET_ACCESS_KEY": "t",
    "HOME": "/root",
    "VLLM_USE_V1": "1",
}


def run(pid: int = 11, count: int = 50, **known: object) -> synthetic.Run:
    rows = [(i % 3, 1000 * i + 100, 1000 * i + 400 + i, 1024 * (1 + i % 2)) for i in range(1, count + 1)]
    names = ("gemm<a, b>(x, y)", 'quote"name', "new\nline")
    return synthetic.Run(pid=pid, kernels=names, **{"dispatches": rows, **known})  # type: ignore[arg-type]


def total(each: synthetic.Run) -> int:
    return sum(end - start for _, start, end, _ in each.dispatches)


def codes(capture: Capture) -> set[str]:
    return {notice.code for notice in capture.manifest.notices}


def time_of(capture: Capture) -> int:
    return int(pc.sum(capture.dispatches["duration_ns"]).as_py())


@pytest.mark.parametrize("layout", ["inline", "track"])
@pytest.mark.parametrize("compressed", [False, True])
def test_dispatches(tmp_path: Path, layout: str, compressed: bool) -> None:
    one = run(layout=layout)
    path = synthetic.write(tmp_path / "11_results.db", [one])
    if compressed:
        (tmp_path / "11_results.db.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
        path = tmp_path / "11_results.db.gz"
    capture = load([path])
    rows = capture.dispatches
    assert time_of(capture) == total(one)
    assert rows["kernel"].to_pylist()[:3] == [one.kernels[1], one.kernels[2], one.kernels[0]]
    assert rows["grid_x"].to_pylist()[:2] == [2048, 1024]
    assert set(rows["workgroup_x"].to_pylist()) == {256}
    assert (rows["vgprs"][0].as_py(), rows["agprs"][0].as_py(), rows["lds_bytes"][0].as_py()) == (
        72,
        72,
        1024,
    )
    assert rows["correlation_id"].to_pylist()[:2] == [1001, 1002]  # the internal one
    assert (rows["queue"][0].as_py(), rows["stream"][0].as_py()) == (1, 2)
    gpu = capture.manifest.gpus[0]
    assert (gpu.arch, gpu.compute_units, gpu.wave_size, gpu.host) == ("gfx908", 120, 64, "synthetic-host")
    assert capture.manifest.processes[0].pid == 11
    assert capture.manifest.sources[0].format == "rocpd"
    assert capture.manifest.dropped == []


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("layout", ["inline", "track"])
def test_merged_runs_are_kept_apart(tmp_path: Path, shared: bool, layout: str) -> None:
    """Two guids in one file: a dispatch never gets the kernel, GPU or process of the other's row."""
    first = run(11, layout=layout, agent=4)
    second = synthetic.Run(
        pid=12, kernels=("other",), dispatches=[(0, 5, 9, 64)] * 7, agent=5, arch="gfx90a", layout=layout
    )
    capture = load([synthetic.write(tmp_path / "merged.db", [first, second], shared=shared)])
    assert time_of(capture) == total(first) + 28
    names = {each.process: each.pid for each in capture.manifest.processes}
    other = capture.dispatches.filter(pc.equal(capture.dispatches["kernel"].cast(pa.string()), "other"))
    assert other.num_rows == 7
    assert {names[p] for p in other["process"].to_pylist()} == {12}
    assert {capture.manifest.gpus[g].arch for g in other["gpu"].to_pylist()} == {"gfx90a"}
    assert len(capture.manifest.gpus) == 2


def test_several_files_are_one_capture(tmp_path: Path) -> None:
    for pid in (11, 12):
        synthetic.write(tmp_path / f"{pid}_results.db", [run(pid)])
    capture = load([tmp_path])
    assert sorted(each.pid for each in capture.manifest.processes) == [11, 12]
    assert len(capture.manifest.gpus) == 1
    assert time_of(capture) == 2 * total(run())


def test_the_environment_is_scrubbed(tmp_path: Path) -> None:
    one = run(
        11,
        environment={**SECRETS, "RANK": "2"},
        command="vllm serve m --api-key verysecret",
    )
    two = run(12, environment={**SECRETS, "RANK": "3"}, command="vllm serve m")
    capture = load([synthetic.write(tmp_path / "a.db", [one, two])])
    assert capture.manifest.environment == {"VLLM_USE_V1": "1"}  # RANK differs by process
    assert [each.rank for each in capture.manifest.processes] == [2, 3]
    text = capture.manifest.model_dump_json()
    for secret in ("secretsecret", "verysecret", "/root"):
        assert secret not in text


def test_rows_without_event_count(tmp_path: Path) -> None:
    one = run(without_event=frozenset({2, 3}))
    path = synthetic.write(tmp_path / "a.db", [one])
    with sqlite3.connect(path) as db:
        seen = db.execute("SELECT count(*) FROM kernels").fetchone()[0]
    db.close()
    capture = load([path])
    assert (seen, capture.dispatches.num_rows) == (48, 50)
    assert time_of(capture) == total(one)
    message = next(n.message for n in capture.manifest.notices if n.code == "rows-without-event")
    assert " 2 dispatches" in message


def test_an_unknown_layout_falls_back_to_the_view(tmp_path: Path) -> None:
    one = run(without_event=frozenset({2}))
    path = synthetic.write(tmp_path / "a.db", [one])
    suffix = "_" + one.guid.replace("-", "_")
    with sqlite3.connect(path) as db:  # a column under another name is a layout of the future
        rows = db.execute("SELECT * FROM kernels")
        names = [column[0] for column in rows.description]
        kept = rows.fetchall()
        db.execute("DROP VIEW kernels")
        db.execute(f"CREATE TABLE kernels ({', '.join(f'{chr(34)}{name}{chr(34)}' for name in names)})")
        db.executemany(f"INSERT INTO kernels VALUES ({','.join('?' * len(names))})", kept)
        db.execute(f'ALTER TABLE "rocpd_kernel_dispatch{suffix}" RENAME COLUMN start TO began')
    db.close()
    capture = load([path])
    assert capture.dispatches.num_rows == 49
    assert "view-loses-rows" in codes(capture)
    assert [(each.reason, each.count) for each in capture.manifest.dropped] == [
        ("left out by the database's view", 1)
    ]
    assert capture.dispatches["kernel"].to_pylist()[0] == one.kernels[1]
    assert [each.pid for each in capture.manifest.processes] == [11]
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE kernels")
    db.close()
    assert {"unknown-layout", "no-gpu-kernels"} <= codes(load([path]))


def test_counters_are_summed_over_instances(tmp_path: Path) -> None:
    saturated = 48 * (2**32 - 1)
    values = [(i, "SQ_WAVES", w) for i, w in ((1, 16.0), (1, 16.0), (2, 99.0))]
    values += [(1, "TCC_HIT", 5.0), (2, "TCC_HIT", None), (2, "CYCLES", saturated), (1, "CYCLES", 7.0)]
    capture = load([synthetic.write(tmp_path / "a.db", [run(count=3, counters=values)])])
    rows = capture.counters.to_pylist()
    found = {(row["dispatch_id"], row["counter"]): row["value"] for row in rows}
    assert found == {
        (1, "SQ_WAVES"): 32.0,
        (2, "SQ_WAVES"): 99.0,
        (1, "TCC_HIT"): 5.0,
        (2, "TCC_HIT"): None,
        (2, "CYCLES"): None,
        (1, "CYCLES"): 7.0,
    }
    assert [(p.counters, p.perturbed, p.note) for p in capture.manifest.passes] == [
        (("CYCLES", "SQ_WAVES", "TCC_HIT"), True, "")
    ]
    assert {"saturated-counters", "waves-mismatch"} <= codes(capture)  # 1024 / 64 = 16, of 2048 / 64 = 32


def test_counters_without_a_dispatch_are_counted(tmp_path: Path) -> None:
    one = run(count=3, counters=[(1, "A", 1.0), (900, "A", 2.0)])
    capture = load([synthetic.write(tmp_path / "a.db", [one])])
    assert capture.counters["value"].to_pylist() == [1.0]
    assert [(each.reason, each.count) for each in capture.manifest.dropped] == [
        ("counter values without a dispatch", 1)
    ]
    lost = run(12, count=1, counters=[(900, "A", 2.0)])
    assert not load([synthetic.write(tmp_path / "b.db", [lost])]).manifest.passes[0].perturbed


@pytest.mark.parametrize("layout", ["inline", "track"])
def test_copies_and_host_calls(tmp_path: Path, layout: str) -> None:
    one = run(
        layout=layout,
        copies=[("MEMORY_COPY_HOST_TO_DEVICE", 10, 30, 4096), ("MEMORY_COPY_HOST_TO_HOST", 10, 30, 1)],
        regions=[
            ("HIP_RUNTIME_API_EXT", "hipLaunchKernel", 5, 9, 1001),
            ("MARKER_CORE_API", "my range", 1, 99, 0),
            ("HIP_RUNTIME_API_EXT", "hipFree", 9, 5, 2),
        ],
    )
    capture = load([synthetic.write(tmp_path / "a.db", [one])])
    copies = capture.dispatches.filter(pc.equal(capture.dispatches["kind"].cast(pa.string()), "memcpy"))
    assert copies["copied_bytes"].to_pylist() == [4096]
    assert copies["kernel"].to_pylist() == ["MEMORY_COPY_HOST_TO_DEVICE"]
    spans = capture.spans.to_pylist()
    assert [(s["kind"], s["name"], s["correlation_id"]) for s in spans] == [
        ("api", "hipLaunchKernel", 1001),
        ("annotation", "my range", 0),
    ]
    assert {s["thread"] for s in spans} == {12}
    assert len(capture.manifest.gpus) == 1
    assert {each.reason: each.count for each in capture.manifest.dropped} == {
        "copies within the host": 1,
        "ends before it starts": 1,
    }


def test_impossible_times_and_missing_names(tmp_path: Path) -> None:
    one = synthetic.Run(dispatches=[(0, 10, 20, 64), (0, 30, 20, 64), (5, 40, 50, 64)])
    capture = load([synthetic.write(tmp_path / "a.db", [one])])
    assert capture.dispatches["kernel"].to_pylist() == [
        "synthetic_kernel(float*)",
        "<kernel 6 without a name>",
    ]
    assert [(each.reason, each.count) for each in capture.manifest.dropped] == [("ends before it starts", 1)]


def test_an_empty_database(tmp_path: Path) -> None:
    capture = load([synthetic.write(tmp_path / "a.db", [synthetic.Run()])])
    assert {"matched-nothing", "no-gpu-kernels"} <= codes(capture)


def test_names_in_the_file_cannot_inject(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path / "a.db", [run()])
    with sqlite3.connect(path) as db:
        db.execute('CREATE TABLE "rocpd_kernel_dispatch""; DROP TABLE x; --" (id INTEGER)')
        db.execute('CREATE TABLE "rocpd_metadata_odd" (id INTEGER)')
    db.close()
    assert time_of(load([path])) == total(run())


def test_damage_names_the_file(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path / "a.db", [run(count=3000)])
    data = bytearray(path.read_bytes())
    data[len(data) // 3 :] = b"\xee" * (len(data) - len(data) // 3)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.db: damaged") as error:
        load([path])
    assert error.value.hint
    path.write_bytes(b"SQLite format 3\x00" + b"rocpd_info_" + b"\x07" * 4000)
    with pytest.raises(InputError, match=r"a\.db: damaged"):
        load([path])


def test_text_in_a_number_column(tmp_path: Path) -> None:
    one = run()
    path = synthetic.write(tmp_path / "a.db", [one])
    suffix = "_" + one.guid.replace("-", "_")
    with sqlite3.connect(path) as db:
        db.execute(f"UPDATE \"rocpd_kernel_dispatch{suffix}\" SET start = 'soon' WHERE id = 50")
    db.close()
    capture = load([path])
    assert capture.dispatches.num_rows == 49
    assert [(each.reason, each.count) for each in capture.manifest.dropped] == [("unreadable times", 1)]


def test_other_databases_are_not_rocpd(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE rocpd_op (id INTEGER)")
    db.close()
    assert recognise(path) is None
    (tmp_path / "x.db.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert recognise(tmp_path / "x.db.gz") is None
    (tmp_path / "y.db").write_bytes(b"SQLite format 3\x00" + b"\x07" * 100)
    assert recognise(tmp_path / "y.db") is None


def test_read_only_and_unchanged(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path / "a.db", [run()])
    before = path.read_bytes()
    path.chmod(0o444)
    load([path])
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["a.db"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=40)), min_size=1, max_size=6))
def test_damage_anywhere_is_an_input_error_or_harmless(
    tmp_path: Path, where: list[tuple[float, bytes]]
) -> None:
    path = tmp_path / "fuzz.db"
    if not (tmp_path / "whole.db").exists():
        rows = [(i, "SQ_WAVES", 16.0) for i in range(1, 9)]
        one = run(count=8, counters=rows, copies=[("MEMORY_COPY_HOST_TO_DEVICE", 10, 30, 4096)])
        synthetic.write(tmp_path / "whole.db", [one])
    data = bytearray((tmp_path / "whole.db").read_bytes())
    for share, noise in where:
        at = int(share * (len(data) - len(noise)))
        data[at : at + len(noise)] = noise
    path.write_bytes(data)
    try:
        capture = load([path])
    except InputError as error:
        assert "fuzz.db" in error.message
    else:
        assert all((d or 0) >= 0 for d in capture.dispatches["duration_ns"].to_pylist())
