"""Two recordings at a time, or an end in a thread that may not, kill the process, as they do in torch.

STANDIN_FAIL: ``start`` or ``export`` raises. STANDIN_EXPORT_S: how long an export takes.
"""

# ruff: noqa: N801, PLW0603, PTH123  # as in torch

import json
import os
import threading
import time

_is_profiler_enabled = False
metadata = {}
_active = []


def ran(name):
    for each in _active:
        if each.any_thread or each.thread is threading.current_thread():
            each.events.append((name, time.time_ns()))


def _prepare_profiler(profiler):
    if _active:
        os.abort()


def _enable_profiler(profiler):
    global _is_profiler_enabled
    if os.environ.get("STANDIN_FAIL") == "start":
        raise RuntimeError("no permission\nto read counters")
    _is_profiler_enabled = True
    _active.append(profiler)


class profile:
    def __init__(
        self, *, record_shapes, use_kineto, use_device=None, use_cuda=False, experimental_config=None
    ):
        assert record_shapes and use_kineto
        assert not (use_device if os.environ.get("STANDIN_OLD") else use_cuda)
        self.on_gpu = bool(use_device or use_cuda)
        self.any_thread = experimental_config is not None and experimental_config.profile_all_threads
        self.events = []

    def __enter__(self):
        self.thread = threading.current_thread()
        _prepare_profiler(self)
        _enable_profiler(self)
        return self

    def __exit__(self, *_):
        global _is_profiler_enabled
        if _active != [self] or not (self.any_thread or self.thread is threading.current_thread()):
            os.abort()
        _is_profiler_enabled = False
        _active.clear()

    def export_chrome_trace(self, path):
        time.sleep(float(os.environ.get("STANDIN_EXPORT_S", "0")))
        if os.environ.get("STANDIN_FAIL") == "export":
            raise OSError(28, "No space left on device")
        kind = ("kernel", 0, 7) if self.on_gpu else ("cpu_op", os.getpid(), os.getpid())
        events = [
            {
                "ph": "X",
                "cat": kind[0],
                "name": name,
                "pid": kind[1],
                "tid": kind[2],
                "ts": at_ns / 1e3,
                "dur": 5.0,
                "args": {
                    "device": 0,
                    "stream": 7,
                    "correlation": number,
                    "grid": [64, 1, 1],
                    "block": [64, 1, 1],
                },
            }
            for number, (name, at_ns) in enumerate(self.events, 1)
        ]
        head = {"schemaVersion": 1, "deviceProperties": [], "displayTimeUnit": "ms", "baseTimeNanoseconds": 0}
        told = {key: json.loads(value) for key, value in metadata.items()}
        with open(path, "w") as stream:
            json.dump({**head, **told, "traceEvents": events}, stream)
