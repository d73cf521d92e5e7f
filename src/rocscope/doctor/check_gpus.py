"""Which GPUs there are, whether they are known, and whether their clocks are left to the driver."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Final

from rocscope.collectors import sysfs
from rocscope.collectors.gpu_device import number, text
from rocscope.doctor.check import Base, Finding
from rocscope.doctor.machine import Machine, SeenGpu
from rocscope.errors import UnknownGpu

_AMD: Final = 0x1002
_DISPLAY, _ACCELERATOR = 0x03, 0x12  # classes of PCI devices


class Gpus(Base):
    """GPUs by the kernel's drivers, not by ROCm."""

    name = "gpus"
    title = "GPUs"
    help = "GPUs that AMD's and NVIDIA's drivers tell of, and whether the GPU table has them"
    order = 10

    def run(self, machine: Machine) -> Finding:
        """List them, or say why there may be none."""
        gpus = machine.gpus
        details = {"gpus": [{**asdict(gpu), "model": gpu.model} for gpu in gpus]}
        if not gpus:
            return self._none(machine)
        counts = Counter(_describe(gpu) for gpu in gpus)
        seen = ", ".join(f"{count} x {what}" if count > 1 else what for what, count in counts.items())
        if any(gpu.model is None for gpu in gpus):
            advice = "name it with --gpu where it is one of these, or add a TOML to data/gpus: labels need it"
            return self.warn(f"{seen}; not all are in the GPU table", advice=advice, details=details)
        return self.ok(seen, details=details)

    def _none(self, machine: Machine) -> Finding:
        cards = [
            device.name
            for device in sorted(machine.at("sys/bus/pci/devices").glob("*"))
            if number(device / "vendor") == _AMD
            and ((number(device / "class") or 0) >> 16) in (_DISPLAY, _ACCELERATOR)
        ]
        if cards:
            return self.fail(
                f"an AMD GPU is at {', '.join(cards[:8])}, and the amdgpu driver does not serve it",
                fix="sudo modprobe amdgpu",
                advice="in a container: give it the devices with --device=/dev/kfd --device=/dev/dri",
                blocks=UnknownGpu.exit_code,
            )
        if machine.at("proc/driver/nvidia/version").exists():
            return self.fail(
                "NVIDIA's driver is loaded, and nvidia-smi tells of no GPU",
                fix="nvidia-smi",
                blocks=UnknownGpu.exit_code,
            )
        return self.fail(
            "none",
            advice="profile on a machine that has one; `rocscope analyze` reads its recordings anywhere",
            blocks=UnknownGpu.exit_code,
        )


def _describe(gpu: SeenGpu) -> str:
    name = gpu.model or gpu.name or "unknown GPU"
    arch = f" ({gpu.arch})" if gpu.arch else ""
    memory = f", {gpu.memory_bytes / (1 << 30):.0f} GiB" if gpu.memory_bytes else ""
    return f"{name}{arch}{memory}"


class ClockLevel(Base):
    """The driver's clock policy: a card held at a low clock is slow for no reason of its kernels."""

    name = "gpu-clocks"
    title = "GPU clocks"
    help = "whether AMD's driver may choose the clocks (power_dpm_force_performance_level)"
    order = 15

    def run(self, machine: Machine) -> Finding:
        """Read the level of each card."""
        cards = sysfs.amd_cards(machine.at("sys"))
        levels = {card.name: text(card / "device" / "power_dpm_force_performance_level") for card in cards}
        told = {name: level for name, level in levels.items() if level}
        if not told:
            return self.unknown("no AMD card tells" if cards else "no AMD card", details={"levels": levels})
        held = {name: level for name, level in told.items() if level != "auto"}
        if not held:
            return self.ok("chosen by the driver (auto)", details={"levels": levels})
        seen = ", ".join(f"{name} is held at {level}" for name, level in held.items())
        path = f"/sys/class/drm/{next(iter(held))}/device/power_dpm_force_performance_level"
        return self.warn(
            seen,
            fix=f"echo auto | sudo tee {path}",
            advice="leave it if the clock is held for an experiment: labels then fit that clock alone",
            details={"levels": levels},
        )


CHECKS = (Gpus(), ClockLevel())
