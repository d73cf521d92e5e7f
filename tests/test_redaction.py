"""Nothing private is in a shared archive; what an analysis needs is."""

import gzip
import importlib.util
import io
import json
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from rocscope import archive, pipeline, tables
from rocscope.capture import Capture, Manifest
from rocscope.collectors.reader import readers
from rocscope.errors import UsageError
from rocscope.redaction import redact
from rocscope.redaction_words import FORMATS, METRICS, Words


def _sample() -> ModuleType:
    path = Path(__file__).parent / "exports" / "sample_capture.py"
    spec = importlib.util.spec_from_file_location("sample_capture_for_redaction", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sample = _sample()


def unpacked(path: Path, into: Path) -> Path:
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as packed:
            packed.extractall(into)
    else:
        with tarfile.open(path) as packed:
            packed.extractall(into, filter="data")
    return into / "capture"


def everything(path: Path, into: Path) -> bytes:
    """Return all bytes of an archive, as they lie and decompressed: tar, JSON, Parquet pages, statistics."""
    parts = [path.read_bytes()]
    if path.name.endswith(".tar.gz"):
        parts.append(gzip.decompress(parts[0]))
    for file in sorted(unpacked(path, into).rglob("*")):
        parts.append(file.read_bytes())
        if file.suffix == ".parquet":
            parts.append(str(pq.read_metadata(file).to_dict()).encode())
            parts.append(str(pq.read_schema(file).metadata).encode())
            plain = io.BytesIO()
            pq.write_table(pq.read_table(file), plain, compression="none", use_dictionary=True)
            parts.append(plain.getvalue())
    return b"\n".join(parts)


def planted(value: Any, canary: str) -> Any:
    """Put ``canary`` into every text that ``value`` holds, also in keys."""
    if isinstance(value, BaseModel):
        return value.model_copy(
            update={name: planted(getattr(value, name), canary) for name in type(value).model_fields}
        )
    if isinstance(value, str):
        return f"{canary} {value}"
    if isinstance(value, list | tuple):
        return type(value)([*(planted(each, canary) for each in value)])
    if isinstance(value, dict):
        return {
            **{key: planted(each, canary) for key, each in value.items()},
            **({canary: canary} if value else {}),
        }
    return value


def planted_manifest(canary: str) -> Manifest:
    manifest = planted(sample.sample_manifest(), canary)
    clean = sample.sample_manifest()
    model = {**(manifest.model or {}), "quantization_config": {"bits": 8, "quant_method": canary, canary: 1}}
    return manifest.model_copy(
        update={
            "provenance": "replayed",
            "provenance_note": f"from /home/{canary}",
            "model": model,
            "command": [
                *clean.command,
                f"--api-key={canary}",
                "--chat-template",
                f"/home/{canary}/x",
                canary,
            ],
            "started_at": f"2026-{canary}",
        }
    )


def _planted_text(column: str, text: str | None, row: int, canary: str) -> str | None:
    """Return what a row holds: a kind stays in most rows, as what is allowed depends on it."""
    if column == "kind" and row % 3 != 2:
        return text
    return canary if text is None or row % 2 else f"{canary} {text}"


def planted_tables(canary: str) -> dict[str, pa.Table]:
    """Put ``canary`` into every text column: alone, before the text, and in paths in kernel names."""
    found = {}
    for name, table in sample.sample_capture().tables().items():
        columns = {}
        for field in table.schema:
            column = table[field.name]
            if field.type != tables.TEXT:
                columns[field.name] = column
                continue
            texts = column.to_pylist()
            if field.name == "kernel":
                columns[field.name] = pa.array(
                    [
                        f"void k<'lambda at /home/{canary} x/f.cu:1:2'>({i}) [C:\\Users\\{canary}\\a.cu]"
                        f" src/{canary}/b.hip {canary}@example.com"
                        for i, _ in enumerate(texts)
                    ]
                )
            else:
                columns[field.name] = pa.array(
                    [_planted_text(field.name, t, i, canary) for i, t in enumerate(texts)]
                )
        found[name] = tables.conform(name, columns, table.num_rows)
    return found


CANARIES = st.one_of(
    st.from_regex(r"[a-z]{3}[0-9]{2}[A-Za-z0-9]{6,12}", fullmatch=True),
    st.from_regex(r"[A-Z]{2}[0-9]{3}_[A-Za-z0-9]{6,12}", fullmatch=True),
    st.from_regex(r"[0-9]{4}[a-z]{6,12}é", fullmatch=True),
)


@settings(max_examples=10, deadline=None)
@given(canary=CANARIES, suffix=st.sampled_from([".tar.gz", ".zip"]))
def test_no_planted_secret_survives(
    tmp_path_factory: pytest.TempPathFactory, canary: str, suffix: str
) -> None:
    folder = tmp_path_factory.mktemp("share")
    capture = Capture(manifest=planted_manifest(canary), **planted_tables(canary))
    redacted, done = redact(capture)
    archive.pack(redacted, folder / f"c{suffix}")
    content = everything(folder / f"c{suffix}", folder / "out")
    assert canary.encode() not in content
    assert b"/home" not in content
    assert b"secret-8b" not in content
    assert b"node-1" not in content
    assert done.lines()


def test_the_test_would_see_a_leak(tmp_path: Path) -> None:
    """Without redaction the same search finds the secret in every file: the test above can fail."""
    capture = Capture(manifest=planted_manifest("Zq19_leak77"), **planted_tables("Zq19_leak77"))
    archive.pack(capture, tmp_path / "c.tar.gz")
    assert b"Zq19_leak77" in everything(tmp_path / "c.tar.gz", tmp_path / "out")
    for file in (tmp_path / "out" / "capture").iterdir():
        plain = file.read_bytes() if file.suffix == ".json" else str(pq.read_table(file).to_pylist()).encode()
        assert b"Zq19_leak77" in plain, file.name


def test_a_dictionary_entry_that_no_row_uses_does_not_leak() -> None:
    capture = sample.sample_capture()
    at = capture.dispatches.schema.get_field_index("operator")
    hidden = pa.DictionaryArray.from_arrays(
        pa.array([0] * capture.dispatches.num_rows, pa.int32()), pa.array(["aten::mm", "Zq19_leak77"])
    )
    capture.dispatches = capture.dispatches.set_column(at, capture.dispatches.schema.field(at), hidden)
    redacted, _ = redact(capture)
    assert redacted.dispatches["operator"].combine_chunks().dictionary.to_pylist() == ["aten::mm"]


def test_what_an_analysis_needs_is_kept() -> None:
    capture = sample.sample_capture()
    redacted, done = redact(capture)
    for name, table in capture.tables().items():
        for field in table.schema:
            if field.name != "kernel" and not (name == "samples" and field.name == "value"):
                assert redacted.tables()[name][field.name].to_pylist() == table[field.name].to_pylist(), field
    manifest = redacted.manifest
    assert manifest.command == ["vllm", "serve", "MODEL", "--tensor-parallel-size", "2"]
    assert manifest.model == {"hidden_size": 5120, "torch_dtype": "float16"}
    assert manifest.environment == {}
    assert [gpu.host for gpu in manifest.gpus] == ["host-0", "host-0"]
    assert manifest.gpus[0].name in "amd instinct mi100"
    assert manifest.gpus[0].arch == "gfx908"
    assert manifest.passes[1].counters == ("FetchSize", "SQ_WAVES")
    assert manifest.sources[0].path == "file-0.csv"
    assert manifest.sources[0].format == "rocprofv3-csv"
    assert manifest.notices[0].code == "malformed-rows"
    assert manifest.dropped[0].reason == "malformed rows"
    assert manifest.profiler_version == "1.0.0"
    assert "1 environment variables removed" in done.lines()


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        (sample.GEMM, sample.GEMM),
        ("Memcpy DtoD (Device -> Device)", "Memcpy DtoD (Device -> Device)"),
        ("void f<a::operator/>(float)", "void f<a::operator/>(float)"),
        ("f(lambda at /home/some one/x.cu:3:4)", "f(lambda at PATH)"),
        ("k</opt/x/y.h>(int)", "k<PATH>(int)"),
        ("k ../me/x.hip", "k PATH"),
        ("C:\\Users\\me\\x.cu", "PATH"),
        ("k me@corp.example", "k ADDRESS"),
        ("Cijk_Ailk_Bljk_HHS_BH_MT128x128x32", "Cijk_Ailk_Bljk_HHS_BH_MT128x128x32"),
    ],
)
def test_kernel_names_lose_paths_and_nothing_else(name: str, clean: str) -> None:
    assert Words().kernel(name) == clean


