"""GPUs from rocminfo: recorded dumps, the JSON's tail, and what stands beside a recording."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from rocscope.capture import Capture
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.rocminfo import (
    Agent,
    RocminfoReader,
    agents_beside,
    describe_unnumbered,
    parse_tail,
    parse_text,
)
from rocscope.collectors.source import Source

MI100 = """ROCk module is loaded
HSA System Attributes
Agent 1
  Name:                    AMD EPYC 7742
  Node:                    0
  Device Type:             CPU
  Compute Unit:            128
Agent 2
  Name:                    gfx908
  Marketing Name:          Arcturus GL-XL [Instinct MI100]
  Node:                    {node}
  Device Type:             GPU
  Compute Unit:            120
  Wavefront Size:          64(0x40)
  Pool Info:
    Pool 1
      Segment:                 GLOBAL; FLAGS: COARSE GRAINED
      Size:                    33538048(0x1ffc000) KB
    Pool 2
      Segment:                 GROUP
      Size:                    64(0x40) KB
  ISA Info:
    ISA 1
      Name:                    amdgcn-amd-amdhsa--gfx908:sramecc+:xnack-
*** Done ***
"""


def read(path: Path) -> Capture:
    source = Source.open(path)
    assert RocminfoReader().recognises(source)
    builder = CaptureBuilder()
    RocminfoReader().read(source, builder)
    return builder.build()


@pytest.mark.captures
@pytest.mark.parametrize(
    ("folder", "nodes", "known"),
    [
        ("llamacpp_gfx1201", ["1", "2", "3", "4"], ("gfx1201", "AMD Radeon AI PRO R9700", 64, 32)),
        ("llamacpp_gfx900", ["1", "2", "3"], ("gfx900", "Radeon Pro WX 9100", 64, 64)),
    ],
)
def test_recorded_dumps(
    captures: Path, folder: str, nodes: list[str], known: tuple[str, str, int, int]
) -> None:
    gpus = read(captures / "rocprofv1" / folder / "results.sysinfo.txt").manifest.gpus
    assert [g.agent for g in gpus] == nodes  # KFD nodes: what results.csv calls gpu-id
    assert {(g.arch, g.name, g.compute_units, g.wave_size) for g in gpus} == {known}


@pytest.mark.captures
def test_the_tail_of_a_recorded_json_says_what_the_dump_says(captures: Path) -> None:
    folder = captures / "rocprofv1/llamacpp_gfx1201"
    text = gzip.decompress((folder / "results.json.gz").read_bytes()).decode()
    by_tail = parse_tail(text.rpartition('"otherData"')[2])
    by_dump = parse_text((folder / "results.sysinfo.txt").read_text())
    assert [(a.node, a.arch, a.compute_units, a.memory_bytes) for a in by_tail] == [
        (a.node, a.arch, a.compute_units, a.memory_bytes) for a in by_dump
    ]


def test_an_mi100_synthetic() -> None:
    (agent,) = parse_text(MI100.format(node=1))
    assert agent == Agent(1, "gfx908", "Arcturus GL-XL [Instinct MI100]", 120, 64, 33538048 * 1024)


@pytest.mark.parametrize(
    "broken", ["", "Agent 1\n", "Name: gfx908\nNode: 1\n", MI100.format(node="x"), "\x00" * 9]
)
def test_what_is_not_whole_gives_no_gpu(broken: str) -> None:
    assert parse_text(broken) == []


def test_missing_properties_stay_unknown_synthetic() -> None:
    (agent,) = parse_text("Agent 1\n Name: gfx90a\n Node: 2\n Device Type: GPU\n")
    assert (agent.compute_units, agent.wave_size, agent.memory_bytes) == (None, None, None)


def test_a_dump_without_gpu_says_so(tmp_path: Path) -> None:
    path = tmp_path / "results.sysinfo.txt"
    path.write_text("ROCk module is NOT loaded, possibly no GPU devices\nHSA System Attributes\n")
    assert [n.code for n in read(path).manifest.notices] == ["no-gpu-described"]
    path.write_text("HSA System Attributes")
    assert not RocminfoReader().recognises(Source.open(path))


def test_the_runs_own_dump_comes_before_the_others(tmp_path: Path) -> None:
    results = tmp_path / "q4.stats.csv"
    results.write_text("x")
    (tmp_path / "other.sysinfo.txt").write_text(MI100.format(node=3))
    assert [a.node for a in agents_beside(Source.open(results))] == [3]  # the only one there is
    (tmp_path / "f16.sysinfo.txt").write_text(MI100.format(node=4))
    assert agents_beside(Source.open(results)) == []  # two, and neither is its own
    (tmp_path / "q4.sysinfo.txt.gz").write_bytes(gzip.compress(MI100.format(node=5).encode()))
    assert [a.node for a in agents_beside(Source.open(results))] == [5]


@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_the_json_beside_is_asked_last(tmp_path: Path, suffix: str) -> None:
    results = tmp_path / "results.csv"
    results.write_text("x")
    other = {"Agent2.Name": "gfx908", "Agent2.Node": "1", "Agent2.DeviceType": "GPU"}
    raw = json.dumps({"traceEvents": [{}], "otherData": other}).encode()
    path = tmp_path / f"results{suffix}"
    path.write_bytes(gzip.compress(raw) if suffix.endswith("gz") else raw)
    assert [a.arch for a in agents_beside(Source.open(results))] == ["gfx908"]
    path.write_bytes(b"\x1f\x8b\x08broken")
    assert agents_beside(Source.open(results)) == []


def test_a_device_without_number_has_what_all_share() -> None:
    one, two = parse_text(MI100.format(node=1))[0], parse_text(MI100.format(node=2).replace("120", "104"))[0]
    builder = CaptureBuilder()
    for agents in ([], [one], [one, two]):
        describe_unnumbered("device 0", agents, builder)
    unnumbered, only = builder.build().manifest.gpus
    assert (unnumbered.agent, unnumbered.arch, unnumbered.compute_units) == ("device 0", "gfx908", None)
    assert (only.agent, only.compute_units) == ("1", 120)
