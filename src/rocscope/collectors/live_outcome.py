"""What happened in a live run, and what it left."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rocscope.collectors.live_plan import Run
from rocscope.errors import RocscopeError
from rocscope.launch import clocks
from rocscope.launch.process import Ending
from rocscope.launch.tree import Seen

if TYPE_CHECKING:
    from rocscope.capture import Capture
    from rocscope.collectors.sampling import Sampler

Progress = Callable[[str], None]

ENDED_BY_US: Final = (0, 128 + signal.SIGINT, 128 + signal.SIGTERM)


@dataclass
class Recorded:
    """What a live run left."""

    capture: Capture
    exit_code: int  # for us to exit with: the command's own, 0 where we ended it, 11 for lost data
    folder: Path
    logs: list[Path]
    lost: list[str] = field(default_factory=list)  # GPU processes without output
    interrupted: bool = False  # the user asked for the end


@dataclass
class Outcome:
    """What happened, in CLOCK_BOOTTIME, before anything of it is read."""

    run: Run
    offsets: clocks.Offsets
    started_at: str
    began_ns: int
    ended_ns: int = 0
    window_ns: tuple[int, int] | None = None
    stopped_by_us: bool = False
    interrupted: bool = False
    ending: Ending | None = None
    seen: list[Seen] = field(default_factory=list)
    samplers: list[Sampler] = field(default_factory=list)
    notices: list[tuple[str, str]] = field(default_factory=list)
    failure: RocscopeError | None = None
