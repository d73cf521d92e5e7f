"""GPU telemetry as a part of the daemon: through a real telemetry process over a synthetic tree of files."""

import asyncio
import os
import signal

import psutil
import pytest
from making import make_context, running, told, until
from synthetic_sysfs import MI100, card, table

from rocscope.collectors import telemetry_sources
from rocscope.daemon import telemetry_source as module
from rocscope.daemon.settings import Settings
from rocscope.daemon.telemetry_source import TelemetrySource

GPU = "gpu:0000:10:00.0"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setenv(telemetry_sources.SYSFS_VARIABLE, str(tmp_path))
    monkeypatch.setattr(telemetry_sources, "_NVIDIA", ())
    return tmp_path


def context(way="sysfs"):
    return make_context(Settings.model_validate({"sampling": {"telemetry": way}}))


def telemetry_processes():
    return [p for p in psutil.Process().children() if "telemetry_child" in " ".join(p.cmdline())]


def telemetry_process():
    (found,) = telemetry_processes()
    return found


def test_readings_come_under_the_cards_address_and_vanish_when_they_stop(tree):
    for index in range(2):
        card(tree, index, blob=table(3, MI100), node=index + 1)

    async def main():
        made = context()
        part = TelemetrySource(made)
        latest = made.history.latest
        async with running(part):
            await until(lambda: latest(GPU, "power_w") == 211.0, "a reading")
            assert latest(GPU, "vram_total_bytes", 60) == 34342961152.0
            await until(lambda: latest("gpu:0000:20:00.0", "power_w"), "a reading of the other card")
            assert part.health().state == "ok" and "2 GPUs through sysfs" in part.health().reason
            assert "GPUs are read: 2 through sysfs" in told(made) and len(part.devices) == 2
            await until(lambda: part.cpu_s and latest(module.OWN, "telemetry_read_s"), "its own cost")
            os.kill(telemetry_process().pid, signal.SIGSTOP)  # a library that hangs
            await until(lambda: latest(GPU, "power_w", 0.5) is None, "the value to vanish")
        assert not [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]

    asyncio.run(main())


def test_a_killed_telemetry_process_comes_back(tree):
    card(tree, 0, blob=table(3, MI100))

    async def main():
        made = context()
        part = TelemetrySource(made)
        async with running(part):
            await until(lambda: made.history.latest(GPU, "power_w"), "a reading")
            first = telemetry_process().pid
            os.kill(first, signal.SIGKILL)
            await until(lambda: made.history.latest(GPU, "power_w", 0.3) is None, "the value to vanish")
            await until(lambda: made.history.latest(GPU, "power_w", 0.3), "a reading of another process")
            assert first not in [process.pid for process in telemetry_processes()]

    asyncio.run(main())


def test_without_a_gpu_nothing_runs_and_that_is_no_fault(tree, monkeypatch):
    monkeypatch.setattr(module, "NO_GPU_S", 0.05)

    async def main():
        made = context("auto")
        part = TelemetrySource(made)
        async with running(part):
            await until(lambda: part.health().reason == "no GPU on this node", "the answer")
            assert part.health().state == "ok" and not psutil.Process().children() and part.way == ""
            card(tree, 0, blob=table(3, MI100), node=1)  # the driver is loaded later
            await until(lambda: made.history.latest(GPU, "power_w"), "a reading")

    asyncio.run(main())


def test_a_way_that_does_not_work_is_said_and_tried_again(tree, monkeypatch):
    monkeypatch.setattr(module, "REFUSED_S", 0.05)
    monkeypatch.setattr(module, "SILENT_S", 0.0)

    async def main():
        made = context()
        part = TelemetrySource(made)
        async with running(part):
            await until(lambda: "no GPU of the amdgpu driver" in told(made), "the reason")
            await until(lambda: part.health().state == "failing", "a failing part")
            card(tree, 0, blob=table(3, MI100))
            await until(lambda: made.history.latest(GPU, "power_w"), "a reading")

    asyncio.run(main())


def test_another_pace_starts_the_process_anew(tree):
    card(tree, 0, blob=table(3, MI100))

    async def main():
        made = context()
        async with running(TelemetrySource(made)):
            await until(lambda: made.history.latest(GPU, "power_w"), "a reading")
            first = telemetry_process()
            made.pace.reset(10.0, 1.0)
            await until(lambda: not first.is_running(), "the first process to end")
            await until(lambda: any("10.0" in p.cmdline() for p in telemetry_processes()), "another")
            again = made.clock.monotonic_s()
            await until(lambda: made.history.latest_at(GPU, "power_w", 60)[0] > again, "its reading")

    asyncio.run(main())