@pytest.mark.parametrize(
    ("shapes", "clean"),
    [
        ('[{"dims": [1, 2], "dtype": "c10::Half"}]', '[{"dims": [1, 2], "dtype": "c10::Half"}]'),
        ('[{"dims": [1], "dtype": "my secret"}]', '[{"dims": [1], "dtype": ""}]'),
        ('[{"dims": ["x"]}]', None),
        ("not json", None),
        ('{"a": 1}', None),
    ],
)
def test_operator_shapes_are_sizes_and_types(shapes: str, clean: str | None) -> None:
    assert Words().shapes(shapes) == clean


def test_commands_keep_known_flags_with_harmless_values() -> None:
    command = "/usr/bin/python3 -m vllm serve /models/x --dtype=float16 --quantization gptq --dtype ../x"
    command += " --model=acme --max-model-len 4096 --served-model-name acme hello"
    assert Words().command(command.split()) == [
        "python3", "-m", "vllm", "serve", "MODEL", "--dtype=float16", "--quantization", "gptq", "--dtype",
        "REDACTED", "--model=MODEL", "--max-model-len", "4096", "REDACTED", "REDACTED", "REDACTED",
    ]  # fmt: skip


def test_a_pseudonym_is_stable_within_an_archive_and_not_beyond() -> None:
    words = Words()
    assert words.pseudonym("x", "span") == words.pseudonym("x", "span")
    assert words.pseudonym("x", "span") != Words().pseudonym("x", "span")


