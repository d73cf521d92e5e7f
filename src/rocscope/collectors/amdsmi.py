"""GPU sensors through AMD SMI's Python binding: the node's own where ROCm brought one, else the package.

Imported by the telemetry process, so nothing but the standard library and the binding is imported here. The
table of sensors is read through the binding's C layer: its Python layer turns throttle bits into a bool.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from rocscope.collectors import gpu_metrics
from rocscope.collectors.gpu_device import (
    MI100_DEVICES,
    Absence,
    Device,
    GpuReset,
    NothingRead,
    Reading,
    Unavailable,
)

NO_PERMISSION: Final = 10
NOT_INITIALISED: Final = 32
NO_DRIVER: Final = 34
RESTARTED: Final = 54
_RESET: Final = (NOT_INITIALISED, RESTARTED)

LIBRARY_OF: Final = {"6.1": 24, "7.0": 26, "10.1": 27}
"""Major version of libamd_smi by the binding's release: with another one its structures differ."""

_BUFFER_BYTES: Final = 65_536  # a library that is newer than the binding writes more than its structure
_KEPT: Final = (
    *("current_socket_power", "average_socket_power", "energy_accumulator"),
    *("current_gfxclk", "current_gfxclks", "average_gfxclk_frequency"),
    *("current_uclk", "average_uclk_frequency", "current_socclk", "current_socclks"),
    *("average_socclk_frequency", "temperature_hotspot", "temperature_edge", "temperature_mem"),
    *("average_gfx_activity", "average_umc_activity", "current_fan_speed", "pcie_bandwidth_inst"),
    *("xgmi_read_data_acc", "xgmi_write_data_acc", "throttle_status", "indep_throttle_status"),
    *("accumulation_counter", "prochot_residency_acc", "ppt_residency_acc"),
    *("socket_thm_residency_acc", "vr_thm_residency_acc", "hbm_thm_residency_acc"),
)
_NOT_FILLED_W: Final = 0xFFFF  # 16 bits of ones, or more: the binding tells only some of them
_MICROWATTS: Final = 10_000  # a cap above is in microwatts: watts on some hosts, microwatts on bare metal


