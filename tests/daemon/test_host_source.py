"""The host and the daemon itself, read from the real system."""

import asyncio
import subprocess
import sys
import time

import psutil
import pytest
from making import make_context, running, told, until

from rocscope.daemon import host_source as module
from rocscope.daemon.host_source import HostSource
from rocscope.daemon.settings import Settings


def test_the_host_and_our_own_cost_are_read(tmp_path):
    settings = Settings.model_validate({"state": {"folder": tmp_path}})

    async def main():
        made = make_context(settings)
        code = "import time; print('up', flush=True); time.sleep(60)"
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        try:
            assert child.stdout is not None and child.stdout.readline() == b"up\n"  # it is Python by now
            async with running(HostSource(made)):
                latest = made.history.latest
                await until(lambda: latest("host", "cpu_frac") is not None, "the second reading")
                await until(lambda: latest("host", "disk_free_bytes") is not None, "the disk")
        finally:
            child.kill()
            child.communicate()
        assert 0 <= latest("host", "cpu_frac") <= 1
        memory = psutil.virtual_memory()
        total = latest("host", "memory_used_bytes") + latest("host", "memory_available_bytes")
        assert total == pytest.approx(memory.total)
        assert latest("host", "disk_free_bytes") == pytest.approx(psutil.disk_usage(tmp_path).free, rel=0.2)
        assert latest("daemon", "rss_bytes") == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
        assert latest("daemon", "cpu_s") > 0 and latest("daemon", "children_rss_bytes") > 1e6

    asyncio.run(main())


def test_children_are_those_that_run():
    before = set(module.children())
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        assert set(module.children()) - before == {str(child.pid)}
        end = time.monotonic() + 20
        while module.children_cost().cpu_s == 0 and time.monotonic() < end:
            time.sleep(0.02)
        assert module.children_cost().cpu_s > 0
    finally:
        child.kill()
        child.wait()
    assert module._cost(str(child.pid)) == (0.0, 0.0)


def test_a_folder_that_is_gone_and_a_host_that_is_not_wanted_cost_their_values_alone():
    settings = Settings.model_validate({"state": {"folder": "/nonexistent"}, "sampling": {"host": False}})

    async def main():
        made = make_context(settings)
        async with running(HostSource(made)):
            await until(lambda: made.history.latest("daemon", "rss_bytes"), "our own cost")
        assert made.history.latest("host", "disk_free_bytes") is None
        assert made.history.latest("host", "memory_used_bytes") is None

    asyncio.run(main())


def test_what_costs_too_much_slows_the_pace_and_is_told(monkeypatch):
    monkeypatch.setattr(module, "SLOW_S", 0.0)
    made = make_context()
    made.pace.seen = lambda at, cpu: f"sampling at 0.5 Hz from now on: {cpu > 0}"

    async def main():
        async with running(HostSource(made)):
            await until(lambda: made.events.recent, "the event")

    asyncio.run(main())
    assert told(made) == "sampling at 0.5 Hz from now on: True"
