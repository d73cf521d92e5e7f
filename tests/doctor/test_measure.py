"""Measuring through a child process that prints what an H200 printed, hangs, dies, or makes noise."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fake_machine import host, machine, mi100, program, python_with, quiet_environment

from rocscope import ceilings, cli
from rocscope.doctor import figures, measure, table
from rocscope.errors import InputError, TargetError


@pytest.fixture
def recorded(examples: Path) -> Path:
    return examples / "h200_ceilings" / "ceilings.json"


def run(python: Path, **more: Any) -> tuple[ceilings.Measurement, list[str]]:
    steps: list[str] = []
    found = measure.measure(
        str(python), 0, dict(os.environ), deadline_s=more.get("deadline_s", 20.0), progress=steps.append
    )
    return found, steps


def test_what_a_real_program_printed_is_read_and_progress_told(tmp_path: Path, recorded: Path) -> None:
    python = program(
        tmp_path,
        "py",
        f'echo "$@" > {tmp_path}/arguments; echo measuring reads >&2; echo a warning >&2; cat {recorded}',
    )
    found, steps = run(python)
    assert found.device.name == "NVIDIA H200"
    assert steps == ["measuring reads"]
    arguments = (tmp_path / "arguments").read_text().split()
    assert Path(arguments[0]) == measure.PROGRAM
    assert measure.PROGRAM.is_file()
    assert arguments[1:] == ["--device", "0"]


def test_noise_before_and_after_is_left_out(tmp_path: Path, recorded: Path) -> None:
    noise = r"printf 'Exception caught: rsmi_init.\n{ not json\n{\"a\": 1}\n\377\376\n'"
    python = program(tmp_path, "py", f"{noise}; cat {recorded}; {noise}")
    assert run(python)[0].device.compute_units == 132


@pytest.mark.parametrize(
    ("body", "words", "hint"),
    [
        ("echo 'this Python has no torch: name one' >&2; exit 1", "no torch", "--python"),
        ("echo 'torch.OutOfMemoryError: CUDA out of memory.' >&2; exit 1", "out of memory", "GPU's memory"),
        ("kill -SEGV $$", "it said nothing", "torch"),
        ("exit 0", "printed no result, but: nothing", "--python"),
        ("echo hello", "printed no result, but: hello", "--python"),
        ("echo '{\"a\": 1}'", "printed no result", "--python"),
    ],
)
def test_a_program_that_fails_is_said(tmp_path: Path, body: str, words: str, hint: str) -> None:
    with pytest.raises(TargetError) as caught:
        run(program(tmp_path, "py", body))
    assert words in caught.value.message
    assert hint in caught.value.hint


def test_the_real_program_in_a_python_without_torch() -> None:
    if importlib.util.find_spec("torch"):
        pytest.skip("this Python has torch")
    with pytest.raises(TargetError) as caught:
        run(Path(sys.executable))
    assert "this Python has no torch" in caught.value.message
    assert "--python" in caught.value.hint


def with_standin(how: str) -> ceilings.Measurement:
    """The real program on a torch that is a stand-in: what it prints is what we read, on an AMD card too."""
    folder = Path(__file__).parent / "standin_torch"
    environment = {**os.environ, "PYTHONPATH": str(folder), "STANDIN_TORCH": how}
    return measure.measure(sys.executable, 1, environment, deadline_s=60, progress=lambda _: None)


def test_the_real_program_prints_what_is_read() -> None:
    found = with_standin("")
    assert (found.device.index, found.device.count) == (1, 2)
    assert [each.size_bytes >> 20 for each in found.copy_] == [1, 4, 16, 64, 256, 1024]
    assert found.copy_[-1].bytes_per_s == pytest.approx((2 << 30) / 2e-3)
    assert found.read is not None
    assert found.read.bytes_per_s == pytest.approx((4 << 30) / 2e-3)
    assert found.flops["matrix_fp16"].flops_per_s == pytest.approx(2 * 8192**3 / 2e-3)
    assert found.launch.graph_launch_s == pytest.approx(2e-3 / 200)
    assert found.errors["matrix_fp8"] == "TypeError: no such type on this card"
    assert found.errors["matrix_int8"] == "RuntimeError: no message"
    assert "Triton" in found.errors["vector_fp32"]
    card = ceilings.judge(found)
    assert (card.model, card.arch, card.uuid) == ("MI100", "gfx908", "0000000000abc0".zfill(16))


def test_what_cannot_be_measured_does_not_keep_the_rest_from_it() -> None:
    full = with_standin("full")
    assert full.read is None
    assert "out of memory" in full.errors["read"]
    assert [each.size_bytes >> 20 for each in full.copy_] == [1, 4, 16, 64, 256]
    assert with_standin("nograph").launch.graph_launch_s is None
    with pytest.raises(TargetError, match="torch sees no GPU"):
        with_standin("nogpu")


def test_a_python_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TargetError) as caught:
        run(tmp_path / "none")
    assert "--python" in caught.value.hint


def test_a_result_that_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        run(program(tmp_path, "py", 'echo \'{"schema_version": "1", "device": 3}\''))
    assert "device" in caught.value.message


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    python = program(tmp_path, "py", "echo measuring copies of 4 MiB >&2; sleep 60 & sleep 60")
    began = time.monotonic()
    with pytest.raises(TargetError) as caught:
        run(python, deadline_s=0.5)
    assert time.monotonic() - began < 10
    assert "measuring copies of 4 MiB" in caught.value.message
    assert "--measure-timeout" in caught.value.hint


def test_a_stray_child_that_keeps_the_pipe_is_not_waited_for(tmp_path: Path, recorded: Path) -> None:
    python = program(tmp_path, "py", f"sleep 60 & cat {recorded}")
    began = time.monotonic()
    assert run(python)[0].repeats == 20
    assert time.monotonic() - began < 10


def test_closed_output_and_output_without_end(
    tmp_path: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(program(tmp_path, "py", f"exec 2>&-; sleep 0.3; cat {recorded}"))[0].repeats == 20
    monkeypatch.setattr(measure, "MOST_PRINTED", 1 << 16)
    with pytest.raises(TargetError, match="without end"):
        run(program(tmp_path, "py", "exec yes"))


class TestFigures:
    def rows(self, recorded: Path, **changes: Any) -> dict[str, figures.Row]:
        raw = json.loads(recorded.read_text())
        for name, value in changes.items():
            raw[name] = value
        card = ceilings.judge(ceilings.measurement(raw), measured_at="2026-11-21")
        return {row.figure: row for row in figures.rows(card)}

    def test_beside_the_datasheet_and_what_is_published(self, recorded: Path) -> None:
        rows = self.rows(recorded)
        bandwidth = rows["bandwidth_bytes_per_s"]
        assert (bandwidth.datasheet, bandwidth.published, bandwidth.used) == (4.8e12, 4.36e12, True)
        assert bandwidth.datasheet_frac == pytest.approx(0.91, abs=0.02)
        assert "recorded H200" in (bandwidth.published_source or "")
        assert rows["launch_floor_s"].unit == "s"
        assert not rows["matrix_fp32"].used
        assert "no such unit" in (rows["matrix_fp32"].note or "")

    def test_what_was_refused_slow_or_not_measured_says_why(self, recorded: Path) -> None:
        raw = json.loads(recorded.read_text())
        raw["flops"]["matrix_fp8"]["flops_per_s"] = 9e15
        raw["flops"]["matrix_fp16"]["flops_per_s"] = 500e12
        rows = self.rows(recorded, flops=raw["flops"], errors={"matrix_int4": "RuntimeError: no"})
        assert not rows["matrix_fp8"].used
        assert "above the datasheet" in (rows["matrix_fp8"].note or "")
        assert rows["matrix_fp16"].used
        assert "busy" in (rows["matrix_fp16"].note or "")
        assert (rows["matrix_int4"].measured, rows["matrix_int4"].note) == (
            None,
            "not measured: RuntimeError: no",
        )

    def test_a_card_that_is_not_in_the_table(self, recorded: Path) -> None:
        device = {**json.loads(recorded.read_text())["device"], "name": "Experimental", "arch": "gfx9999"}
        rows = self.rows(recorded, device=device)
        assert not any(row.used for row in rows.values())
        assert "GPU table" in (rows["vector_fp32"].note or "")

    def test_units(self) -> None:
        assert figures.readable(4.36e12, "bytes/s") == "4.36 TB/s"
        assert figures.readable(755e12, "FLOP/s") == "755 TFLOP/s"
        assert figures.readable(0.814e-6, "s") == "0.814 us"
        assert figures.readable(None, "s") == "-"


class TestCommand:
    def invoke(self, root: Path, *arguments: str, store: Path | None = None) -> tuple[int, str]:
        environment = quiet_environment(root)
        if store:
            environment["ROCSCOPE_CEILINGS"] = str(store)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            runner = CliRunner()
            with runner.isolation() as (out, err, *_):
                code = cli.run(["doctor", "--root", str(root), "--out", str(root), *arguments])
                return code, out.getvalue().decode() + err.getvalue().decode()

    def test_a_node_where_profiling_is_possible(self, tmp_path: Path) -> None:
        root = mi100(tmp_path)
        machine(root)
        program(root / "bin", "rocprofv3", "echo version: 1.0.0")
        code, text = self.invoke(root)
        assert code == 0, text
        assert "profiling is possible here" in text
        assert "2 x MI100 (gfx908), 32 GiB" in text
        assert "\x1b[" not in text  # colours only on a terminal
        assert all(line == line.rstrip() for line in text.splitlines())

    def test_exit_codes_and_json(self, tmp_path: Path) -> None:
        root = host(tmp_path)
        machine(root)
        python = str(python_with(root / "bin", "py"))
        code, text = self.invoke(root, "--json", "--python", python)
        told = json.loads(text)
        assert (code, told["exit_code"], told["possible"]) == (6, 6, False)
        assert {each["check"] for each in told["checks"]} >= {"gpus", "profilers", "devices", "vllm", "disk"}
        assert {each["status"] for each in told["checks"]} <= {"ok", "warn", "fail", "unknown"}
        mi100(root)
        (root / "dev/kfd").unlink()
        assert self.invoke(root, "--python", python)[0] == 7

    def test_measured_ceilings_are_shown_and_kept(self, tmp_path: Path, recorded: Path) -> None:
        root = host(tmp_path / "root")
        machine(root)
        two = json.loads(recorded.read_text())
        two["device"]["count"] = 2
        (tmp_path / "two.json").write_text(json.dumps(two))
        python = program(root / "bin", "py", f"cat {tmp_path}/two.json")
        code, text = self.invoke(root, "--measure", "--python", str(python), store=tmp_path / "store")
        assert code == 0, text
        assert text.count("NVIDIA H200 (sm_90), measured with torch") == 2  # torch sees two cards
        assert "TB/s" in text
        kept = list((tmp_path / "store").iterdir())
        assert [path.name for path in kept] == [f"{ceilings.normal_uuid(two['device']['uuid'])}.json"]
        code, text = self.invoke(
            root,
            *(
                "--measure",
                "--json",
                "--device",
                "0",
                "--python",
                str(python),
                "--store",
                str(tmp_path / "other"),
            ),
        )
        told = json.loads(text)
        assert code == 0
        assert len(told["measured"]) == 1
        assert told["measured"][0]["ceilings"]["model"] == "H200"
        assert Path(told["measured"][0]["stored_at"]).parent == tmp_path / "other"

    def test_a_measurement_that_fails_is_an_error(self, tmp_path: Path, recorded: Path) -> None:
        root = host(tmp_path / "root")
        machine(root)
        python = program(
            root / "bin", "py", f'case "$3" in 0) cat {recorded};; *) echo no such device >&2; exit 1;; esac'
        )
        code, text = self.invoke(
            root,
            *("--measure", "--device", "0", "--device", "1", "--python", str(python)),
            store=tmp_path / "store",
        )
        assert code == TargetError.exit_code
        assert "no such device" in text
        assert list((tmp_path / "store").iterdir())  # the other card's are kept
        code, text = self.invoke(
            root, "--measure", "--json", "--device", "1", "--python", str(python), store=tmp_path / "s"
        )
        assert code == TargetError.exit_code
        assert '"measure_error": "measuring device 1 failed: no such device"' in text

    def test_nothing_to_measure_with(self, tmp_path: Path) -> None:
        root = host(tmp_path)
        machine(root)
        code, text = self.invoke(root, "--measure")  # no Python here has torch
        assert code == TargetError.exit_code
        assert "--python" in text

    def test_a_card_of_no_known_model_is_not_kept(self, tmp_path: Path, recorded: Path) -> None:
        root = host(tmp_path / "root")
        machine(root)
        raw = json.loads(recorded.read_text())
        raw["device"] |= {"name": "Experimental", "arch": "gfx9999"}
        (tmp_path / "raw.json").write_text(json.dumps(raw))
        python = program(root / "bin", "py", f"cat {tmp_path}/raw.json")
        code, text = self.invoke(root, "--measure", "--python", str(python), store=tmp_path / "store")
        assert code == 0
        assert "not kept" in text
        assert not (tmp_path / "store").exists()

    def test_options_that_need_measure(self, tmp_path: Path) -> None:
        assert self.invoke(host(tmp_path), "--device", "0")[0] == 2
        assert self.invoke(tmp_path, "--root", str(tmp_path / "none"))[0] == 2

    def test_text_of_a_machine_cannot_command_the_terminal(self) -> None:
        import io

        from rich.console import Console

        from rocscope.doctor.check import Finding

        out = io.StringIO()
        evil = Finding(check="x", title="X", status="warn", seen="\x1b]0;owned\x07[red]", fix="\x1b[2J")
        table.show(table.findings([evil], "done"), Console(file=out, width=80))
        assert "\x1b" not in out.getvalue()
        assert "[red]" in out.getvalue()