class Reader:
    """Reads all GPUs that AMD SMI sees."""

    energy_tick_j = gpu_metrics.ENERGY_TICK_J

    def __init__(self, where: str = "", tell: Callable[[str], None] = lambda _: None) -> None:
        """``where``: folder of the node's own binding, ``""``: the installed package.

        ``tell`` is told what is about to be tried.
        """
        self._folder = where
        self._tell = tell
        self._smi: Any = None  # the binding: a module without types
        self._raw: Any = None
        self._handles: list[Any] = []
        self._bits: list[int] = []
        self._absent: dict[int, set[str]] = {}
        self._struct: list[tuple[str, int]] = []
        self._buffer = ctypes.create_string_buffer(_BUFFER_BYTES)
        self._metrics: Any = None
        self.devices: list[Device] = []
        self.version = ""

    def open(self) -> None:
        """Load the binding, start the library, find the GPUs. Raises :class:`Unavailable`."""
        self._load()
        self._tell("init")
        try:
            self._smi.amdsmi_init(self._smi.AmdSmiInitFlags.INIT_AMD_GPUS)
            self._handles = list(self._smi.amdsmi_get_processor_handles())
        except Exception as error:  # a vendor's binding: whatever it raises is the answer
            raise _unavailable(error) from error
        if not self._handles:
            raise Unavailable("no-gpu", "AMD SMI sees no GPU")
        for index, handle in enumerate(self._handles):
            device, mi100 = self._describe(handle, index)
            if any(device.bdf == other.bdf for other in self.devices):  # partitions of one card
                device = device._replace(bdf=f"{device.bdf}#{index}")
            self.devices.append(device)
            self._bits.append(32 if mi100 else 64)

    def _load(self) -> None:
        """Import the binding and check that it belongs to the library that it found."""
        self._tell("import")
        if self._folder:
            sys.path.insert(0, self._folder)
        try:
            self._smi = importlib.import_module("amdsmi")
            self._raw = importlib.import_module("amdsmi.amdsmi_wrapper")
            kind = self._raw.amdsmi_gpu_metrics_t
            self._metrics = kind.from_buffer(self._buffer)
            found = self._raw.amdsmi_version_t()
            code = self._raw.amdsmi_get_lib_version(ctypes.byref(found))
        except Exception as error:  # as in open: KeyError, AttributeError, OSError and more
            raise _unavailable(error) from error
        self._struct = [(name, _missing(kind, name)) for name in _KEPT if hasattr(kind, name)]
        binding = _release(self._smi)
        library = f"{found.major}.{found.minor}" if not code else "unknown"
        expected = _library_of(binding)
        if not self._folder and (expected is None or code or found.major != expected):
            wanted = f"{expected}.x" if expected else "one that is not known"
            raise Unavailable(
                "wrong-version",
                f"the package amdsmi {binding or 'of unknown version'} is for library {wanted}, "
                f"this machine has {library}",
            )
        self.version = f"{binding or 'of unknown version'}, library {library}"

    def _describe(self, handle: Any, index: int) -> tuple[Device, bool]:
        place = str(self._call("amdsmi_get_gpu_device_bdf", handle) or f"unknown-{index}").lower()
        uuid = str(self._call("amdsmi_get_gpu_device_uuid", handle) or "")
        asic = self._call("amdsmi_get_gpu_asic_info", handle) or {}
        arch = str(asic.get("target_graphics_version", ""))
        arch = arch if arch.startswith("gfx") and arch not in ("gfx0", "gfxN/A", "gfxffffffff") else ""
        with contextlib.suppress(ValueError, TypeError):
            arch = arch or ("gfx908" if int(str(asic.get("device_id")), 16) in MI100_DEVICES else "")
        serial = str(asic.get("asic_serial", "")).lower().removeprefix("0x")
        name = str(asic.get("market_name", ""))
        unique = serial if serial.strip("0") and serial != "n/a" else uuid
        return Device(place, unique, "" if name == "N/A" else name, arch), arch == "gfx908"

    def energy_bits(self, index: int) -> int:
        """Tell how wide the energy counter of a GPU is."""
        return self._bits[index]

    def read(self, index: int, before: Reading | None, *, slow: bool) -> Reading:
        """Read one GPU in one call, and single figures where its table lacks them.

        Raises :class:`GpuReset` where handles are void, :class:`NothingRead` where nothing could be read.
        """
        handle = self._handles[index]
        if slow:
            self._absent.pop(index, None)  # "not supported" is not believed for ever
        ctypes.memset(self._buffer, 0xFF, ctypes.sizeof(self._metrics))  # what is not written is not filled
        code = self._raw.amdsmi_get_gpu_metrics_info(handle, ctypes.byref(self._metrics))
        if code in _RESET:
            raise GpuReset(f"AMD SMI code {code}")
        fields = self._fields() if not code else {}
        values = gpu_metrics.readings(fields, before.fields if before else None)
        self._fill_gaps(values, index, handle)
        used = self._try(index, "amdsmi_get_gpu_memory_usage", handle, self._smi.AmdSmiMemoryType.VRAM)
        if isinstance(used, int):
            values["vram_used_bytes"] = float(used)
        if slow:
            self._seldom(values, index, handle)
        if not values:
            denied = code == NO_PERMISSION
            raise NothingRead("no permission" if denied else f"AMD SMI code {code}")
        return Reading(values, gpu_metrics.energy_ticks(fields), fields)

    def _fields(self) -> gpu_metrics.Fields:
        fields: gpu_metrics.Fields = {}
        for name, missing in self._struct:
            value = getattr(self._metrics, name)
            if isinstance(value, int):
                if value != missing:
                    fields[name] = value
            elif kept := [each for each in value if each != missing]:
                fields[name] = kept
        return fields

    def _fill_gaps(self, values: dict[str, float], index: int, handle: Any) -> None:
        """Ask for single figures that the table lacks; each such call reads the table again."""
        smi = self._smi
        if "power_w" not in values:
            power = self._try(index, "amdsmi_get_power_info", handle) or {}
            for key in ("socket_power", "current_socket_power", "average_socket_power"):
                if isinstance(power.get(key), int) and 0 < power[key] < _NOT_FILLED_W:
                    values["power_w"] = float(power[key])
                    break
        for metric, clock in (("clock_hz", "GFX"), ("memory_clock_hz", "MEM"), ("soc_clock_hz", "SOC")):
            if metric not in values:
                found = self._try(index, "amdsmi_get_clock_info", handle, smi.AmdSmiClkType[clock]) or {}
                mega = found.get("clk", found.get("cur_clk"))
                if isinstance(mega, int):
                    values[metric] = mega * 1e6
        for metric, sensor in _SENSORS.items():
            if metric not in values:
                kind = smi.AmdSmiTemperatureType[sensor]
                now = smi.AmdSmiTemperatureMetric.CURRENT
                degrees = self._try(index, "amdsmi_get_temp_metric", handle, kind, now)
                if isinstance(degrees, int):
                    values[metric] = degrees / 1e3 if abs(degrees) > 1000 else float(degrees)
        if "busy_frac" not in values or "memory_busy_frac" not in values:
            activity = self._try(index, "amdsmi_get_gpu_activity", handle) or {}
            for metric, key in (("busy_frac", "gfx_activity"), ("memory_busy_frac", "umc_activity")):
                percent = activity.get(key)
                if isinstance(percent, int) and 0 <= percent <= 100:
                    values.setdefault(metric, percent / 100)

    def _seldom(self, values: dict[str, float], index: int, handle: Any) -> None:
        total = self._try(index, "amdsmi_get_gpu_memory_total", handle, self._smi.AmdSmiMemoryType.VRAM)
        if isinstance(total, int) and total:
            values["vram_total_bytes"] = float(total)
        cap = (self._try(index, "amdsmi_get_power_cap_info", handle) or {}).get("power_cap")
        if isinstance(cap, int) and cap:
            values["power_cap_w"] = cap / 1e6 if cap > _MICROWATTS else float(cap)
        link = self._try(index, "amdsmi_get_pcie_info", handle) or {}
        for metric, group, key in (
            ("pcie_link_width", "pcie_metric", "pcie_width"),
            ("pcie_max_link_width", "pcie_static", "max_pcie_width"),
        ):
            lanes = (link.get(group) or {}).get(key)
            if isinstance(lanes, int) and lanes in gpu_metrics.LANES:
                values[metric] = float(lanes)
        errors = self._try(index, "amdsmi_get_gpu_total_ecc_count", handle) or {}
        for metric, key in (
            ("ecc_correctable", "correctable_count"),
            ("ecc_uncorrectable", "uncorrectable_count"),
        ):
            if isinstance(errors.get(key), int):
                values[metric] = float(errors[key])

    def _try(self, index: int, name: str, *arguments: Any) -> Any:
        """Call what this GPU may not support; once refused, it is asked again at the next slow reading."""
        key = f"{name}{arguments[1:]}"
        absent = self._absent.setdefault(index, set())
        if key in absent:
            return None
        found = self._call(name, *arguments)
        if found is None:
            absent.add(key)
        return found

    def _call(self, name: str, *arguments: Any) -> Any:
        """Return what the binding gives, ``None`` where it refuses. Raises :class:`GpuReset`."""
        try:
            return getattr(self._smi, name)(*arguments)
        except Exception as error:  # as in open: a figure that cannot be had is missing
            if _code(error) in _RESET:
                raise GpuReset(f"AMD SMI code {_code(error)}") from error
            return None

    def close(self) -> None:
        """Shut the library down."""
        with contextlib.suppress(GpuReset):
            self._call("amdsmi_shut_down")


