"""The whole daemon in a process of its own: its life with systemd, signals, reload, what is left of it."""

import asyncio
import contextlib
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest
from daemon_process import DaemonProcess
from making import make_context, told, until

from rocscope.daemon import service as module
from rocscope.daemon.part import Health, Part
from rocscope.daemon.service import Service
from rocscope.daemon.settings import load
from rocscope.daemon.state_dir import StateDir
from rocscope.daemon.store import Store
from rocscope.daemon.wall_clock import WallClock
from rocscope.errors import InputError, PortTaken


@pytest.fixture
def daemon(tmp_path):
    made = DaemonProcess(tmp_path)
    yield made
    made.close()


def events(daemon):
    with sqlite3.connect(f"file:{daemon.state}/store.sqlite?mode=ro", uri=True) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM events ORDER BY id")]


def test_a_life_with_systemd_and_nothing_is_left(daemon):
    daemon.start(watchdog_s=3)
    daemon.hear("WATCHDOG=1")
    daemon.until_logged("GPUs are read: 1 through sysfs")
    children = daemon.children()
    assert [" ".join(each.cmdline()) for each in children if "telemetry_child" in " ".join(each.cmdline())]
    assert not any(b"NOTIFY_SOCKET" in Path(f"/proc/{each.pid}/environ").read_bytes() for each in children)
    assert daemon.end(signal.SIGTERM) == 0
    assert "STATUS=SIGTERM" in daemon.hear("STOPPING=1")
    assert not any(each.is_running() for each in children)
    out = daemon.process.stdout.read().decode()
    assert f"state in {daemon.state}" in out and "Traceback" not in daemon.log
    assert all(line.startswith("time=") for line in daemon.log.splitlines())
    assert events(daemon)[-1] == "stopping: SIGTERM"


def test_ctrl_c_ends_it_in_order_also_while_it_starts(daemon):
    daemon.start()
    assert daemon.end(signal.SIGINT) == 0
    daemon.start(wait=False)
    daemon.until(lambda: daemon.log.count("starts on") == 2, "the second start")
    assert daemon.end(signal.SIGINT) == 0
    assert daemon.log.count("stopping: SIGINT") == 2


def test_killed_outright_it_leaves_no_child_and_starts_again(daemon):
    daemon.start()
    daemon.until_logged("GPUs are read")
    children = daemon.children()
    assert children
    daemon.end(signal.SIGKILL)
    gone, alive = psutil.wait_procs(children, timeout=20)
    assert len(gone) == len(children) and not alive
    daemon.start()
    assert daemon.end() == 0


def test_a_port_that_is_taken_ends_it_with_its_own_code(daemon):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        daemon.start("--listen", f"127.0.0.1:{taken.getsockname()[1]}", wait=False)
        assert daemon.process.wait(30) == 17
    assert "is taken" in daemon.log and "Traceback" not in daemon.log


def test_a_second_daemon_on_the_same_folder_is_refused(daemon, tmp_path):
    daemon.start()
    (tmp_path / "other").mkdir()
    other = DaemonProcess(tmp_path / "other")
    try:
        other.start("--state", str(daemon.state), wait=False)
        assert other.process.wait(30) == 20
        assert "error: " in other.log and "next: " in other.log and "Traceback" not in other.log
    finally:
        other.close()
    assert daemon.end() == 0


def test_sighup_reads_the_settings_again_and_refuses_bad_ones(daemon):
    daemon.start()
    good = daemon.config.read_text()
    daemon.config.write_text(good + "[windows]\nevery_s = -1\n")
    daemon.process.send_signal(signal.SIGHUP)
    assert any(line.startswith("MONOTONIC_USEC=") for line in daemon.hear("RELOADING=1"))
    daemon.hear("READY=1")
    daemon.until_logged("refused, the old settings hold: ")
    assert "windows.every_s" in daemon.log
    daemon.config.write_text(good.replace("hz = 2", "hz = 1") + "[windows]\nevery_s = 600\n")
    first = {each.pid for each in daemon.children()}
    daemon.process.send_signal(signal.SIGHUP)
    daemon.until_logged("changed: sampling.hz, windows.every_s; started anew: ")
    daemon.until(
        lambda: daemon.children() and first.isdisjoint(p.pid for p in daemon.children()), "another child"
    )
    daemon.config.write_text(good.replace(str(daemon.state), str(daemon.state) + "2"))
    daemon.process.send_signal(signal.SIGHUP)
    daemon.until_logged("only a restart changes state.folder")
    assert daemon.end() == 0 and not (daemon.folder / "state2").exists()


