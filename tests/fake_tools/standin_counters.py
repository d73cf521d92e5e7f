#!/usr/bin/env python3
"""Part of the stand-ins: what a gfx908 and the tools can count, and what they say to more. Knows nothing of
rocscope's own tables: limits and names are AMD's (aqlprofile; the definitions of ROCm 6.2 to 7.0)."""

import os
import re
import sys
from pathlib import Path

LIMITS = {"SQ": 8, "TA": 2, "TD": 2, "TCP": 4, "TCC": 4, "CPC": 2, "CPF": 2, "SPI": 2, "GRBM": 2, "GDS": 4}
KNOWN = """
GRBM_COUNT GRBM_GUI_ACTIVE SQ_ACTIVE_INST_VALU SQ_INSTS_FLAT SQ_INSTS_FLAT_LDS_ONLY SQ_INSTS_GDS SQ_INSTS_LDS
SQ_INSTS_SALU SQ_INSTS_SMEM SQ_INSTS_VALU SQ_INSTS_VMEM_RD SQ_INSTS_VMEM_WR SQ_INST_CYCLES_SALU
SQ_LDS_BANK_CONFLICT SQ_THREAD_CYCLES_VALU SQ_WAIT_INST_LDS SQ_WAVES TA_TA_BUSY TA_FLAT_READ_WAVEFRONTS
TA_FLAT_WRITE_WAVEFRONTS TCC_HIT TCC_MISS TCC_EA_RDREQ TCC_EA_RDREQ_32B TCC_EA_WRREQ TCC_EA_WRREQ_64B
TCC_EA_WRREQ_STALL TCP_TCP_TA_DATA_STALL_CYCLES
"""
"""What all three tools know of gfx908 up to ROCm 7.0, sums aside."""
SUMS = """
TA_FLAT_READ_WAVEFRONTS_sum TA_FLAT_WRITE_WAVEFRONTS_sum TCC_HIT_sum TCC_MISS_sum TCC_EA_RDREQ_sum
TCC_EA_RDREQ_32B_sum TCC_EA_WRREQ_sum TCC_EA_WRREQ_64B_sum TCP_TCP_TA_DATA_STALL_CYCLES_sum
"""
"""Blocks of several units are counted one by one in the older tools, or by these sums."""
NEWER = "SQ_WAVE_CYCLES SQ_BUSY_CU_CYCLES SQ_WAIT_ANY SQ_WAIT_INST_ANY SQ_INSTS_MFMA TCC_REQ"
"""Some of what rocprofv3 of ROCm 7.1 knows in addition."""


for _part in os.environ.get("STANDIN_LIMITS", "").split():  # of a card with fewer registers: "TCC=1"
    LIMITS[_part.partition("=")[0]] = int(_part.partition("=")[2])


def raw(name):
    return re.sub(r"_sum$", "", name)


def over(names):
    """Return the block of which more is asked than it has registers."""
    used = {}
    for name in {raw(name) for name in names}:
        block = re.sub("^SQC$", "SQ", name.split("_")[0])
        used[block] = used.get(block, 0) + 1 + (name == "SQ_ACCUM_PREV_HIRES")
    return next((block for block, count in used.items() if count > LIMITS.get(block, 0)), None)


def definitions_yaml(path):
    """Read rocprofv3's --extra-counters, strictly as its schema has it."""
    lines = [line.rstrip() for line in Path(path).read_text().splitlines() if line.strip()]
    if lines[:3] != ["rocprofiler-sdk:", "  counters-schema-version: 1", "  counters:"]:
        sys.exit("Expected structure:\nrocprofiler-sdk:\n  counters-schema-version: 1\n  counters:")
    text = "\n".join(lines[3:])
    entry = re.compile(
        r"    - name: (\w+)\n      description: \S.*\n      properties: \[\]\n      definitions:\n"
        r"        - architectures: \[(\w+)\]\n          block: ([A-Z]+)\n          event: (\d+)(?:\n|$)"
    )
    if entry.sub("", text):
        sys.exit(f"bad counter definition: {entry.sub('', text)!r}")
    return {found[1] for found in entry.finditer(text) if found[2] == "gfx908"}


def definitions_xml(path):
    """Read rocprof's -m, which replaces what it knows."""
    text = Path(path).read_text()
    inside = re.fullmatch(r"\s*<gfx908>\n(.*)</gfx908>\s*", text, re.DOTALL)
    metric = re.compile(
        r'  <metric name="(\w+)" (?:block=([A-Z]+) event=\d+|expr=sum\((\w+),\d+\)) descr="[^"]*"></metric>\n'
    )
    if not inside or metric.sub("", inside[1]):
        sys.exit(f"bad metrics file {path}")
    return {found[1] for found in metric.finditer(inside[1])}


def v3_fault(groups, extra, version):
    """Return what the library will do in the first process that launches a kernel."""
    known = {*KNOWN.split(), *(NEWER.split() if version >= (1, 1) else ())}
    known |= definitions_yaml(extra) if extra else set()
    for names in groups:
        missing = [name for name in names if raw(name) not in known]
        if missing:
            found = ", ".join(sorted(set(names) - set(missing)))
            return (
                f"unknown:Unable to find all counters for agent 1 (gpu-0, gfx908) in "
                f"[{', '.join(sorted(names))}]. Found: [{found}]. Missing: [{', '.join(missing)}]"
            )
        if over(names):
            return (
                "abort:Could not construct profile cfg failed with error code 38: "
                "Request exceeds the capabilities of the hardware to collect"
            )
    return ""


def v1_input(path, metrics):
    """Print a line for each run that the input asks for: fault|counters|range|kernels."""
    text = re.sub(r"#.*", "", Path(path).read_text())
    fields = {key: value.strip() for key, value in re.findall(r"^(range|gpu|kernel)\s*:(.*)$", text, re.M)}
    stock = {name for name in KNOWN.split() if name.startswith(("SQ", "GRBM"))} | set(SUMS.split())
    known = definitions_xml(metrics) if metrics else stock
    for line in re.findall(r"^pmc\s*:(.*)$", text, re.M):
        names = re.split(r"[\s,]+", line.strip()) if line.strip() else []  # none: times alone
        fault = ""
        missing = next((name for name in names if name not in known), None)
        if missing:
            fault = f"input metric '{missing}' not supported on this hardware: gfx908"
        elif over(names):
            half = len(names) // 2
            fault = (
                "Input metrics out of HW limit. Proposed metrics group set:~"
                f" group1: {' '.join(names[:half])}~ group2: {' '.join(names[half:])}~"
                "~error(4096) Metrics list exceeds HW limits"
            )
        print("|".join((fault, ",".join(names), fields.get("range", ""), fields.get("kernel", ""))))


if __name__ == "__main__":
    v1_input(sys.argv[1], os.environ.get("STANDIN_METRICS") or None)
