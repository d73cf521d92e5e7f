"""The unit for systemd: valid, hardened, and no tighter than the daemon can live with."""

import re
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner
from daemon_process import DaemonProcess

from rocscope.cli import cli
from rocscope.daemon import shipped

PROMISED = (
    *("Type=notify", "WatchdogSec=60", "TimeoutStopSec=20", "KillMode=control-group", "User=rocscope"),
    *("SupplementaryGroups=render video", "StateDirectory=rocscope", "StateDirectoryMode=0750"),
    *("RuntimeDirectory=rocscope", "RuntimeDirectoryMode=0750", "UMask=0077"),
    *("NoNewPrivileges=yes", "CapabilityBoundingSet=", "AmbientCapabilities=", "ProtectSystem=strict"),
    *("ProtectHome=yes", "PrivateTmp=yes", "DevicePolicy=closed", "DeviceAllow=/dev/kfd rw"),
    *("DeviceAllow=char-drm rw", "ProtectKernelTunables=yes", "ProtectKernelModules=yes"),
    *("ProtectKernelLogs=yes", "ProtectControlGroups=yes", "ProtectClock=yes", "ProtectHostname=yes"),
    *("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6", "IPAddressDeny=any", "IPAddressAllow=localhost"),
    *("RestrictNamespaces=yes", "RestrictSUIDSGID=yes", "LockPersonality=yes"),
    *("SystemCallFilter=@system-service", "SystemCallArchitectures=native"),
    *("CPUQuota=50%", "MemoryHigh=1536M", "MemoryMax=2G", "OOMPolicy=continue", "OOMScoreAdjust=500"),
    *("TasksMax=64", "IOWeight=10", "Nice=10"),
)
LEFT_OUT = ("PrivateDevices", "MemoryDenyWriteExecute", "PrivateUsers", "ProtectProc", "PrivateIPC")
WORST = 3.0  # of `systemd-analyze security`, 0 to 10
systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze (apt: systemd)"
)


def analyze(*arguments):
    done = subprocess.run(["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(params=[(), ("listen",), ("attach",)], ids=["alone", "listen", "attach"])
def unit(request, tmp_path):
    """The unit as it is installed, its program being one that exists, with a drop-in."""
    path = tmp_path / "rocscope.service"
    text = shipped.text("service").replace(shipped.PROGRAM, sys.executable)
    path.write_text("\n".join([text, *map(shipped.text, request.param)]))
    return path


@systemd
def test_it_is_valid_and_hardened(unit):
    code, said = analyze("verify", "--man=no", str(unit))
    assert code == 0 and "rocscope" not in said, said
    code, said = analyze("security", "--offline=yes", str(unit))
    score = re.search(r"Overall exposure level for rocscope.service: ([\d.]+)", said)
    assert code == 0 and score and float(score[1]) < WORST, said
    print(score[0])


def test_what_it_promises():
    text = shipped.text("service")
    for line in PROMISED:
        assert f"\n{line}\n" in text, line
    for name in LEFT_OUT:
        assert f"\n{name}=" not in text, "the daemon would not see its GPUs or servers, or fail"
        assert re.search(rf"^# [^:]*{name}", text, re.MULTILINE), f"why {name} is left out is not said"


@systemd
def test_the_filter_leaves_the_analysis_what_it_confines_itself_with():
    wanted = {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "prctl", "prlimit64"}
    assert wanted <= allowed(shipped.text("service"))


def allowed(unit_text):
    """Return the system calls that the unit's filter leaves, by systemd's own sets."""
    found = set()
    for value in re.findall(r"^SystemCallFilter=(.*)$", unit_text, re.MULTILINE):
        names = expanded(value.removeprefix("~").split())
        found = found - names if value.startswith("~") else found | names
    return found


def expanded(names):
    found = set()
    for name in names:
        if not name.startswith("@"):
            found.add(name)
            continue
        _, said = analyze("syscall-filter", name)
        inner = [line.strip() for line in said.splitlines()[1:] if line.startswith("    ")]
        found |= expanded([each for each in inner if not each.startswith("#")])
    return found


@systemd
@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace (apt: strace)")
def test_no_system_call_of_the_daemon_is_outside_the_filter(tmp_path):
    counted = tmp_path / "strace"
    daemon = DaemonProcess(tmp_path, before=["strace", "-f", "-c", "-o", str(counted)])
    try:
        daemon.start()
        daemon.until_logged("GPUs are read")
        daemon.children()[0].terminate()
        assert daemon.process.wait(30) == 0
    finally:
        daemon.close()
    rows = [line.split() for line in counted.read_text().splitlines()]
    used = {row[-1] for row in rows if len(row) >= 5 and re.fullmatch("[a-z0-9_]+", row[-1])} - {"total"}
    assert len(used) > 30 and used - allowed(shipped.text("service")) <= {"syscall"}  # the table's head


@pytest.mark.parametrize("name", shipped.FILES)
def test_files_are_printed_for_who_installs(name, monkeypatch):
    done = CliRunner().invoke(cli, ["daemon", "--print-file", name])
    assert done.exit_code == 0 and done.output == shipped.text(name)


def test_the_unit_starts_the_program_that_printed_it(tmp_path, monkeypatch):
    program = tmp_path / "rocscope"
    program.write_text("")
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert f"ExecStart={program} daemon --state" in shipped.text("service")
    monkeypatch.setattr(sys, "argv", ["/usr/lib/python3/pytest"])
    assert f"ExecStart={shipped.PROGRAM} daemon" in shipped.text("service")


def test_the_recipe_of_a_container_drops_what_it_does_not_need():
    text = shipped.text("container")
    for part in ("USER rocscope", "--read-only", "--cap-drop=all", "no-new-privileges", "--device /dev/kfd",
                 "--device /dev/dri", "VOLUME /var/lib/rocscope", "HEALTHCHECK", "/healthz"):  # fmt: skip
        assert part in text, part
