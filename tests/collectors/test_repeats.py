"""Repeats of one thing, told from one recording in several files by what is in them."""

import gzip
import json
import shutil

import pytest

from rocscope import archive, pipeline
from rocscope.collectors import repeats
from rocscope.errors import InputError
from synthetic_steps import decode_steps


def stored(folder, *seeds, **more):
    for seed in seeds:
        decode_steps(count=6, seed=seed, **more).save(folder / f"run{seed}" / "capture")
    return folder


def trace(path, start_us, rank=None):
    """A PyTorch trace of four kernels, as a profiler writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    events = [
        {
            "ph": "X",
            "cat": "kernel",
            "name": "k",
            "pid": 0,
            "tid": 7,
            "ts": start_us + 10 * i,
            "dur": 5,
            "args": {"device": 0, "stream": 7, "correlation": i + 1},
        }
        for i in range(4)
    ]
    about = {"schemaVersion": 1, "deviceProperties": [{"id": 0, "name": "AMD Instinct MI100"}]}
    if rank is not None:
        about["distributedInfo"] = {"backend": "nccl", "rank": rank, "world_size": 2}
    path.write_bytes(gzip.compress(json.dumps({**about, "traceEvents": events}).encode()))


def test_captures_folders_of_reports_and_archives_beside_each_other_are_repeats(tmp_path):
    folder = stored(tmp_path / "base", 1, 2)
    pipeline.write_reports(
        pipeline.analyze(decode_steps(count=6, seed=3)), decode_steps(count=6, seed=3), folder / "run3"
    )
    archive.pack(decode_steps(count=6, seed=4), folder / "run4.tar.gz")
    (folder / "notes.txt").write_text("how they were made")
    assert len(repeats.load(folder)) == 4
    assert len(repeats.load(folder / "run3")) == 1 and len(repeats.load(folder / "run1")) == 1
    assert len(repeats.load(folder / "run4.tar.gz")) == 1


def test_one_capture_in_a_folder_is_one_recording(tmp_path):
    assert len(repeats.load(stored(tmp_path / "base", 1))) == 1


def test_a_copy_repeats_nothing(tmp_path):
    folder = stored(tmp_path / "base", 1, 2)
    shutil.copytree(folder / "run1", folder / "run1-copy")
    found = repeats.load(folder)
    assert len(found) == 2
    assert any(notice.code == "repeat-copied" for notice in found[0].manifest.notices)


def test_folders_of_recordings_are_repeats_where_they_were_made_one_after_the_other(tmp_path):
    trace(tmp_path / "base" / "run1" / "t.pt.trace.json.gz", 1_000)
    trace(tmp_path / "base" / "run2" / "t.pt.trace.json.gz", 500_000)
    assert len(repeats.load(tmp_path / "base")) == 2


@pytest.mark.parametrize("ranks", [(0, 1), (None, None)])
def test_ranks_of_one_run_are_one_recording(tmp_path, ranks):
    for number, rank in enumerate(ranks):
        trace(tmp_path / "run" / f"worker{number}" / "t.pt.trace.json.gz", 1_000 + number, rank)
    assert len(repeats.load(tmp_path / "run")) == 1


def test_the_same_rank_twice_cannot_be_one_run(tmp_path):
    for number in range(2):
        trace(tmp_path / "base" / f"run{number}" / "t.pt.trace.json.gz", 1_000 + number, 0)
    assert len(repeats.load(tmp_path / "base")) == 2


def test_two_ranks_recorded_on_a_real_machine_are_one_run(tmp_path, examples):
    for rank in (0, 1):
        place = tmp_path / f"rank{rank}"
        place.mkdir()
        shutil.copy(examples / "h200_decoder" / f"tp2_straggler_rank{rank}.json.gz", place)
    (found,) = repeats.load(tmp_path)
    assert len(found.manifest.gpus) == 2


def test_a_file_beside_folders_makes_it_one_recording(tmp_path):
    trace(tmp_path / "run" / "t.pt.trace.json.gz", 1_000)
    trace(tmp_path / "run" / "worker" / "t.pt.trace.json.gz", 500_000)
    assert len(repeats.load(tmp_path / "run")) == 1


def test_a_repeat_that_cannot_be_read_is_left_out_and_told(tmp_path):
    folder = stored(tmp_path / "base", 1, 2)
    (folder / "run3.tar.gz").write_bytes(b"nothing of the kind")
    found = repeats.load(folder)
    assert len(found) == 2
    told = [notice.message for notice in found[0].manifest.notices if notice.code == "unreadable-repeat"]
    assert len(told) == 1 and told[0].startswith("run3.tar.gz is left out")


def test_repeats_of_different_things_are_refused(tmp_path):
    folder = stored(tmp_path / "base", 1)
    stored(folder, 2, gpu="gfx908")
    with pytest.raises(InputError, match="repeat 2 is of something else than repeat 1: GPU"):
        pipeline.compare(folder, folder / "run1")


def test_a_folder_without_recordings_is_refused_as_ever(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "readme.txt").write_text("x")
    (tmp_path / "two" / "readme.txt").write_text("x")
    with pytest.raises(InputError):
        repeats.load(tmp_path)
