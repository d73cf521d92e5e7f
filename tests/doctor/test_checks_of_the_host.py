"""Permissions, limits, other profilers, clock, memory and disk, against trees that stand in for machines."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_machine import USER, host, machine, mi100, write

from rocscope.doctor.check import Finding, checks
from rocscope.doctor.machine import Identity, Machine

CHECKS = {check.name: check for check in checks()}


def look(name: str, where: Machine) -> Finding:
    return CHECKS[name].run(where)


class TestPermissions:
    def test_closed_devices_name_the_groups_to_join(self, tmp_path: Path) -> None:
        root = mi100(tmp_path)
        gid = (root / "dev/kfd").stat().st_gid
        write(root / "etc/group", f"render:x:{gid}:\nusers:x:1000:\n")
        assert look("devices", machine(root, identity=USER)).status == "ok"
        (root / "dev/kfd").chmod(0o660)
        found = look("devices", machine(root, identity=USER))
        assert (found.status, found.blocks) == ("fail", 7)
        assert found.details["files"]["/dev/kfd"] == "refused"
        assert "usermod -aG" in (found.fix or "")
        joined = machine(root, identity=Identity(1000, frozenset({gid})))
        found = look("devices", joined)
        assert (found.status, found.seen) == ("ok", "3 open to this user (groups render)")

    def test_devices_that_a_container_was_not_given(self, tmp_path: Path) -> None:
        root = mi100(tmp_path)
        (root / "dev/kfd").unlink()
        found = look("devices", machine(root))
        assert (found.status, found.blocks, found.seen) == ("fail", 7, "not there: /dev/kfd")
        assert "--device=/dev/kfd" in (found.advice or "")
        assert look("devices", machine(host(tmp_path / "none"))).status == "unknown"

    @pytest.mark.parametrize(("scope", "status"), [("0", "ok"), ("1", "warn"), ("3", "warn"), ("", "ok")])
    def test_ptrace(self, tmp_path: Path, scope: str, status: str) -> None:
        write(host(tmp_path) / "proc/sys/kernel/yama/ptrace_scope", scope)
        found = look("ptrace", machine(tmp_path))
        assert found.status == status
        assert bool(found.fix) == (scope == "1")
        write(tmp_path / "proc/self/status", f"CapEff:\t{1 << 19:016x}\n")
        assert look("ptrace", machine(tmp_path)).status == "ok"

    def test_perf(self, tmp_path: Path) -> None:
        path = host(tmp_path) / "proc/sys/kernel/perf_event_paranoid"
        assert look("perf", machine(tmp_path)).status == "ok"
        write(path, "4\n")
        assert look("perf", machine(tmp_path)).fix == "sudo sysctl kernel.perf_event_paranoid=2"
        write(tmp_path / "proc/self/status", f"CapEff:\t{1 << 38:016x}\n")
        assert look("perf", machine(tmp_path)).status == "ok"
        path.unlink()
        assert look("perf", machine(tmp_path)).status == "unknown"

    def test_memlock(self, tmp_path: Path) -> None:
        limits = host(tmp_path) / "proc/self/limits"
        assert look("memlock", machine(tmp_path)).seen == "unlimited"
        write(limits, "Max locked memory         65536                unlimited            bytes\n")
        assert look("memlock", machine(tmp_path)).fix == "ulimit -l unlimited"
        write(limits, "Max locked memory         268435456            268435456            bytes\n")
        assert look("memlock", machine(tmp_path)).seen == "256 MiB"
        limits.unlink()
        assert look("memlock", machine(tmp_path)).status in ("ok", "warn")  # this process's own


class TestLimits:
    def test_none(self, tmp_path: Path) -> None:
        found = look("limits", machine(mi100(tmp_path)))
        assert (found.status, found.details["cpus"], found.details["memory_bytes"]) == ("ok", None, None)
        assert found.details["shared_memory_bytes"] == 65_536_000 * 1024

    def test_the_narrowest_group_counts(self, tmp_path: Path) -> None:
        root = mi100(tmp_path)
        group = root / "sys/fs/cgroup"
        write(group / "cpu.max", "max 100000\n")
        write(group / "user.slice/cpu.max", "150000 100000\n")
        write(group / "user.slice/me.scope/memory.max", str(8 << 30))
        write(group / "user.slice/memory.max", "max\n")
        write(group / "user.slice/pids.max", "512\n")
        write(root / "proc/self/mountinfo", "30 20 0:26 / /dev/shm rw - tmpfs shm rw,size=65536k\n")
        write(root / ".dockerenv", "")
        found = look("limits", machine(root))
        assert found.status == "warn"
        assert (found.details["cpus"], found.details["memory_bytes"], found.details["processes"]) == (
            1.5,
            8 << 30,
            512,
        )
        assert "/dev/shm of 64 MiB" in found.seen
        assert "--shm-size" in (found.advice or "")

    def test_version_1(self, tmp_path: Path) -> None:
        root = mi100(tmp_path)
        write(
            root / "proc/self/cgroup", "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n3:pids:/docker/abc\n"
        )
        write(root / "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us", "200000")
        write(root / "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us", "100000")
        write(root / "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", str((1 << 63) - 4096))
        found = look("limits", machine(root))
        assert (found.details["cpus"], found.details["memory_bytes"]) == (2.0, None)
        assert found.details["container"] is True


class TestActive:
    def test_a_profiler_in_the_environment_blocks(self, tmp_path: Path) -> None:
        where = machine(
            host(tmp_path), environment={"LD_PRELOAD": "/opt/rocm/lib/librocprofiler-sdk-tool.so"}
        )
        found = look("environment", where)
        assert (found.status, found.blocks, found.fix) == ("fail", 2, "unset LD_PRELOAD")
        assert look(
            "environment", machine(tmp_path, environment={"LD_PRELOAD": "/lib/libjemalloc.so"})
        ).status == ("ok")

    def test_running_profilers_and_exporters(self, tmp_path: Path) -> None:
        root = host(tmp_path)
        assert look("processes", machine(root)).seen == "none among 1 processes"
        write(root / "proc/77/cmdline", "/usr/bin/nv-hostengine\0-n\0")
        assert "nv-hostengine (pid 77)" in look("processes", machine(root)).seen
        write(root / "proc/88/cmdline", "python3\0/opt/rocm/bin/rocprofv3\0--\0vllm\0")
        write(root / "proc/99/cmdline", "")
        found = look("processes", machine(root))
        assert (found.status, found.details["profilers"]) == ("warn", ["rocprofv3 (pid 88)"])
        (tmp_path / "empty").mkdir()
        assert look("processes", machine(tmp_path / "empty")).status == "unknown"


class TestHost:
    def test_clock(self, tmp_path: Path) -> None:
        path = host(tmp_path) / "sys/devices/system/clocksource/clocksource0/current_clocksource"
        assert look("clock", machine(tmp_path)).seen == "tsc"
        write(path, "hpet\n")
        assert (look("clock", machine(tmp_path)).fix or "").startswith("echo tsc | sudo tee /sys/")
        path.unlink()
        assert look("clock", machine(tmp_path)).status == "unknown"

    def test_memory(self, tmp_path: Path) -> None:
        path = host(tmp_path) / "proc/meminfo"
        assert look("memory", machine(tmp_path)).status == "ok"
        write(path, "MemTotal: 16000000 kB\nMemAvailable: 2000000 kB\n")
        assert look("memory", machine(tmp_path)).status == "warn"
        write(path, "nonsense")
        assert look("memory", machine(tmp_path)).status == "unknown"

    def test_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = look("disk", machine(host(tmp_path), out=tmp_path / "not" / "yet"))
        assert found.details["place"] == str(tmp_path)
        assert found.details["write_bytes_per_s"] > 0
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".rocscope")]

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("rocscope.doctor.check_host.tempfile.mkstemp", refuse)
        found = look("disk", machine(tmp_path))
        assert (found.status, found.blocks) == ("fail", 7)