def test_a_hung_disk_gets_no_sign_of_life(daemon):
    """Without the writer's thread the daemon would run blind: systemd is to start it anew."""
    settings = load(daemon.config)
    release = threading.Event()
    with StateDir.claim(daemon.state) as folder:
        clock = WallClock()
        store = Store.open(folder, clock)
        service = Service(settings, lambda: settings, classes=[])
        service.context = make_context(settings, store=store, folder=folder, clock=clock)

        async def main():
            assert await service._store_answers(10)
            store.write(lambda _: release.wait(30))
            assert not await service._store_answers(0.05)
            release.set()
            assert await service._store_answers(10)

        asyncio.run(main())
        assert store.close()


def test_what_a_part_left_running_is_ended():
    stubborn = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; sleep 60 & echo up; wait; sleep 60"], stdout=-1, start_new_session=True
    )
    assert stubborn.stdout.readline() == b"up\n"
    grandchild = psutil.Process(stubborn.pid).children()[0]
    began = time.monotonic()
    asyncio.run(module.end_children())
    assert time.monotonic() - began < 20
    stubborn.stdout.close()
    assert stubborn.wait(10) is not None
    end = time.monotonic() + 10  # killed, but the kernel may not be done with it yet
    while alive := grandchild.is_running() and grandchild.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > end:
            break
        time.sleep(0.02)
    assert not alive


def test_the_wall_clock_being_set_is_told(hands, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TEND_S", 0.01)
    settings, waiting = load(None, state=tmp_path / "s"), []

    def ready(context):
        async def wait():
            hands.wall_s += 3600
            await until(lambda: "the wall clock was set forward by 3600 s" in told(context), "the jump")
            service.stop("seen")

        waiting.append(asyncio.create_task(wait()))

    service = Service(settings, lambda: settings, classes=[], clock=hands.clock(), ready=ready)
    service.run()
    assert waiting[0].result() is None


class Taken(Part):
    name = "taken"
    fatal = (PortTaken,)

    async def run(self):
        raise PortTaken("127.0.0.1:9814 is taken", "choose another port")

    async def stop(self):
        pass


def test_a_daemon_that_cannot_serve_ends_with_the_reason(tmp_path):
    settings = load(None, state=tmp_path / "s")
    service = Service(settings, lambda: settings, classes=[Taken])
    with pytest.raises(PortTaken):
        service.run()


class Sick(Part):
    name = "sick"

    def __init__(self, context):
        super().__init__(context)
        self.stopping = asyncio.Event()

    async def run(self):
        await self.stopping.wait()

    async def stop(self):
        self.stopping.set()

    def health(self):
        return Health("degraded", "it has a cold")


def test_the_status_line_tells_what_is_not_well(tmp_path):
    settings, seen = load(None, state=tmp_path / "s"), []

    def ready(context):
        seen.append(service._status())
        service.stop("seen")

    service = Service(settings, lambda: settings, classes=[Sick], ready=ready)
    service.run()
    assert seen == ["sick degraded (it has a cold)"]


def test_a_reload_from_within_changes_what_it_may(tmp_path):
    first = load(None, state=tmp_path / "s")
    refused, seen = InputError("nonsense", "mend it"), []
    second = first.model_copy(update={"sampling": first.sampling.model_copy(update={"hz": 0.5})})
    answers = iter([refused, first, second])

    def read():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ready(context):
        async def ask():
            seen.extend([await context.reload() for _ in range(3)])
            seen.append((context.settings, context.pace.hz, told(context)))
            service.stop("seen")

        context.test = asyncio.create_task(ask())

    service = Service(first, read, classes=[Sick], ready=ready)
    service.run()
    assert [each.refused for each in seen[:3]] == ["nonsense", "", ""]
    assert seen[1].changed == () and seen[2].changed == ("sampling.hz",)
    settings, hz, said = seen[3]
    assert settings is second and hz == 0.5
    assert "refused, the old settings hold: nonsense" in said and "nothing changed" in said
    assert "changed: sampling.hz" in said


def test_signs_of_life_follow_the_store(tmp_path, monkeypatch):
    heard = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "300000")
        settings, release = load(None, state=tmp_path / "s"), threading.Event()

        def hear():
            with contextlib.suppress(BlockingIOError):
                while True:
                    heard.append(listening.recv(4096).decode())
            return heard

        def ready(context):
            async def watch():
                await until(lambda: "WATCHDOG=1" in hear(), "a sign of life")
                context.store.write(lambda _: release.wait(30))  # a disk that hangs
                await until(lambda: "its writer does not answer" in told(context), "the fault")
                hear()
                heard.clear()
                await asyncio.sleep(0.5)
                assert "WATCHDOG=1" not in hear()
                release.set()
                await until(lambda: "WATCHDOG=1" in hear(), "a sign of life again")

            context.test = asyncio.create_task(watch())
            context.test.add_done_callback(lambda _: (release.set(), service.stop("seen")))
            kept.append(context.test)

        kept = []
        service = Service(settings, lambda: settings, classes=[], ready=ready)
        service.run()
        assert kept[0].result() is None
        assert "STOPPING=1\nSTATUS=seen" in hear()