@pytest.mark.parametrize(
    ("metric", "kept"),
    [("cpu_frac", True), ("rss_bytes", True), ("threads", True), ("vllm:num_requests_running", True),
     ("acme-secret", False), ("secret", False), ("vllm:x{model=\"acme\"}", False)],
)  # fmt: skip
def test_metrics_are_kept_by_their_units(metric: str, kept: bool) -> None:
    assert (Words().kept(metric, METRICS, "metric") == metric) is kept


def test_the_archive_does_not_say_who_packed_it(tmp_path: Path) -> None:
    archive.pack(sample.sample_capture(), tmp_path / "c.tar.gz")
    with tarfile.open(tmp_path / "c.tar.gz") as packed:
        for entry in packed:
            assert (entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) == (0, 0, "", "", 0)
            assert entry.name.startswith("capture/")
    with pytest.raises(UsageError, match="archive"):
        archive.pack(sample.sample_capture(), tmp_path / "c.rar")


def test_a_shared_real_capture_gives_the_same_times(examples: Path, tmp_path: Path) -> None:
    capture = pipeline.load(examples / "h200_decoder" / "kineto_fp16_graph.json.gz")
    redacted, _ = redact(capture)
    archive.pack(redacted, tmp_path / "c.zip")
    again = pipeline.load(unpacked(tmp_path / "c.zip", tmp_path / "out"))
    before, after = pipeline.analyze(capture), pipeline.analyze(again)
    for one, other in zip(before.kernels, after.kernels, strict=True):
        assert (one.raw_name, one.dispatches, one.time_s, one.bound, one.limiter) == (
            other.raw_name, other.dispatches, other.time_s, other.bound, other.limiter,
        )  # fmt: skip
    assert [f.model_dump() for f in before.families] == [f.model_dump() for f in after.families]
    assert [p.model_dump() for p in before.phases] == [p.model_dump() for p in after.phases]
    assert [g.busy_s for g in before.gpus] == [g.busy_s for g in after.gpus]


@pytest.mark.captures
@pytest.mark.parametrize(
    "path",
    [
        "h200_vllm/gptq8_graph.kineto.json.gz",
        "torch_traces/mi210_gpu_only_trace.json.gz",
    ],
)
def test_real_span_and_kernel_names_survive(captures: Path, path: str) -> None:
    """The lists know what real recordings hold: kernels unchanged, nine in ten spans under their names."""
    capture = pipeline.load(captures / path)
    redacted, _ = redact(capture)
    assert redacted.dispatches["kernel"].to_pylist() == capture.dispatches["kernel"].to_pylist()
    assert redacted.manifest.profiler == capture.manifest.profiler
    names = redacted.spans["name"].to_pylist()
    replaced = sum(name.startswith("span-") for name in names)
    assert replaced <= 0.1 * len(names)


def test_what_a_load_measured_survives(captures: Path) -> None:
    path = captures / "vllm" / "bench_serve_result.json"
    shared, _ = redact(pipeline.load(path))
    found = pipeline.compare(path, shared)
    assert [each.change_frac for each in found.tiers] == [0.0] * 7
    assert all("bootstrap" in each.basis for each in found.tiers[1:])


def test_manifest_json_is_a_valid_manifest(tmp_path: Path) -> None:
    redacted, _ = redact(sample.sample_capture())
    redacted.save(tmp_path / "capture")
    raw = json.loads((tmp_path / "capture" / "manifest.json").read_text())
    assert raw["provenance"] == "synthetic"
    assert Capture.load(tmp_path / "capture").manifest == redacted.manifest


def test_the_format_of_a_file_is_no_secret() -> None:
    for each in readers():
        assert FORMATS.fullmatch(each.name), each.name
    assert not FORMATS.fullmatch("torch-trace of ann@host")
