"""Which GPU each index of a recording is: as the user says, else as it was recorded for certain."""

from __future__ import annotations

from collections.abc import Iterator

from rocscope import hardware
from rocscope.capture import Capture
from rocscope.config import AnalyzeOptions
from rocscope.findings import Warned
from rocscope.hardware import GpuSpec


def specs(capture: Capture, options: AnalyzeOptions) -> dict[int, GpuSpec | None]:
    """Return the GPU of each index; ``None`` where it is not known. Raises :class:`UnknownGpu`."""
    if options.gpu:
        named = hardware.by_name(options.gpu)
        return {gpu.gpu: named for gpu in capture.manifest.gpus}
    return {
        gpu.gpu: hardware.identify(
            arch=gpu.arch, name=gpu.name, compute_units=gpu.compute_units, memory_bytes=gpu.memory_bytes
        )
        for gpu in capture.manifest.gpus
    }


def overridden(capture: Capture, taken: dict[int, GpuSpec | None]) -> Iterator[Warned]:
    """Name the GPUs that are for certain others than the user says."""
    for index, recorded in specs(capture, AnalyzeOptions()).items():
        named = taken.get(index)
        if recorded and named and named.name not in (recorded.name, *recorded.name.split(hardware.OR)):
            yield Warned(
                code="gpu-overridden",
                message=f"GPU {index} is taken for the one that --gpu names; the recording is of "
                f"{recorded.name}",
            )
