"""Builds the stand-in for libamd_smi.so under the binding that is installed, and writes what it is to do."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
MI100 = {  # what an MI100 fills, figures made up
    "temperature_edge": 41,
    "temperature_hotspot": 66,
    "temperature_mem": 58,
    "average_gfx_activity": 93,
    "average_umc_activity": 34,
    "average_socket_power": 211,
    "energy_accumulator": 1_000_000,
    "current_gfxclk": 1502,
    "average_gfxclk_frequency": 1498,
    "current_socclk": 1091,
    "current_uclk": 1200,
    "throttle_status": 0,
    "indep_throttle_status": 0,
    "current_fan_speed": 0,
}
READINGS = (  # what a reading calls beside the table of sensors
    "amdsmi_get_gpu_memory_usage",
    "amdsmi_get_gpu_memory_total",
    "amdsmi_get_power_cap_info",
    "amdsmi_get_gpu_total_ecc_count",
    "amdsmi_get_pcie_info",
    "amdsmi_get_power_info",
    "amdsmi_get_clock_info",
    "amdsmi_get_temp_metric",
    "amdsmi_get_gpu_activity",
)
LAYOUT = """
import ctypes
from amdsmi import amdsmi_wrapper as w
print("struct field { const char *name; int offset, width, count; };")
print("static const struct field fields[] = {")
for name, declared in w.amdsmi_gpu_metrics_t._fields_:
    if not name.startswith("PADDING") and name not in ("common_header", "xcp_stats"):
        array = issubclass(declared, ctypes.Array)
        element, count = (declared._type_, declared._length_) if array else (declared, 1)
        offset = getattr(w.amdsmi_gpu_metrics_t, name).offset
        print(f'{{"{name}", {offset}, {ctypes.sizeof(element)}, {count}}},')
print("{0, 0, 0, 0}};")
for name in ("market_name", "asic_serial", "device_id", "target_graphics_version"):
    print(f"#define ASIC_{name} {getattr(w.amdsmi_asic_info_t, name).offset}")
print(f"#define POWER_average_socket_power {w.amdsmi_power_info_t.average_socket_power.offset}")
link = w.amdsmi_pcie_info_t
print(f"#define PCIE_max_pcie_width {link.pcie_static.offset + w.struct_pcie_static_.max_pcie_width.offset}")
print(f"#define PCIE_pcie_width {link.pcie_metric.offset + w.struct_pcie_metric_.pcie_width.offset}")
for name, kind in dict(METRICS=w.amdsmi_gpu_metrics_t, ASIC_INFO=w.amdsmi_asic_info_t,
                       POWER_INFO=w.amdsmi_power_info_t, CLOCK_INFO=w.amdsmi_clk_info_t,
                       ACTIVITY=w.amdsmi_engine_usage_t, PCIE_INFO=link).items():
    print(f"#define {name}_BYTES {ctypes.sizeof(kind)}")
"""
"""What the binding takes the library's structures to be, as C."""


def package_folder() -> Path:
    """Where the installed binding is; it is not imported, which needs the library."""
    found = importlib.util.find_spec("amdsmi")
    assert found is not None and found.submodule_search_locations
    return Path(found.submodule_search_locations[0])


def wrapper_text() -> str:
    """The C layer of the installed binding."""
    return (package_folder() / "amdsmi_wrapper.py").read_text(encoding="utf-8")


def symbols(text: str) -> list[str]:
    """Every symbol that the binding looks up when it is imported."""
    return sorted(set(re.findall(r"_libraries\['libamd_smi\.so'\]\.(\w+)", text)))


def _refusals(names: list[str]) -> str:
    return "".join(f"int {name}(void) {{ return 2; }}\n" for name in names)


def install(root: Path, *, without: str = "") -> Path:
    """Build ``root/lib/libamd_smi.so``, lacking one symbol if so told; return ``root`` (for ROCM_PATH)."""
    text = wrapper_text()
    build, library = root / "build", root / "lib" / "libamd_smi.so"
    build.mkdir(parents=True)
    library.parent.mkdir()
    gcc = [
        "gcc",
        "-std=gnu11",
        "-Wall",
        "-Werror",
        "-O1",
        "-shared",
        "-fPIC",
        f"-I{build}",
        "-o",
        str(library),
    ]
    others = build / "others.c"
    others.write_text(_refusals(symbols(text)))
    subprocess.run([*gcc, str(others)], check=True)  # the binding cannot be imported without a library
    layout = subprocess.run(
        [sys.executable, "-P", "-c", LAYOUT],
        env={**os.environ, "ROCM_PATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    (build / "fields.h").write_text(layout.stdout, encoding="utf-8")
    source = (HERE / "fake_amdsmi.c").read_text(encoding="utf-8")
    own = set(re.findall(r"^int (amdsmi_\w+)\(", source, re.MULTILINE))
    others.write_text(_refusals([name for name in symbols(text) if name not in own and name != without]))
    subprocess.run([*gcc, str(HERE / "fake_amdsmi.c"), str(others)], check=True)
    return root


def tell(path: Path, *lines: str, gpus: int = 2, **fields: int) -> None:
    """Say what the library is to do from now on, in one step; ``fields`` replace those of an MI100."""
    told = [f"gpus {gpus}", *lines, *(f"set {name} {value}" for name, value in (MI100 | fields).items())]
    new = path.with_suffix(".new")
    new.write_text("\n".join(told) + "\n", encoding="utf-8")
    new.replace(path)
