"""The recording of one process: waits for the GPU, starts PyTorch's profiler, writes its trace.

Loaded by the ``sitecustomize`` beside it once torch is imported. The Python may be another than rocscope's,
of version 3.9 or newer: nothing but the standard library and torch is imported here.

Into the folder it writes, for process N: ``N.pt.trace.json.gz``, the trace; ``N.recording`` while the GPU is
recorded and no trace is written yet; ``N.failed``, why there is none.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gzip
import json
import multiprocessing.util
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

WINDOW = "ROCSCOPE_TORCH_WINDOW_S"
_DEVICES = ("/dev/kfd", "/dev/nvidiactl", "/dev/dxg")
_VISIBLE = ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
_OWN = ("_prepare_profiler", "_enable_profiler")  # by which torch.autograd.profiler begins to record
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE_S = 1.0
_LEVEL = 3  # of gzip: fast, as the program's end waits for it


class Recorder:
    """The one recording of a process: waits, records, writes."""

    def __init__(self, torch: Any, folder: str, delay_s: float, window_s: float) -> None:
        self.torch, self.folder = torch, Path(folder)
        self.delay_s, self.window_s = delay_s, window_s
        self.state = "waiting"  # then recording, writing, over
        self.pid = 0
        self.profiler: Any = None
        self.inside = False  # a call of the profiler's functions is ours
        self.any_thread = False  # may be stopped in another thread than it was started in
        self.lock = threading.RLock()
        self.gpu = False

    def arm(self) -> None:
        """Wait for the first use of the GPU, or begin where there is none."""
        with _reported(self):
            self._watch_own_use()
            self.gpu = _has_gpu(self.torch)
            if self.gpu:
                self.torch.cuda._lazy_call(self._used)
            else:
                self._used()

    def _used(self) -> None:
        """Begin, after the delay; whatever goes wrong stays here, since torch is in the midst of a call."""
        with _reported(self):
            if self.state != "waiting":
                return
            if self.delay_s > 0:
                self._later(self.delay_s, self._start)
            else:
                self._start()

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        """Call ``action`` then: in the main thread, or where that is busy and another will do, in another."""

        def act() -> None:
            with _reported(self):
                done = _in_main_thread(action)
                if self._settings() is not None and not done.wait(_PATIENCE_S):
                    action()

        timer = threading.Timer(seconds, act)
        timer.daemon = True
        timer.start()

    def _settings(self) -> Any:
        """Return the settings by which all threads are recorded, None before PyTorch 2.7."""
        try:
            return self.torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
        except (AttributeError, TypeError):
            return None

    def _profiler(self, more: dict[str, Any]) -> Any:
        """Make torch.autograd's profiler: torch.profiler's, around it, imports PyTorch's compiler first."""
        if self.gpu:
            version = [int(part) for part in self.torch.__version__.split(".")[:2]]
            more.update({"use_device": "cuda"} if version >= [2, 4] else {"use_cuda": True})
        return self.torch.autograd.profiler.profile(record_shapes=True, use_kineto=True, **more)

    def _start(self) -> None:
        with _reported(self), self.lock:
            if self.state != "waiting":
                return
            if getattr(self.torch.autograd.profiler, "_is_profiler_enabled", False):
                raise RuntimeError("the program is using PyTorch's profiler itself")
            settings = self._settings()
            main = threading.current_thread() is threading.main_thread()
            if settings is None and not main:
                raise RuntimeError(
                    "the GPU is used first by another thread than the main one: this needs PyTorch 2.7"
                )
            self.any_thread = settings is not None
            self.pid = os.getpid()
            profiler = self._profiler({} if settings is None else {"experimental_config": settings})
            if self.gpu:
                self._path("recording").touch()
            if self.torch.version.cuda is not None:  # CUDA graphs may crash once CUPTI has been unloaded
                os.environ.setdefault("TEARDOWN_CUPTI", "0")
            self.inside = True
            try:
                profiler.__enter__()
            finally:
                self.inside = False
            self.profiler, self.state = profiler, "recording"
            atexit.register(self.finish)
            multiprocessing.util.Finalize(None, self.finish, exitpriority=1000)  # its children know no atexit
            if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                self._catch_termination()
            if self.window_s < threading.TIMEOUT_MAX:
                self._later(self.window_s, self._window_over)

    def _window_over(self) -> None:
        if self.state == "recording":
            _say(f"the window of {self.window_s:g} s ({WINDOW}) is over, the program goes on unrecorded")
            self.finish()

    def _catch_termination(self) -> None:
        """Write before SIGTERM ends the program; its forked children end by it as ever.

        A fork forgets what was caught in its midst, so the signal is held off until the child's handler is
        none of ours.
        """
        held = threading.local()

        def hold() -> None:
            held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

        def release() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, held.mask)

        def forget() -> None:
            if signal.getsignal(signal.SIGTERM) == self._terminated:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
            release()

        signal.signal(signal.SIGTERM, self._terminated)
        os.register_at_fork(before=hold, after_in_parent=release, after_in_child=forget)

    def _terminated(self, number: int, frame: object) -> None:
        """Write, then end as the signal would have ended the program."""
        self.finish()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def finish(self) -> None:
        """End the recording and write it, once; what is called meanwhile in another thread waits."""
        if os.getpid() != self.pid:
            return  # a child that was forked: the recording is its parent's
        with self.lock:
            if self.state != "recording":
                return
            self.state = "writing"
            try:
                with _reported(self), _signals_deferred():
                    self._write()
            finally:
                self.state, self.profiler = "over", None

    def _write(self) -> None:
        self._describe()
        self.inside = True
        try:
            self.profiler.__exit__(None, None, None)
        finally:
            self.inside = False
        plain, packed = self._path("json.part"), self._path("gz.part")
        try:
            self.profiler.export_chrome_trace(str(plain))
            with plain.open("rb") as source, gzip.open(packed, "wb", compresslevel=_LEVEL) as target:
                shutil.copyfileobj(source, target, 1 << 20)
            number, path = 1, self._path("pt.trace.json.gz")
            while path.exists():  # the process has become another program since
                number += 1
                path = self._path(f"{number}.pt.trace.json.gz")
            packed.replace(path)
        finally:
            for left in (plain, packed):
                left.unlink(missing_ok=True)
        self._path("recording").unlink(missing_ok=True)

    def _describe(self) -> None:
        """Note rank and number of ranks, which were not known yet when the recording began."""
        note = getattr(self.torch.autograd, "_add_metadata_json", None)
        if note is None:
            return
        note("record_shapes", "1")
        distributed = getattr(self.torch, "distributed", None)
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            told = {"rank": distributed.get_rank(), "world_size": distributed.get_world_size()}
            note("distributedInfo", json.dumps(told))

    def _watch_own_use(self) -> None:
        """End our recording before the program begins one of its own: two in a process crash it."""
        library = self.torch.autograd.profiler
        for name in _OWN:
            original = getattr(library, name, None)
            if original is not None:
                setattr(library, name, self._ahead_of(original))

    def _ahead_of(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def begin(*given: Any, **named: Any) -> Any:
            if not self.inside and self.state == "recording" and os.getpid() == self.pid:
                _say("the program starts PyTorch's profiler itself: ours has ended")
                self.finish()
            return original(*given, **named)

        return begin

    def _path(self, ending: str) -> Path:
        return self.folder / f"{os.getpid()}.{ending}"

    def failed(self, why: str) -> None:
        """Say what went wrong to the user and, where there will be no trace for it, to rocscope."""
        _say(f"recording PyTorch in process {os.getpid()}: {why}")
        if self.state == "recording":
            return
        self.state = "over"
        with contextlib.suppress(OSError):
            self._path("failed").write_text(why, encoding="utf-8")


@contextlib.contextmanager
def _reported(recorder: Recorder) -> Iterator[None]:
    """Turn an error of ours into one line: the program never ends by it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # whatever it is, the program goes on
        recorder.failed(" ".join(f"{type(error).__name__}: {error}".split())[:300])


@contextlib.contextmanager
def _signals_deferred() -> Iterator[None]:
    """Hold back Ctrl-C and requests to end until the trace is written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    held = [number for number, handler in before.items() if handler is not None]
    for number in held:
        signal.signal(number, lambda caught, _: came.append(caught))
    try:
        yield
    finally:
        for number in held:
            signal.signal(number, before[number])
        for caught in came:
            os.kill(os.getpid(), caught)


def _in_main_thread(action: Callable[[], None]) -> threading.Event:
    """Have ``action`` called between two instructions of the main thread, as signal handlers are."""
    began = threading.Event()

    def call(_: object) -> int:
        began.set()
        action()
        return 0

    function = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(call)
    _CALLBACKS.append(function)  # which must outlive its call
    ctypes.pythonapi.Py_AddPendingCall(function, None)
    return began


_CALLBACKS: list[Any] = []  # two at most


def _has_gpu(torch: Any) -> bool:
    """Whether torch could use a GPU, without asking the driver: that would forbid the program to fork."""
    if torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
        return False
    if any(os.environ.get(name, "0").strip() in ("", "-1") for name in _VISIBLE):
        return False
    return any(Path(path).exists() for path in _DEVICES)


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none
        sys.stderr.write(f"rocscope: {text}\n")
        sys.stderr.flush()
