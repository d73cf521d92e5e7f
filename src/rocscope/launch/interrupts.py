"""Ctrl-C: once ends the profiling in order, twice tells every process to end, three times kills them."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final

from rocscope.launch.process import Target

WATCHED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """While in the block, SIGINT, SIGTERM and SIGHUP to us end the run instead of killing us.

    In a thread other than the main one Python lets nobody handle signals; then this does nothing.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.count = 0
        self.first: signal.Signals | None = None
        self.kill = threading.Event()
        self._targets: list[Target] = []
        self._say = say
        self._before: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether the user asked for the end."""
        return self.count > 0

    def watch(self, target: Target) -> None:
        """Let later signals reach ``target`` too."""
        self._targets.append(target)

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in WATCHED:
                if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                    continue  # nohup. A shell's background job ignores SIGINT too, yet who sends one means it
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.count += 1
        self.first = self.first or signal.Signals(number)
        if self.count == 1:
            self._tell("ending in order, so that all data is written; again to end every process at once")
        elif self.count == 2:
            self._tell("SIGTERM to every process; once more to kill them")
            for target in self._targets:
                target.tree.refresh()
                target.tree.signal(signal.SIGTERM)
        else:
            self._tell("killing every process: data that was not written yet is lost")
            self.kill.set()
        for target in self._targets:
            target.changed.set()

    def _tell(self, text: str) -> None:
        with contextlib.suppress(RuntimeError):  # the signal came amid a write to the same stream
            self._say(text)
