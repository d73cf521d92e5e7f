"""Sensors of NVIDIA GPUs through NVML (package nvidia-ml-py, the extra ``nvidia``).

Imported by the telemetry process, so nothing but the standard library and the binding is imported here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final

from rocscope.collectors.gpu_device import Device, GpuReset, NothingRead, Reading, Unavailable

_REASONS: Final = {  # nvml.h, nvmlClocksEventReason*: idle (0x1), set clocks (0x2, 0x100) are no throttling
    "throttled_power": 0x04 | 0x80,  # software power cap, power brake
    "throttled_thermal": 0x20 | 0x40,  # software and hardware slowdown by temperature
}
_SLOWDOWNS: Final = 0x04 | 0x08 | 0x20 | 0x40 | 0x80  # 0x08: hardware slowdown, of whatever cause
_MEMORY_TEMPERATURE: Final = 82  # NVML_FI_DEV_MEMORY_TEMP
_EDGE: Final = 0  # NVML_TEMPERATURE_GPU
_SM_CLOCK, _MEMORY_CLOCK = 1, 2
_CORRECTED, _UNCORRECTED, _SINCE_BOOT = 0, 1, 0
_TO_HOST, _FROM_HOST = 0, 1


class Reader:
    """Reads all GPUs that NVML sees: its order is that of PCI addresses, whatever CUDA is told to show."""

    energy_tick_j = 1e-3

    def __init__(self, where: str = "", tell: Callable[[str], None] = lambda _: None) -> None:
        """``where`` is of no meaning here; ``tell`` is told what is about to be tried."""
        self._tell = tell
        self._nvml: Any = None  # a module without types
        self._handles: list[Any] = []
        self.devices: list[Device] = []
        self.version = ""

    def open(self) -> None:
        """Load NVML and find the GPUs. Raises :class:`Unavailable`."""
        self._tell("import")
        try:
            import pynvml
        except ImportError as error:
            hint = "the Python package nvidia-ml-py is not installed: pip install 'rocscope[nvidia]'"
            raise Unavailable("no-package", hint) from error
        self._nvml = pynvml
        self._tell("init")
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        except pynvml.NVMLError as error:
            raise self._unavailable(error) from error
        if not self._handles:
            raise Unavailable("no-gpu", "NVML sees no GPU")
        self.devices = [self._describe(handle, index) for index, handle in enumerate(self._handles)]
        self.version = f"driver {_text(self._ask('nvmlSystemGetDriverVersion')) or 'unknown'}"

    def _unavailable(self, error: Any) -> Unavailable:
        nvml, code = self._nvml, error.value
        if code == nvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            return Unavailable("no-library", "libnvidia-ml.so.1 is not installed")
        if code == nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            return Unavailable("wrong-version", "nvidia-ml-py and libnvidia-ml.so.1 do not fit together")
        if code in (nvml.NVML_ERROR_DRIVER_NOT_LOADED, nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH):
            return Unavailable("no-driver", "the NVIDIA driver is not loaded, or of another version")
        if code == nvml.NVML_ERROR_NO_PERMISSION:
            return Unavailable("no-permission", "NVML refuses: no permission for /dev/nvidia*")
        return Unavailable("failed", f"NVML code {code}")

    def _describe(self, handle: Any, index: int) -> Device:
        pci = self._ask("nvmlDeviceGetPciInfo", handle)
        place = _text(getattr(pci, "busId", "")).lower()
        domain, _, rest = place.partition(":")
        bdf = f"{domain[-4:]}:{rest}" if rest else f"unknown-{index}"
        uuid = _text(self._ask("nvmlDeviceGetUUID", handle))
        return Device(bdf, uuid, _text(self._ask("nvmlDeviceGetName", handle)))

    def energy_bits(self, index: int) -> int:
        """NVML counts millijoules in 64 bits."""
        return 64

    def read(self, index: int, before: Reading | None, *, slow: bool) -> Reading:
        """Read one GPU. Raises :class:`GpuReset` or :class:`NothingRead`."""
        handle = self._handles[index]
        values: dict[str, float] = {}
        for metric, scale, name, *arguments in (
            ("power_w", 1e-3, "nvmlDeviceGetPowerUsage"),
            ("clock_hz", 1e6, "nvmlDeviceGetClockInfo", _SM_CLOCK),
            ("memory_clock_hz", 1e6, "nvmlDeviceGetClockInfo", _MEMORY_CLOCK),
            ("temperature_edge_c", 1.0, "nvmlDeviceGetTemperature", _EDGE),
        ):
            found = self._ask(name, handle, *arguments)
            if isinstance(found, int):
                values[metric] = found * scale
        self._add_memory(values, handle)
        self._add_throttling(values, handle)
        if slow:
            self._seldom(values, handle)
        if not values:
            raise NothingRead("NVML gives nothing")
        return Reading(values, self._ask("nvmlDeviceGetTotalEnergyConsumption", handle))

    def _add_memory(self, values: dict[str, float], handle: Any) -> None:
        activity = self._ask("nvmlDeviceGetUtilizationRates", handle)
        if activity is not None:
            values["busy_frac"], values["memory_busy_frac"] = activity.gpu / 100, activity.memory / 100
        memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
        if memory is not None:
            values["vram_used_bytes"] = float(memory.used)
        fields = self._ask("nvmlDeviceGetFieldValues", handle, [_MEMORY_TEMPERATURE])
        if fields and fields[0].nvmlReturn == 0 and fields[0].value.uiVal:
            values["temperature_memory_c"] = float(fields[0].value.uiVal)

    def _add_throttling(self, values: dict[str, float], handle: Any) -> None:
        bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons", handle)
        if bits is None:  # its name in drivers before 535
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
        if not isinstance(bits, int):
            return
        values["throttle_status"], values["throttled"] = float(bits), float(bool(bits & _SLOWDOWNS))
        for metric, mask in _REASONS.items():
            values[metric] = float(bool(bits & mask))

    def _seldom(self, values: dict[str, float], handle: Any) -> None:
        cap = self._ask("nvmlDeviceGetEnforcedPowerLimit", handle)
        if isinstance(cap, int):
            values["power_cap_w"] = cap / 1e3
        memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
        if memory is not None:
            values["vram_total_bytes"] = float(memory.total)
        for metric, kind in (("ecc_correctable", _CORRECTED), ("ecc_uncorrectable", _UNCORRECTED)):
            count = self._ask("nvmlDeviceGetTotalEccErrors", handle, kind, _SINCE_BOOT)
            if isinstance(count, int):
                values[metric] = float(count)
        for metric, name in (
            ("pcie_link_width", "nvmlDeviceGetCurrPcieLinkWidth"),
            ("pcie_max_link_width", "nvmlDeviceGetMaxPcieLinkWidth"),
        ):
            lanes = self._ask(name, handle)
            if isinstance(lanes, int) and lanes > 0:  # 0: not known
                values[metric] = float(lanes)
        rates = [self._ask("nvmlDeviceGetPcieThroughput", handle, way) for way in (_TO_HOST, _FROM_HOST)]
        if all(isinstance(rate, int) for rate in rates):
            values["pcie_bytes_per_s"] = sum(rates) * 1024.0  # each over 20 ms, in KiB/s

    def _ask(self, name: str, *arguments: Any) -> Any:
        """Return what NVML gives, ``None`` where GPU or driver have it not. Raises :class:`GpuReset`."""
        nvml = self._nvml
        call = getattr(nvml, name, None)
        if call is None:
            return None
        try:
            return call(*arguments)
        except nvml.NVMLError as error:
            if error.value in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_UNINITIALIZED):
                raise GpuReset(f"NVML code {error.value}") from error
            return None

    def close(self) -> None:
        """Let NVML go."""
        with contextlib.suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


READER: Final = Reader
