"""Which ROCm and which driver."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from rocscope.doctor.check import Base, Finding
from rocscope.doctor.machine import Machine

_VERSION: Final = re.compile(r"\d+(?:\.\d+)+")
_FIRST_V3: Final = (6, 2)  # the first ROCm with rocprofv3


class Rocm(Base):
    """Installed versions, from their own files."""

    name = "rocm"
    title = "ROCm"
    help = "versions of ROCm under $ROCM_PATH and /opt, and of the kernel driver"
    order = 20

    def run(self, machine: Machine) -> Finding:
        """Read .info/version of each installation."""
        found = {str(place): version for place in _places(machine) if (version := _version(machine, place))}
        driver = machine.text("sys/module/amdgpu/version") or (
            "of the kernel" if machine.at("sys/module/amdgpu").exists() else ""
        )
        details = {"installed": found, "amdgpu_driver": driver or None}
        said = f"; amdgpu driver {driver}" if driver else ""
        if not found:
            if "amd" not in machine.vendors:
                return self.ok(f"not installed, and not needed without an AMD GPU{said}", details=details)
            return self.warn(
                f"not found{said}",
                advice="install ROCm, or use a container that has it: the profilers are part of it",
                details=details,
            )
        place, version = next(iter(found.items()))
        seen = f"{version} ({place}){said}"
        if len(found) > 1:
            seen += f"; also {', '.join(list(found.values())[1:])}"
        release = tuple(int(part) for part in version.split(".")[:2])
        if release < _FIRST_V3:
            return self.warn(
                seen,
                advice="rocprofv3, which sees all processes of a server, comes with 6.2",
                details=details,
            )
        return self.ok(seen, details=details)


def _places(machine: Machine) -> list[Path]:
    named = [
        machine.environment[name] for name in ("ROCM_PATH", "ROCM_HOME") if machine.environment.get(name)
    ]
    inside = sorted((path.name for path in machine.at("opt").glob("rocm*")), key=_numbers, reverse=True)
    places = [Path(each) for each in named] + [Path("/opt/rocm")] + [Path("/opt") / name for name in inside]
    real: dict[Path, Path] = {}
    for place in places:
        real.setdefault(machine.at(str(place)).resolve(), place)  # /opt/rocm links to one of the others
    return list(real.values())


def _numbers(name: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", name)]


def _version(machine: Machine, place: Path) -> str:
    for name in ("version", "version-hip-runtime", "version-rocm"):
        if match := _VERSION.search(machine.text(f"{place}/.info/{name}")):
            return match[0]
    return ""


CHECKS = (Rocm(),)
