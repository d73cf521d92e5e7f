"""What a user may set, checked at the door."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from rocscope.errors import UsageError
from rocscope.traffic.spec import Load
from rocscope.traffic.spec import parse as parse_load


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AnalyzeOptions(_Options):
    """Which part of a recording to analyse, and what is known beside it."""

    ranks: tuple[int, ...] | None = None  # None: all
    steps: tuple[int, int] | None = None  # A:B, half open, counted from 0 over the step annotations
    between_s: tuple[float, float] | None = None  # seconds from the first dispatch
    gpu: str | None = None  # name in the GPU table; overrides what the recording says
    model: Path | None = None  # the served model's config.json, or its folder
    tp: int | None = Field(default=None, ge=1)  # tensor-parallel size; else from the recording
    # mean tokens in the KV cache of a running request, for decode attention whose context nothing tells
    context: int | None = Field(default=None, ge=1, le=1 << 31)
    # time per output token, measured without the profiler: held against the kernel time of a step
    tpot_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    ceilings: str = "auto"  # measured ones: those of the capture or this machine; "none"; or a file of them
    companions: bool = True  # read what lies beside a recording that is named alone and is of its run

    forecasts: str = "auto"  # the ledger of scored ones: this user's; "none"; or a file

    @field_validator("steps", "between_s")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError(f"the range {value[0]}:{value[1]} is empty")
        return value


class ProfileOptions(_Options):
    """How to launch and profile a command."""

    profiler: str = "auto"  # auto, a backend's name, or replay:CAPTURE
    attach: str | None = None  # pid or URL of what runs already, instead of a command
    traces: Path | None = None  # where a server that is attached to writes its own traces, as seen from here
    out: Path  # folder for raw output, logs, capture and reports; new or empty
    duration_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)  # None: until the command ends
    ready_timeout_s: float = Field(default=900.0, gt=0, allow_inf_nan=False)  # of a server's health check
    shutdown_timeout_s: float = Field(default=120.0, ge=1, allow_inf_nan=False)  # from the signal to SIGKILL
    counters: str = "none"  # none, bandwidth, standard, full, or names separated by commas
    kernels: str = ""  # regular expression of the kernels to count; "": all
    dispatches: tuple[int, int] | None = None  # first and last to count, as the profiler numbers them
    sample_hz: float = Field(default=2.0, ge=0, le=10)  # host samples; 0: none
    telemetry: Literal["auto", "amdsmi", "sysfs", "nvml", "none"] = "auto"  # auto: silent without a GPU
    telemetry_hz: float = Field(default=1.0, ge=0.1, le=10)  # each reading may wake a GPU's firmware
    # put on a server once it is ready; its end ends the profile. As --load says it, or a command's words
    load: Load | None = None
    # run the load once without the profiler first, where that starts on demand, and say what it costs
    overhead: bool = True
    gpu: str | None = None  # name in the GPU table
    model: Path | None = None  # config.json of the served model, or its folder
    tp: int | None = Field(default=None, ge=1)
    context: int | None = Field(default=None, ge=1, le=1 << 31)  # as of AnalyzeOptions
    forecasts: str = "auto"  # as of AnalyzeOptions
    every_report: bool = True  # False: without device data, only those that need no charts
    output_to_stderr: bool = False  # the command's stdout goes to our stderr, where ours carries JSON

    @field_validator("load", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str):
            return parse_load(value)
        return Load("command", tuple(value)) if isinstance(value, list | tuple) else value

    @field_validator("kernels", "dispatches")
    @classmethod
    def _counts_something(cls, value: Any, info: ValidationInfo) -> Any:
        counts_unasked = str(info.data.get("profiler", "")).startswith("rocprof-compute")
        if value and info.data.get("counters") == "none" and not counts_unasked:
            raise ValueError("this chooses what is counted: say which counters too, e.g. --counters standard")
        return value

    @field_validator("kernels")
    @classmethod
    def _expression(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"no regular expression ({error})") from error
        return value


def parse_dispatches(text: str) -> tuple[int, int]:
    """Read ``A:B``, both given and counted from 1. Raises :class:`UsageError`."""
    first, _, last = text.partition(":")
    if not (first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last)):
        raise UsageError(f"--dispatches {text}: not a range", "write for example --dispatches 10:20")
    return int(first), int(last)


def parse_ranks(text: str) -> tuple[int, ...]:
    """Read ``0,2-3`` as ``(0, 2, 3)``. Raises :class:`UsageError`."""
    ranks: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise UsageError(f"--ranks {text}: {part!r} is not a rank", "write for example --ranks 0,2-3")
        ranks += range(int(first), int(last or first) + 1)
    if not ranks:
        raise UsageError(f"--ranks {text}: no rank named", "write for example --ranks 0,2-3")
    return tuple(sorted(set(ranks)))


def parse_range(option: str, text: str) -> tuple[float, float]:
    """Read ``A:B``; either side may be left out. Raises :class:`UsageError`."""
    first, colon, last = text.partition(":")
    try:
        low = float(first) if first else 0.0
        high = float(last) if last else float("inf")
    except ValueError:
        low, high = 1.0, 0.0
    if not colon or not 0 <= low < high:
        raise UsageError(f"{option} {text}: not a range", f"write for example {option} 10:20")
    return low, high
