"""Writing below some folders alone: held by the kernel, in a process of its own; said where it cannot be."""

import os
import subprocess
import sys

import pytest

from rocscope.daemon import write_lock

CODE = """
import sys, threading
from pathlib import Path
from rocscope.daemon import write_lock
mine, other = map(Path, sys.argv[1:])
already = (other / "open").open("w")
assert write_lock.allow_writes([mine])
(mine / "made").mkdir()
(mine / "made" / "file").write_text("x")
(mine / "made" / "file").rename(mine / "moved")
Path("/dev/null").write_text("x")
already.write("was open before")
already.close()

def refused():
    for attempt in (
        lambda: (other / "new").write_text("x"),
        lambda: (other / "old").write_text("x"),
        lambda: (other / "old").unlink(),
        lambda: (other / "folder").mkdir(),
        lambda: (mine / "moved").rename(other / "moved"),
        lambda: (mine / "link").symlink_to(other / "old") or (mine / "link").write_text("x"),
    ):
        try:
            attempt()
        except OSError:
            continue
        print("was possible")
    assert (other / "old").read_text() == "old"
    print("held")

refused()
thread = threading.Thread(target=refused)
thread.start()
thread.join()
"""


@pytest.mark.skipif(write_lock.version() < 1, reason="this kernel has no Landlock")
def test_nothing_is_written_elsewhere_by_any_thread(tmp_path):
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "other" / "old").write_text("old")
    words = [sys.executable, "-c", CODE, str(tmp_path / "mine"), str(tmp_path / "other")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout == "held\nheld\n", done.stdout + done.stderr
    assert sorted(each.name for each in (tmp_path / "other").iterdir()) == ["old", "open"]
    assert (tmp_path / "other" / "open").read_text() == "was open before"


@pytest.mark.parametrize("answers", [[-1], [4, -1], [4, None, -1]], ids=["none", "no-rules", "no-rule"])
def test_a_kernel_that_cannot_is_told(tmp_path, monkeypatch, answers):
    given = iter(answers)

    def call(number, *arguments):
        """Answer as told; for ``None`` with a descriptor, as of rules."""
        answer = next(given)
        return os.open(tmp_path, os.O_RDONLY) if answer is None else answer

    monkeypatch.setattr(write_lock, "_call", call)
    assert write_lock.allow_writes([tmp_path]) is False
