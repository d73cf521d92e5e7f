"""Tables of kernels measured elsewhere. All figures here are made up."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope import cli, pipeline
from rocscope.collectors import table
from rocscope.errors import EmptyInput, InputError, NotFound, RocscopeError
from rocscope.study import MEASURE_COLUMNS


def written(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


def load(tmp_path, text):
    return table.load(written(tmp_path, text))


def notices(capture):
    return [notice.message for notice in capture.manifest.notices]


def test_a_row_becomes_aggregated_dispatches_and_counters(tmp_path):
    made = load(
        tmp_path,
        "\ufeffcase,kernel,duration_ns,dispatches,grid_x,workgroup_x,read_bytes,flops,flops_unit,family,vgprs\n"
        'a,"void f<1, 2>(int)",1500.5,4,1024,256,1e6,5e6,vector_fp16,gemm,72\n'
        "\n"
        "b,g,10,,,,,,,,\n",
    )
    rows = made.dispatches.to_pylist()
    assert [row["kernel"] for row in rows] == ["void f<1, 2>(int)", "g"]
    assert [(row["duration_ns"], row["count"], row["grid_x"]) for row in rows] == [
        (6002, 4, 1024),
        (10, 1, None),
    ]
    assert (rows[0]["case"], rows[0]["given_family"], rows[0]["given_flops_unit"]) == (
        "a",
        "gemm",
        "vector_fp16",
    )
    counters = {(row["dispatch_id"], row["counter"]): row["value"] for row in made.counters.to_pylist()}
    assert counters == {(0, "read_bytes"): 1e6, (0, "flops_measured"): 5e6}
    assert made.manifest.provenance == "recorded" and made.manifest.profiler == "table"
    assert not notices(made)


def test_its_columns_fill_the_measures_and_nothing_else(tmp_path):
    assert set(table.MEASURES.values()) == set(MEASURE_COLUMNS)
    assert set(table.MEASURES) < set(table.COLUMNS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kernel,duration_ns,speed\nk,1,2\n", "'speed'"),
        ("kernel\nk\n", "needs the column duration_ns"),
        ("kernel,duration_ns,kernel\nk,1,k\n", "more than once"),
    ],
)
def test_a_wrong_header_is_an_error_that_lists_the_columns(tmp_path, text, said):
    with pytest.raises(InputError) as error:
        load(tmp_path, text)
    assert said in error.value.message and "table.csv, line 1" in error.value.message
    assert all(name in error.value.hint for name in table.COLUMNS)


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("read_bytes", "many", "is not a number"),
        ("read_bytes", "-1", "is below 0"),
        ("read_bytes", "inf", "is not a number"),
        ("read_bytes", "1e30", "larger than anything"),
        ("l2_hit_frac", "1.11", "more than the whole"),
        ("grid_x", "0", "at least 1"),
        ("vgprs", "7.5", "whole number"),
        ("lds_bytes", "1e12", "more than a launch can have"),
        ("family", "magic", "is none of"),
        ("flops_unit", "fp7", "is none of"),
    ],
)
def test_a_bad_cell_is_named_and_the_rest_of_its_row_used(tmp_path, column, cell, said):
    made = load(tmp_path, f"kernel,duration_ns,waves_per_cu,{column}\nk,1,2,\nk,1,2,{cell}\n")
    (message,) = notices(made)
    assert "table.csv, line 3" in message and column in message and said in message
    assert made.dispatches.num_rows == 2
    assert made.counters["counter"].to_pylist() == ["waves_per_cu"] * 2


@pytest.mark.parametrize("cell", ["38.2", "1.5", "0.9%"])
def test_percentages_are_refused_as_small_ones_look_like_shares(tmp_path, cell):
    with pytest.raises(InputError) as error:
        load(tmp_path, f"kernel,duration_ns,issue_active_frac\nk,1,0.9\nk,1,{cell}\n")
    assert "table.csv, line 3: column issue_active_frac" in error.value.message
    assert repr(cell) in error.value.message and "fractions" in error.value.hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("kernel;duration_ns\nk;1\n", "separate columns with commas; the columns"),
        ("kernel\tduration_ns\nk\t1\n", "separate columns with commas; the columns"),
        (",kernel,duration_ns\n0,k,1\n", "leave out the column without a name"),
    ],
)
def test_a_header_of_another_kind_is_recognised(tmp_path, text, hint):
    with pytest.raises(InputError) as error:
        load(tmp_path, text)
    assert hint in error.value.hint and "issue_active_frac" in error.value.hint


def test_text_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes("kernel,duration_ns\nk,1\n".encode("utf-16"))
    with pytest.raises(InputError, match="UTF-16"):
        table.load(path)


def test_more_rows_than_labels_can_be_kept_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "_MOST_ROWS", 3)
    assert load(tmp_path, "kernel,duration_ns\n" + "k,1\n" * 3).dispatches.num_rows == 3
    with pytest.raises(InputError, match="line 5: more than 3 rows"):
        load(tmp_path, "kernel,duration_ns\n" + "k,1\n" * 4)


@pytest.mark.parametrize("ends", ["\r\n", "\r"])
def test_line_ends_and_line_ends_in_names_are_read(tmp_path, ends):
    made = load(tmp_path, ends.join(["\ufeffcase,kernel,duration_ns", 'a,"f\ng",5', "b,h,x", "c,i,6"]))
    assert made.dispatches["kernel"].to_pylist() == ["f\ng", "i"]
    assert made.dispatches["case"].to_pylist() == ["a", "c"]
    assert "column duration_ns: 'x'" in notices(made)[0]


def test_a_share_just_above_one_is_one(tmp_path):
    made = load(tmp_path, "kernel,duration_ns,l2_hit_frac\nk,1,1.04\n")
    assert made.counters["value"].to_pylist() == [1.0] and not notices(made)


@pytest.mark.parametrize("row", ["k,", ",5", "k,0", "k,fast", "k,5,6", "k"])
def test_a_row_that_cannot_be_used_is_dropped_and_counted(tmp_path, row):
    made = load(tmp_path, f"kernel,duration_ns\ngood,5\n{row}\n")
    assert made.dispatches["kernel"].to_pylist() == ["good"]
    assert sum(each.count for each in made.manifest.dropped) == 1
    assert "line 3" in notices(made)[0]
    with pytest.raises(InputError, match="line 2"):
        load(tmp_path, f"kernel,duration_ns\n{row}\n")


def test_a_total_beyond_all_recordings_is_dropped(tmp_path):
    made = load(tmp_path, "kernel,duration_ns,dispatches\nk,1e17,1000000\ngood,1,1\n")
    assert made.dispatches["kernel"].to_pylist() == ["good"] and "can last" in notices(made)[0]


def test_many_bad_cells_are_not_all_listed(tmp_path):
    rows = "k,1,x\n" * 50
    made = load(tmp_path, f"kernel,duration_ns,read_bytes\n{rows}")
    assert len(notices(made)) == 21 and notices(made)[-1].endswith("and more such cells")


def test_files_that_are_no_table(tmp_path):
    with pytest.raises(NotFound):
        table.load(tmp_path / "none.csv")
    with pytest.raises(InputError, match="not a regular file"):
        table.load(tmp_path)
    with pytest.raises(EmptyInput):
        load(tmp_path, " \n")
    with pytest.raises(InputError, match="no row"):
        load(tmp_path, "kernel,duration_ns\n")
    with pytest.raises(InputError, match="line"):
        load(tmp_path, 'kernel,duration_ns\n"k,1\n')


@given(
    st.lists(
        st.tuples(st.text(max_size=12), st.floats() | st.text(max_size=6), st.floats() | st.integers()),
        max_size=5,
    )
)
def test_any_table_is_read_or_refused(tmp_path_factory, rows):
    import csv

    path = tmp_path_factory.mktemp("any") / "t.csv"
    with path.open("w", newline="", encoding="utf-8", errors="replace") as stream:
        csv.writer(stream).writerows([("kernel", "duration_ns", "mfma_busy_frac"), *rows])
    try:
        made = table.load(path)
    except RocscopeError:
        return
    lost = sum(each.count for each in made.manifest.dropped)
    assert 0 < made.dispatches.num_rows <= len(rows) - lost
    assert all(row["duration_ns"] >= 1 for row in made.dispatches.to_pylist())
    assert all(0 <= value <= 1 for value in made.counters["value"].to_pylist())


def test_rows_alike_stay_apart_and_a_given_family_wins(tmp_path):
    path = written(
        tmp_path,
        "case,kernel,duration_ns,family,read_bytes\na,gemm_kernel,1e5,rope,4e8\n,gemm_kernel,1e5,,1e6\n"
        ",gemm_kernel,1e5,,1e6\n",
    )
    found = pipeline.analyze(pipeline.load_table(path), gpu="H200")
    assert sorted((k.case or "", k.family == "rope", k.bytes_per_dispatch.value) for k in found.kernels) == [
        ("", False, 1e6),
        ("", False, 1e6),
        ("a", True, 4e8),
    ]


def test_the_command_reads_a_table(tmp_path, capsys):
    path = written(tmp_path, "case,kernel,duration_ns,read_bytes\nit,k,1e5,4e8\n")
    assert cli.run(["analyze", "--table", str(path), "--gpu", "H200", "--json"]) == 0
    (kernel,) = json.loads(capsys.readouterr().out)["kernels"]
    assert (kernel["case"], kernel["limiter"]) == ("it", "memory-bandwidth")
    assert kernel["bytes_per_dispatch"]["basis"] == "measured"
    for arguments in (["--table", str(path)], [], [str(path), "--table", str(path), "--gpu", "H200"]):
        assert cli.run(["analyze", *arguments]) == 2
