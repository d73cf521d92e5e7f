"""Ceilings measured on a card: what counts, what is refused, where they are kept, who uses them."""

from __future__ import annotations

import copy
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope import ceilings, ceilings_choice, ceilings_store, pipeline
from rocscope.capture import Capture, Gpu, Manifest
from rocscope.ceilings import CardCeilings, RecordedCeilings
from rocscope.errors import InputError, NotFound, PermissionMissing, UsageError
from rocscope.hardware import by_name


@pytest.fixture
def printed(examples: Path) -> dict[str, Any]:
    """What the program printed on an H200."""
    raw: dict[str, Any] = json.loads((examples / "h200_ceilings" / "ceilings.json").read_text())
    return raw


def card(printed: dict[str, Any], **changes: Any) -> CardCeilings:
    measured = ceilings.judge(ceilings.measurement(printed), measured_at="2026-11-21T05:00:00+00:00")
    return measured.model_copy(update=changes)


def test_a_real_measurement_agrees_with_what_is_known_of_the_card(printed: dict[str, Any]) -> None:
    found = card(printed)
    assert found.model == "H200"
    assert found.arch == "sm_90"
    assert not found.refused
    assert found.bandwidth_bytes_per_s is not None
    assert found.launch_floor_s is not None
    assert 4.2e12 * 0.95 < found.bandwidth_bytes_per_s < 4.36e12 * 1.05
    assert found.flops_per_s["matrix_fp16"] == pytest.approx(762e12, rel=0.05)
    assert found.flops_per_s["matrix_fp16"] < 989e12
    assert 0.3e-6 < found.launch_floor_s < 3e-6


def test_what_the_caches_serve_is_no_memory_bandwidth(printed: dict[str, Any]) -> None:
    in_cache = next(each for each in printed["copy"] if each["size_bytes"] == 16 << 20)
    assert in_cache["bytes_per_s"] > 4.8e12  # more than the memory can: 32 MiB lie in an L2 of 60 MB
    printed["read"] = None
    found = card(printed)
    assert found.bandwidth_bytes_per_s == max(
        each["bytes_per_s"] for each in printed["copy"] if each["size_bytes"] >= 256 << 20
    )
    assert "copy of 1 GiB" in found.bandwidth_of
    printed["copy"] = [in_cache]
    assert card(printed).bandwidth_bytes_per_s is None


@pytest.mark.parametrize(
    ("change", "named", "word"),
    [
        ({"read": 4.8e12 * 1.06}, "bandwidth_bytes_per_s", "above"),
        ({"matrix_fp16": 989.4e12 * 1.06}, "matrix_fp16", "above"),
        ({"matrix_int8": 1978.9e12 * 0.39}, "matrix_int8", "below"),
        ({"vector_fp16": 62.5e12}, "vector_fp16", "below"),  # no faster than 32-bit: not packed
    ],
)
def test_a_figure_that_cannot_be_right_is_refused_and_said(
    printed: dict[str, Any], change: dict[str, float], named: str, word: str
) -> None:
    for figure, value in change.items():
        if figure == "read":
            printed["read"]["bytes_per_s"] = value
        else:
            printed["flops"][figure]["flops_per_s"] = value
    found = card(printed)
    assert [each.figure for each in found.refused] == [named]
    assert word in found.refused[0].why
    assert named not in found.flops_per_s
    if named == "bandwidth_bytes_per_s":
        assert found.bandwidth_bytes_per_s is None
    spec = by_name("H200")
    applied = ceilings.applied(spec, found, same_card=True)
    if named in spec.achievable.flops_per_s:  # what is published stays
        assert applied.achievable.flops_per_s[named] == spec.achievable.flops_per_s[named]


def test_five_percent_above_is_still_a_measurement(printed: dict[str, Any]) -> None:
    printed["flops"]["matrix_fp16"]["flops_per_s"] = 989.4e12 * 1.049
    assert "matrix_fp16" in card(printed).flops_per_s


