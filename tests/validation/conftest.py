"""The stand-in profilers told of known kernels, and one recording under them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import synthetic_known as synthetic

from rocscope.capture import Capture
from rocscope.collectors import live_passes
from rocscope.config import ProfileOptions
from rocscope.validation.trials import Options, Trial, command
from rocscope.validation.truth import Truth, collect, parse

PYTHON = str(Path(__file__).resolve().parents[1] / "fake_tools" / "standin_known.py")


class Bench:
    """Where the stand-ins find what to play."""

    python = PYTHON

    def __init__(self, folder: Path, standins: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        self.told = synthetic.truth()
        patch.setenv("PATH", f"{standins}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("ROCPROF_TMPDIR", str(folder / "tmp"))
        patch.setenv("STANDIN_TRUTH", str(folder / "truth.json"))
        patch.setenv("STANDIN_KNOWN", str(folder / "known.tsv"))
        self.play()

    def play(self, **faults: dict[str, Any]) -> None:
        """Have the profilers read the kernels as they are but for ``faults``."""
        (self.folder / "truth.json").write_text(json.dumps(self.told))
        (self.folder / "known.tsv").write_text(synthetic.table(self.told, **faults))

    @property
    def truth(self) -> Truth:
        """What the run without a profiler says."""
        return parse(json.dumps(self.told), "synthetic")

    def record(self, profiler: str, level: str) -> tuple[Trial, Capture, dict[int, Truth]]:
        """Run the known kernels under a stand-in."""
        out = self.folder / f"{profiler}-{level}"
        recorded = live_passes.record(
            command(Options(PYTHON), out / "truth"),
            ProfileOptions(
                profiler=profiler, counters=level, out=out / "run", gpu="MI100", sample_hz=0, telemetry="none"
            ),
        )
        return Trial(f"{profiler} {level}", profiler, level, 2), recorded.capture, collect(out / "truth")


@pytest.fixture
def bench(tmp_path: Path, standins: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Stand-ins that play known kernels."""
    return Bench(tmp_path, standins, monkeypatch)


@pytest.fixture
def run() -> Callable[..., tuple[int, str, str]]:
    """Run the command line; return exit code, standard output and standard error."""
    from click.testing import CliRunner

    from rocscope.cli import cli
    from rocscope.errors import RocscopeError

    def call(*words: str | Path) -> tuple[int, str, str]:
        done = CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)
        if isinstance(done.exception, RocscopeError):
            said = f"{done.exception.message}\n{done.exception.hint}"
            return done.exception.exit_code, done.stdout, done.stderr + said
        if done.exception is not None:
            raise done.exception
        return done.return_value or 0, done.stdout, done.stderr

    return call
