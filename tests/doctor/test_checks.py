"""Each check against trees and programs that stand in for machines: what it sees, its word, its remedy."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from fake_machine import host, machine, mi100, program, python_with, write

from rocscope import counter_data
from rocscope.doctor import runner
from rocscope.doctor.check import Base, Finding, checks
from rocscope.doctor.machine import Machine

CHECKS = {check.name: check for check in checks()}


def look(name: str, where: Machine) -> Finding:
    return CHECKS[name].run(where)


def test_every_check_says_what_it_is() -> None:
    assert len(CHECKS) == len(checks()) >= 14
    for check in checks():
        assert check.help
        assert check.title
        assert 0 < check.deadline_s < 20


def test_the_docs_name_every_check_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()
    table = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`([\w-]+)`", " ".join(table))) == sorted(CHECKS)


class TestGpus:
    def test_mi100s_are_recognised(self, tmp_path: Path) -> None:
        found = look("gpus", machine(mi100(tmp_path, 4)))
        assert (found.status, found.seen) == ("ok", "4 x MI100 (gfx908), 32 GiB")
        first = found.details["gpus"][0]
        assert (first["bdf"], first["compute_units"], first["uuid"]) == (
            "0000:c1:00.0",
            120,
            "000000000000abc0",
        )

    def test_a_card_without_topology_is_known_by_its_device(self, tmp_path: Path) -> None:
        root = mi100(tmp_path, 1)
        for path in (root / "sys/class/kfd/kfd/topology/nodes").rglob("properties"):
            path.unlink()
        assert look("gpus", machine(root)).seen == "MI100 (gfx908), 32 GiB"

    def test_a_gpu_that_is_not_in_the_table(self, tmp_path: Path) -> None:
        root = mi100(tmp_path, 1)
        properties = root / "sys/class/kfd/kfd/topology/nodes/1/properties"
        properties.write_text(properties.read_text().replace("90008", "80003"))
        found = look("gpus", machine(root))
        assert found.status == "warn"
        assert "--gpu" in (found.advice or "")

    def test_none_and_a_card_without_a_driver(self, tmp_path: Path) -> None:
        found = look("gpus", machine(host(tmp_path)))
        assert (found.status, found.blocks) == ("fail", 5)
        write(tmp_path / "sys/bus/pci/devices/0000:c1:00.0/vendor", "0x1002\n")
        write(tmp_path / "sys/bus/pci/devices/0000:c1:00.0/class", "0x120000\n")
        found = look("gpus", machine(tmp_path))
        assert found.fix == "sudo modprobe amdgpu"
        assert "0000:c1:00.0" in found.seen

    def test_nvidia(self, tmp_path: Path) -> None:
        write(host(tmp_path) / "proc/driver/nvidia/version", "NVRM\n")
        assert "nvidia-smi" in look("gpus", machine(tmp_path)).seen  # no program of that name answers
        line = "00000000:00:06.0, NVIDIA H200, GPU-053dce4f, 143771, 9.0, 580.159.04"
        program(tmp_path / "bin", "nvidia-smi", f"echo '{line}'; echo 'short, line'")
        found = look("gpus", machine(tmp_path))
        assert found.seen == "H200 (sm_90), 140 GiB"
        assert found.details["gpus"][0]["bdf"] == "0000:00:06.0"
        program(tmp_path / "bin", "nvidia-smi", "exit 9")
        assert look("gpus", machine(tmp_path)).status == "fail"
        information = "Model: \t\t NVIDIA H200\nGPU UUID: \t GPU-053dce4f\nBus Type: \t PCIe\n"
        write(tmp_path / "proc/driver/nvidia/gpus/0000:00:06.0/information", information)
        found = look("gpus", machine(tmp_path))  # the driver's own files, where nvidia-smi fails
        assert found.seen == "H200"
        assert found.details["gpus"][0]["uuid"] == "GPU-053dce4f"

    def test_a_held_clock(self, tmp_path: Path) -> None:
        root = mi100(tmp_path)
        assert look("gpu-clocks", machine(root)).status == "ok"
        write(root / "sys/class/drm/card1/device/power_dpm_force_performance_level", "low\n")
        found = look("gpu-clocks", machine(root))
        assert found.seen == "card1 is held at low"
        assert "card1" in (found.fix or "")


class TestRocm:
    def test_versions(self, tmp_path: Path) -> None:
        root = mi100(tmp_path)
        found = look("rocm", machine(root, environment={"ROCM_PATH": "/opt/rocm"}))
        assert found.status == "ok"
        assert found.seen == "6.3.2 (/opt/rocm); amdgpu driver 6.10.5"
        write(root / "opt/rocm-7.0.1/.info/version", "7.0.1")
        assert look("rocm", machine(root, environment={"ROCM_PATH": "/opt/rocm"})).seen.endswith("also 7.0.1")

    def test_old_and_none(self, tmp_path: Path) -> None:
        root = mi100(tmp_path)
        write(root / "opt/rocm/.info/version", "5.7.1\n")
        assert "6.2" in (look("rocm", machine(root, environment={"ROCM_PATH": "/opt/rocm"})).advice or "")
        (root / "opt/rocm/.info/version").unlink()
        assert look("rocm", machine(root)).status == "warn"
        assert look("rocm", machine(host(tmp_path / "other"))).status == "ok"  # no AMD GPU, no need


class TestProfilers:
    def test_found_with_versions_broken_and_absent(self, tmp_path: Path) -> None:
        root = mi100(tmp_path)
        program(root / "bin", "rocprofv3", "echo version: 1.0.0")
        program(root / "bin", "rocprof", "echo segmentation fault; exit 3")
        python_with(root / "bin", "python3")
        found = look("profilers", machine(root))
        assert found.status == "warn"
        assert "rocprofv3 1.0.0" in found.seen
        assert "segmentation fault" in found.seen
        assert found.details["rocprofv3"]["path"] == str(root / "bin/rocprofv3")
        assert found.details["rocprofv2"]["reason"].endswith("not installed")

    def test_none_blocks_and_torch_alone_does_not(self, tmp_path: Path) -> None:
        root = mi100(tmp_path)
        python_with(root / "bin", "py")
        found = look("profilers", machine(root, python=str(root / "bin/py")))
        assert (found.status, found.blocks) == ("fail", 6)
        python_with(root / "bin", "py", torch="2.9.0")
        found = look("profilers", machine(root, python=str(root / "bin/py")))
        assert (found.status, found.blocks) == ("warn", None)
        assert "torch 2.9.0" in found.seen

    def test_one_that_may_not_be_run(self, tmp_path: Path) -> None:
        root = mi100(tmp_path)
        write(root / "bin/rocprofv3", "#!/bin/sh\n", 0o644)
        python_with(root / "bin", "py")
        found = look("profilers", machine(root, python=str(root / "bin/py")))
        assert found.blocks == 7
        assert (found.fix or "").startswith("chmod +x")


class TestCounters:
    def listing(self, root: Path, names: list[str], option: str = "-L", tool: str = "rocprofv3") -> Machine:
        text = "\n".join(f"Counter_Name : {name}" for name in names)
        write(root / "list.txt", f"GPU:0\nName:gfx908\n{text}\n")
        version = "version: 1.1.0" if tool == "rocprofv3" else "ROCProfiler version: 2.0.60300"
        program(
            root / "bin",
            tool,
            f'case "$1" in --version) echo "{version}";; {option}) cat {root}/list.txt;; *) exit 2;; esac',
        )
        return machine(root)

    def test_all_that_labels_need(self, tmp_path: Path) -> None:
        found = look("counters", self.listing(mi100(tmp_path), list(counter_data.of("gfx908").block_of)))
        assert found.status == "ok"
        assert found.details["missing"] == {"bandwidth": [], "standard": [], "full": []}
        assert found.details["passes"]["standard"] >= 1

    def test_sums_count_and_what_is_not_listed_is_named(self, tmp_path: Path) -> None:
        stock = [f"{name}_sum" for name in counter_data.of("gfx908").stock]
        found = look("counters", self.listing(mi100(tmp_path), stock, "--list-basic", "rocprof"))
        assert found.status == "warn"
        assert found.details["profiler"] == "rocprof"
        assert found.details["missing"]["bandwidth"] == []
        assert "SQ_WAVE_CYCLES" in found.details["missing"]["standard"]

    def test_an_empty_list_and_no_tool(self, tmp_path: Path) -> None:
        found = look("counters", self.listing(mi100(tmp_path), []))
        assert found.status == "warn"
        assert (found.fix or "").endswith("-L")
        assert found.details["missing"]["standard"] is None  # not known, not none
        assert look("counters", machine(mi100(tmp_path / "b"))).status == "unknown"
        assert look("counters", machine(host(tmp_path / "c"))).status == "unknown"

    def test_an_architecture_without_limits(self, tmp_path: Path) -> None:
        root = mi100(tmp_path, 1)
        properties = root / "sys/class/kfd/kfd/topology/nodes/1/properties"
        properties.write_text(properties.read_text().replace("90008", "110000"))
        assert "gfx1100" in look("counters", machine(root)).seen


class TestVllm:
    @pytest.mark.parametrize(
        ("version", "status", "profiler", "word"),
        [
            ("0.32.0", "ok", "--profiler-config", "steps with lengths"),
            ("0.24.1", "ok", "--profiler-config", "steps without lengths"),
            ("0.20.0", "warn", "--profiler-config", "kills slow workers"),
            ("0.11.2+rocm", "warn", "VLLM_TORCH_PROFILER_DIR", "kills slow workers"),
            ("0.8.5", "warn", "VLLM_TORCH_PROFILER_DIR", "kills slow workers"),
        ],
    )
    def test_what_a_version_allows(
        self, tmp_path: Path, version: str, status: str, profiler: str, word: str
    ) -> None:
        python = python_with(tmp_path / "bin", "py", vllm=version, torch="2.9")
        found = look("vllm", machine(host(tmp_path), python=str(python)))
        assert found.status == status
        assert found.details["torch_profiler"] == profiler
        assert word in found.seen

    def test_it_is_found_behind_the_script_on_path(self, tmp_path: Path) -> None:
        python_with(tmp_path / "env", "python3", vllm="0.30.0")
        write(tmp_path / "bin/vllm", f"#!{tmp_path}/env/python3\n", 0o755)
        found = look("vllm", machine(host(tmp_path)))
        assert found.details["python"] == str(tmp_path / "env/python3")

    def test_a_build_none_and_a_python_that_does_not_run(self, tmp_path: Path) -> None:
        python = python_with(tmp_path / "bin", "py", vllm="0.1.dev5+g1234")
        assert look("vllm", machine(host(tmp_path), python=str(python))).status == "unknown"
        python_with(tmp_path / "bin", "py")
        assert look("vllm", machine(tmp_path, python=str(python))).seen == f"not in {python}"
        program(tmp_path / "bin", "py", "echo '{]'")
        assert "does not run" in look("vllm", machine(tmp_path, python=str(python))).seen
        assert look("vllm", machine(tmp_path, python="/nonexistent/python")).status == "warn"


class TestTelemetry:
    def test_the_driver_s_files_are_read(self, tmp_path: Path) -> None:
        found = look("telemetry", machine(mi100(tmp_path)))
        assert found.status == "ok", found
        assert found.details["source"] == "sysfs"
        assert found.details["gpus"]["device:0000:c1:00.0"].count("power_w") == 1

    def test_no_gpu(self, tmp_path: Path) -> None:
        assert look("telemetry", machine(host(tmp_path))).status == "unknown"


class TestRunner:
    class Broken(Base):
        name = "broken"
        title = "Broken"

        def run(self, machine: Machine) -> Finding:
            raise ZeroDivisionError("of all things")

    class Hanging(Base):
        name = "hanging"
        title = "Hanging"
        deadline_s = 0.2

        def run(self, machine: Machine) -> Finding:
            time.sleep(3)
            return self.ok("too late")

    def test_no_check_raises_or_hangs(self, tmp_path: Path) -> None:
        began = time.monotonic()
        chosen = [self.Hanging(), self.Broken(), CHECKS["memory"]]
        found = runner.examine(machine(host(tmp_path)), chosen)  # type: ignore[arg-type]  # they need no help text
        assert time.monotonic() - began < 2
        assert [each.status for each in found] == ["unknown", "unknown", "ok"]
        assert "0.2 s" in found[0].seen
        assert "ZeroDivisionError" in found[1].seen

    def test_this_very_machine_whatever_it_is(self, tmp_path: Path) -> None:
        began = time.monotonic()
        found = runner.examine(Machine(out=tmp_path))
        assert time.monotonic() - began < max(check.deadline_s for check in checks()) + 2
        assert [each.check for each in found] == [check.name for check in checks()]
        assert not [each.seen for each in found if "check itself failed" in each.seen]
        assert next(each for each in found if each.check == "memory").details["total_bytes"] > 1 << 28

    def test_an_empty_tree_and_a_tree_of_noise(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        for found in runner.examine(machine(tmp_path / "empty")):
            assert "check itself failed" not in found.seen
        root = mi100(tmp_path / "noise")
        for path in root.rglob("*"):
            if path.is_file() and path.parent.name != "bin":
                path.write_bytes(b"\xff\x00-1 9999999999999999999999 [\n: = ,\n" * 3)
        for found in runner.examine(machine(root)):
            assert "check itself failed" not in found.seen, found

    @pytest.mark.parametrize(
        ("blocks", "code"), [((), 0), ((5, 6), 6), ((6, 7, 5), 7), ((5,), 5), ((2, 6), 2)]
    )
    def test_the_exit_code_is_of_what_to_mend_first(self, blocks: tuple[int, ...], code: int) -> None:
        findings = [
            Finding(check=str(number), title="", status="fail", seen="", blocks=number) for number in blocks
        ]
        assert runner.exit_code(findings) == code
