"""SYNTHETIC machines: a tree of /sys, /proc, /dev, /opt and /etc, and programs on a PATH of their own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from rocscope.doctor.machine import Identity, Machine

USER = Identity(1000, frozenset({1000}))
GIB = 1 << 30


def write(path: Path, text: str, mode: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if mode is not None:
        path.chmod(mode)
    return path


def program(folder: Path, name: str, body: str) -> Path:
    """A shell script on the PATH of the machine."""
    return write(folder / name, f"#!/bin/sh\n{body}\n", 0o755)


def mi100(root: Path, count: int = 2) -> Path:
    """A node with ``count`` MI100s, ROCm 6.3 and open devices."""
    nodes = root / "sys/class/kfd/kfd/topology/nodes"
    write(nodes / "0/properties", "simd_count 0\n")
    for number in range(count):
        bus = 0xC1 + number
        write(
            nodes / f"{number + 1}/properties",
            f"simd_count 480\nsimd_per_cu 4\ngfx_target_version 90008\ndomain 0\nlocation_id {bus << 8}\n"
            f"unique_id {0xABC0 + number}\n",
        )
        device = root / f"sys/class/drm/card{number}/device"
        for name, text in {
            "vendor": "0x1002",
            "device": "0x738c",
            "uevent": f"DRIVER=amdgpu\nPCI_SLOT_NAME=0000:{bus:02x}:00.0\n",
            "mem_info_vram_total": str(32 * GIB),
            "unique_id": f"{0xABC0 + number:016x}",
            "product_name": "AMD Instinct MI100",
            "power_dpm_force_performance_level": "auto",
            "hwmon/hwmon0/name": "amdgpu",
            "hwmon/hwmon0/power1_average": "41000000",
        }.items():
            write(device / name, text + "\n")
        write(root / f"dev/dri/renderD{128 + number}", "", 0o666)
    write(root / "dev/kfd", "", 0o666)
    write(root / "opt/rocm/.info/version", "6.3.2-66\n")
    write(root / "sys/module/amdgpu/version", "6.10.5\n")
    write(root / "etc/group", "root:x:0:\nvideo:x:44:\nrender:x:109:\n")
    return host(root)


def host(root: Path) -> Path:
    """What every machine has."""
    for path, text in {
        "proc/meminfo": "MemTotal: 263000000 kB\nMemAvailable: 250000000 kB\n",
        "proc/self/limits": "Max locked memory         unlimited            unlimited            bytes\n",
        "proc/self/status": "Name:\tpython3\nCapEff:\t0000000000000000\n",
        "proc/self/cgroup": "0::/user.slice/me.scope\n",
        "proc/self/mountinfo": "30 20 0:26 / /dev/shm rw shared:4 - tmpfs tmpfs rw,size=65536000k\n",
        "proc/sys/kernel/yama/ptrace_scope": "0\n",
        "proc/sys/kernel/perf_event_paranoid": "2\n",
        "proc/1/cmdline": "/sbin/init\0splash\0",
        "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
        "sys/devices/system/clocksource/clocksource0/available_clocksource": "tsc hpet acpi_pm \n",
    }.items():
        write(root / path, text)
    return root


def machine(root: Path, **more: object) -> Machine:
    """Look at a tree; programs are those of its ``bin``."""
    (root / "bin").mkdir(exist_ok=True)
    given = more.pop("environment", {})
    assert isinstance(given, dict)
    environment = {"PATH": f"{root / 'bin'}:/usr/bin:/bin", "ROCM_PATH": str(root / "opt/rocm"), **given}
    out = more.pop("out", root)
    return Machine(root=root, environment=environment, out=out, **more)  # type: ignore[arg-type]  # fields


def python_with(folder: Path, name: str, **packages: str | None) -> Path:
    """A Python that says which packages it has."""
    told = {"executable": str(folder / name), "python": "3.12.3", "vllm": None, "torch": None, "triton": None}
    return program(folder, name, f"echo some noise\ncat <<'END'\n{json.dumps({**told, **packages})}\nEND")


def quiet_environment(root: Path) -> dict[str, str]:
    """For the command line in a process of its own."""
    return {**os.environ, "PATH": f"{root / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin"}