def test_measured_figures_replace_published_ones_with_their_source(printed: dict[str, Any]) -> None:
    spec = by_name("H200")
    applied = ceilings.applied(spec, card(printed), same_card=True)
    bandwidth = applied.achievable.bandwidth_bytes_per_s
    assert bandwidth is not None
    assert bandwidth.value == printed["read"]["bytes_per_s"]
    assert "measured on this card on 2026-11-21 by rocscope doctor --measure" in bandwidth.source
    assert applied.launch_floor_s is not None
    assert applied.launch_floor_s.value == printed["launch"]["graph_launch_s"]
    assert applied.datasheet == spec.datasheet
    assert "matrix_fp32" not in applied.achievable.flops_per_s  # a pipe that this card has not
    mi100 = by_name("MI100")
    nothing = card(printed, bandwidth_bytes_per_s=None, flops_per_s={}, launch_floor_s=None)
    assert ceilings.applied(mi100, nothing, same_card=True) == mi100  # what was not measured stays


def test_a_launch_floor_counts_only_from_a_graph(printed: dict[str, Any]) -> None:
    printed["launch"]["graph_launch_s"] = None  # no graph: launching one by one measures the host
    assert card(printed).launch_floor_s is None


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("schema_version",), "2", "schema_version"),
        (("device",), None, "device"),
        (("device", "compute_units"), 0, "device.compute_units"),
        (("copy",), [], "copy"),
        (("copy", 0, "bytes_per_s"), float("nan"), "copy.0.bytes_per_s"),
        (("flops", "matrix_fp16", "flops_per_s"), -1, "flops.matrix_fp16.flops_per_s"),
        (("launch", "graph_launch_s"), "soon", "launch.graph_launch_s"),
    ],
)
def test_output_that_makes_no_sense_is_refused_by_field(
    printed: dict[str, Any], path: tuple[Any, ...], value: Any, named: str
) -> None:
    raw: Any = printed
    for step in path[:-1]:
        raw = raw[step]
    raw[path[-1]] = value
    with pytest.raises(InputError) as caught:
        ceilings.measurement(printed)
    assert named in caught.value.message


JUNK = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(raw=JUNK)
def test_any_json_is_ceilings_or_a_clear_refusal(raw: Any) -> None:
    for given_ in (raw, {"copy": raw}):
        with pytest.raises(InputError):
            ceilings.card(given_, "some file")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("8f2b6a4e-a21a-ac82-2320-c76781471dbc", "GPU-8f2b6a4e-a21a-ac82-2320-c76781471dbc"),
        ("38663262-3661-3465-6132-316161633832", "GPU-8f2b6a4ea21aac82"),  # HIP: text in sixteen bytes
        ("38663262366134656132316161633832", "8f2b6a4ea21aac82"),
    ],
)
def test_one_card_has_one_id_however_it_is_written(one: str, other: str) -> None:
    assert ceilings.normal_uuid(one) == ceilings.normal_uuid(other) != ""


@pytest.mark.parametrize("nothing", ["", None, "GPU-XX", "00000000-0000-0000-0000-000000000000"])
def test_no_id_is_no_id(nothing: str | None) -> None:
    assert ceilings.normal_uuid(nothing) == ""


