"""Which ways to read GPUs there are on this machine, best first."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple

from rocscope.collectors import sysfs
from rocscope.collectors.gpu_device import kfd_nodes

Choice = Literal["auto", "amdsmi", "sysfs", "nvml", "none"]
SYSFS_VARIABLE: Final = "ROCSCOPE_SYSFS"
"""Where sysfs is mounted, if not at /sys: a container may see the host's elsewhere."""

_NVIDIA: Final = (Path("/dev/nvidiactl"), Path("/proc/driver/nvidia/version"))
_BINDING: Final = Path("share/amd_smi")


class TelemetrySource(NamedTuple):
    """One way to try."""

    name: str  # amdsmi, sysfs, nvml
    where: str = ""  # the folder of ROCm's own binding, "" for the installed package; or of sysfs
    environment: tuple[tuple[str, str], ...] = ()  # to be added

    @property
    def label(self) -> str:
        """How a message calls it."""
        return f"amdsmi of {self.where}" if self.name == "amdsmi" and self.where else self.name


def sources(choice: Choice, environment: Mapping[str, str]) -> list[TelemetrySource]:
    """Return what to try, in order; nothing where ``auto`` finds no GPU and where it is not wanted.

    AMD SMI comes with the binding of the node's ROCm first, which fits the node's library, then with the
    installed package, then the driver's own files.
    """
    mounted = sysfs_root(environment)
    files = TelemetrySource("sysfs", str(mounted))
    if choice == "none":
        return []
    if choice == "nvml":
        return [TelemetrySource("nvml")]
    if choice == "sysfs":
        return [files]
    if choice == "amdsmi":
        return _amdsmi(environment)
    if sysfs.amd_cards(mounted) or kfd_nodes(mounted):
        return [*_amdsmi(environment), files]
    return [TelemetrySource("nvml")] if any(path.exists() for path in _NVIDIA) else []


def sysfs_root(environment: Mapping[str, str]) -> Path:
    """Return where sysfs is mounted, as ``environment`` or our own says."""
    return Path(environment.get(SYSFS_VARIABLE) or os.environ.get(SYSFS_VARIABLE) or "/sys")


def _amdsmi(environment: Mapping[str, str]) -> list[TelemetrySource]:
    named = [Path(environment[each]) for each in ("ROCM_HOME", "ROCM_PATH") if environment.get(each)]
    installed = [Path("/opt/rocm"), *sorted(Path("/opt").glob("rocm-*"), reverse=True)]
    found: dict[Path, TelemetrySource] = {}
    for root in [*named, *([] if named else installed)]:
        folder = root / _BINDING
        if (folder / "amdsmi" / "__init__.py").is_file():
            added = () if named else (("ROCM_PATH", str(root)),)
            found.setdefault(Path(os.path.realpath(folder)), TelemetrySource("amdsmi", str(folder), added))
    return [*found.values(), TelemetrySource("amdsmi")]