_SENSORS: Final = {
    "temperature_edge_c": "EDGE",
    "temperature_hotspot_c": "HOTSPOT",
    "temperature_memory_c": "VRAM",
}


def _missing(kind: Any, name: str) -> int:
    """Return the value that stands for "not filled": all ones in the field's own width."""
    declared = next(each[1] for each in kind._fields_ if each[0] == name)
    element = getattr(declared, "_type_", declared) if issubclass(declared, ctypes.Array) else declared
    return (1 << 8 * ctypes.sizeof(element)) - 1


def _release(binding: ModuleType) -> str:
    """Return the version of a binding: it seldom tells itself, so ask the installed package."""
    known = str(getattr(binding, "__version__", "") or "")
    if known[:1].isdigit():
        return known
    from importlib import metadata

    try:
        return metadata.version("amdsmi")
    except metadata.PackageNotFoundError:
        return ""


def _library_of(binding: str) -> int | None:
    """Return the library's major version that a binding is for: ROCm's own carry that of the library."""
    major, _, rest = binding.partition(".")
    if major.isdecimal() and int(major) >= min(LIBRARY_OF.values()):
        return int(major)
    return LIBRARY_OF.get(f"{major}.{rest.partition('.')[0]}")


def _code(error: BaseException) -> int | None:
    code = getattr(error, "err_code", None)
    return code if isinstance(code, int) else None


def _unavailable(error: Exception) -> Unavailable:
    """Say what an exception of the binding means; the words are ours, for those of the binding vary."""
    code = _code(error)
    kind: Absence = "failed"
    said = str(error).strip().splitlines()
    words = f"{type(error).__name__}: {said[-1].strip()[:200] if said else ''}"
    if isinstance(error, ModuleNotFoundError) and error.name == "amdsmi":
        kind, words = "no-package", "the Python package amdsmi is not installed"
    elif isinstance(error, KeyError | OSError):
        kind, words = "no-library", "libamd_smi.so is not installed or cannot be loaded"
    elif isinstance(error, AttributeError):
        kind, words = "wrong-version", f"the binding and libamd_smi.so do not fit together ({error})"
    elif code == NO_DRIVER:
        kind, words = "no-driver", "the amdgpu driver is not loaded"
    elif code == NO_PERMISSION:
        kind, words = "no-permission", "no permission: the user must be in the groups render and video"
    elif code is not None:
        words = f"AMD SMI code {code}"
    return Unavailable(kind, words)


READER: Final = Reader