class TestStore:
    def test_what_is_saved_is_found_again_and_replaced(self, tmp_path: Path, printed: dict[str, Any]) -> None:
        first = ceilings_store.save(card(printed), tmp_path / "new")
        again = ceilings_store.save(card(printed, measured_at="2026-12-01T00:00:00+00:00"), tmp_path / "new")
        assert first == again
        assert [path.name for path in (tmp_path / "new").iterdir()] == [f"{card(printed).uuid}.json"]
        cards, faults = ceilings_store.load(tmp_path / "new")
        assert not faults
        assert cards[0].measured_at == "2026-12-01T00:00:00+00:00"

    def test_a_card_without_id_is_kept_by_what_it_is(self, printed: dict[str, Any]) -> None:
        assert ceilings_store.key(card(printed, uuid="")) == "sm-90-nvidia-h200-150109880320"
        assert ceilings_store.key(card(printed, uuid="", name="", arch="", memory_bytes=None)) == "card"

    def test_the_folder(self) -> None:
        folder = ceilings_store.folder
        assert folder({"ROCSCOPE_CEILINGS": "/x", "HOME": "/h"}) == Path("/x")
        assert folder({"XDG_DATA_HOME": "/d", "HOME": "/h"}) == Path("/d/rocscope/ceilings")
        assert folder({"XDG_DATA_HOME": "relative", "HOME": "/h"}) == Path(
            "/h/.local/share/rocscope/ceilings"
        )

    def test_its_own_card_comes_before_the_latest_of_its_model(self, printed: dict[str, Any]) -> None:
        old = card(printed, uuid="aa", measured_at="2026-01-01")
        new = card(printed, uuid="bb", measured_at="2026-06-01")
        spec = by_name("H200")
        assert ceilings_store.find([old, new], spec, uuid="GPU-AA") == (old, True)
        assert ceilings_store.find([old, new], spec, uuid="cc") == (new, False)
        assert ceilings_store.find([old, new], spec) == (new, False)
        assert ceilings_store.find([old], by_name("MI100"), uuid="aa") is None
        assert ceilings_store.find([old], spec, memory_bytes=100 << 30) is None

    def test_bad_files_are_named_and_the_others_used(self, tmp_path: Path, printed: dict[str, Any]) -> None:
        ceilings_store.save(card(printed), tmp_path)
        (tmp_path / "cut.json").write_text('{"schema_version": "1", ')
        (tmp_path / "list.json").write_text("[]")
        (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
        (tmp_path / "huge.json").write_bytes(b" " * (ceilings_store.MOST_BYTES + 1))
        (tmp_path / "deep.json").write_text("[" * 100_000)
        (tmp_path / "date.json").write_text(
            card(printed).model_dump_json().replace("2026-11-21T05:00:00", "soon")
        )
        (tmp_path / "folder.json").mkdir()
        cards, faults = ceilings_store.load(tmp_path)
        assert len(cards) == 1
        assert {Path(each.partition(":")[0]).name for each in faults} == {
            *("cut.json", "list.json", "binary.json", "huge.json", "deep.json", "date.json", "folder.json")
        }

    def test_a_place_that_cannot_be_written_is_said(self, tmp_path: Path, printed: dict[str, Any]) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(PermissionMissing) as caught:
            ceilings_store.save(card(printed), tmp_path / "file" / "store")
        assert "--store" in caught.value.hint

    def test_no_half_written_file_is_left(
        self, tmp_path: Path, printed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("rocscope.ceilings_store.os.fsync", full)
        with pytest.raises(PermissionMissing):
            ceilings_store.save(card(printed), tmp_path)
        assert not list(tmp_path.iterdir())

    def test_a_missing_file_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(NotFound):
            ceilings_store.read(tmp_path / "none.json")
        assert ceilings_store.load(tmp_path / "none") == ([], [])


class TestChoice:
    gpu = Gpu(gpu=0, arch="sm_90", name="NVIDIA H200", memory_bytes=150109880320)
    spec = by_name("H200")

    def apply(self, choice: str, store: Path, manifest: Manifest | None = None) -> tuple[str, list[str]]:
        """The source of the bandwidth that is used, and warnings."""
        specs, warned = ceilings_choice.apply(
            manifest or Manifest(gpus=[self.gpu]), {0: self.spec}, choice, {"ROCSCOPE_CEILINGS": str(store)}
        )
        assert specs[0] is not None
        figure = specs[0].achievable.bandwidth_bytes_per_s
        assert figure is not None
        return figure.source, [each.message for each in warned]

    def test_what_this_machine_keeps_is_of_a_card_of_this_model(
        self, tmp_path: Path, printed: dict[str, Any]
    ) -> None:
        ceilings_store.save(card(printed), tmp_path)
        assert self.apply("auto", tmp_path)[0].startswith("measured on a card of this model on 2026-11-21")
        assert self.apply("none", tmp_path)[0].startswith("measured on the recorded H200")

    def test_a_broken_file_is_warned_of(self, tmp_path: Path) -> None:
        (tmp_path / "cut.json").write_text("{")
        source, warned = self.apply("auto", tmp_path)
        assert source.startswith("measured on the recorded H200")
        assert "cut.json" in warned[0]

    def test_what_a_capture_carries_goes_before_what_the_machine_keeps(
        self, tmp_path: Path, printed: dict[str, Any]
    ) -> None:
        ceilings_store.save(card(printed), tmp_path)
        carried = RecordedCeilings(
            gpu=0, same_card=True, ceilings=card(printed, measured_at="2026-02-02", uuid="")
        )
        manifest = Manifest(gpus=[self.gpu], ceilings=[carried])
        assert self.apply("auto", tmp_path, manifest)[0].startswith("measured on this card on 2026-02-02")
        looked = Manifest(gpus=[self.gpu], ceilings=[])  # where it was made nothing had been measured
        assert self.apply("auto", tmp_path, looked)[0].startswith("measured on the recorded H200")
        other = RecordedCeilings(gpu=0, same_card=True, ceilings=card(printed, model="MI100"))
        wrong = Manifest(gpus=[self.gpu], ceilings=[other])
        assert self.apply("auto", tmp_path, wrong)[0].startswith("measured on the recorded H200")

    def test_a_named_file_is_used_or_refused(self, tmp_path: Path, printed: dict[str, Any]) -> None:
        path = tmp_path / "printed.json"
        path.write_text(json.dumps(printed))
        assert "at a time not recorded" in self.apply(str(path), tmp_path / "none")[0]
        ceilings_store.save(card(printed), tmp_path / "store")
        assert "on 2026-11-21" in self.apply(str(tmp_path / "store"), tmp_path / "none")[0]
        with pytest.raises(InputError):
            self.apply(str(tmp_path / "empty"), tmp_path)
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError):
            self.apply(str(tmp_path / "empty"), tmp_path)
        with pytest.raises(UsageError) as caught:
            ceilings_choice.apply(Manifest(), {0: by_name("MI100")}, str(path))
        assert "H200" in caught.value.message
        assert "MI100" in caught.value.message

    def test_the_cards_of_this_machine_for_a_manifest(self, tmp_path: Path, printed: dict[str, Any]) -> None:
        ceilings_store.save(card(printed), tmp_path)
        environment = {"ROCSCOPE_CEILINGS": str(tmp_path)}
        gpus = {0: (self.gpu, self.spec), 1: (self.gpu, self.spec), 2: (self.gpu, None)}
        found, faults = ceilings_choice.of_this_machine(gpus, {0: printed["device"]["uuid"]}, environment)
        assert not faults
        assert [(each.gpu, each.same_card) for each in found] == [(0, True), (1, False)]
        assert all(each.ceilings.uuid == "" for each in found)  # a serial number is nobody's business

    def test_the_manifest_keeps_them(self, tmp_path: Path, printed: dict[str, Any]) -> None:
        carried = RecordedCeilings(gpu=0, same_card=True, ceilings=card(printed, uuid=""))
        Capture(Manifest(gpus=[self.gpu], ceilings=[carried])).save(tmp_path / "capture")
        assert Capture.load(tmp_path / "capture").manifest.ceilings == [carried]
        mode = (tmp_path / "capture" / "manifest.json").stat().st_mode
        assert stat.S_ISREG(mode)


def test_an_analysis_uses_them_and_says_so(examples: Path, printed: dict[str, Any], tmp_path: Path) -> None:
    recording = examples / "h200_decoder" / "decode_eager.json.gz"
    if not recording.exists():
        recording = next((examples / "h200_decoder").glob("*.json.gz"))
    slower = copy.deepcopy(printed)
    slower["read"]["bytes_per_s"] = 4.30e12
    path = tmp_path / "slower.json"
    path.write_text(json.dumps(slower))
    without = pipeline.analyze(recording, gpu="H200", ceilings="none")
    measured = pipeline.analyze(recording, gpu="H200", ceilings=str(path))
    assert without.gpus[0].achievable_bandwidth_bytes_per_s == 4.36e12
    assert measured.gpus[0].achievable_bandwidth_bytes_per_s == 4.30e12
    assert "rocscope doctor --measure" in (measured.gpus[0].achievable_source or "")
    labels = [[(k.kernel, k.bound) for k in each.kernels] for each in (without, measured)]
    assert labels[0] == labels[1]  # shares of the datasheet decide, whatever was measured
