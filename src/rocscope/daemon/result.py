"""``result.json``: what the analysis of a window says, checked by the daemon before it believes it.

The child that wrote it has read a foreign file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rocscope.errors import InputError

FILES: Final = ("aggregates.parquet", "analysis.json", "result.json")
RESULT: Final = "result.json"
MAX_BYTES: Final = 4 << 20

Text = Annotated[str, Field(max_length=200)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=1 << 53)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Key(_Record):
    """What a window is compared by; unknown is ``None``. See :mod:`rocscope.daemon.comparable`."""

    # equal, or two windows are of different things
    model: Text | None = None  # architecture
    model_hash: Text | None = None  # of its sizes and quantisation
    model_name: Text | None = None  # hash of the name it is served by
    dtype: Text | None = None
    quantisation: Text | None = None  # "gptq 4 bit", "none"
    tp: Count | None = None
    engine: Text | None = None  # hash of the server's address
    engine_version: Text | None = None
    mode: Text | None = None  # "graph", "eager"
    gpu: Text | None = None
    gpus: Count | None = None
    driver: Text | None = None
    power_cap_w: Number | None = None
    profiler: Text | None = None  # each adds its own to a kernel's time
    per: Text | None = None  # what times are of: "step" or "token"
    # alike, within what comparable.py allows
    sequences: Number | None = None  # of a step
    running: Number | None = None  # requests, mean
    context_tokens: Number | None = None  # of a sequence, mean
    prompt_share: Share | None = None  # of the tokens that were computed
    clock_hz: Amount | None = None
    # for people
    concurrency_band: Text | None = None
    clock_band: Text | None = None


class Family(_Record):
    """What one kernel family did on one GPU in the window."""

    gpu: Annotated[str, Field(pattern=r"^[0-9A-Za-z:._-]{1,64}$")]
    family: Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")]
    dispatches: Count
    busy_s: Amount | None  # union of its kernels' intervals; their sum where starts are not recorded
    bytes: Amount | None
    bytes_basis: Text | None
    flops: Amount | None
    flops_basis: Text | None
    steps: Count | None
    tokens: Count | None
    bandwidth_frac: Share | None
    step_s: Amount | None = None  # kernel time of it in one step of the most frequent kind


class Result(_Record):
    """The whole file."""

    window_id: Text
    capture_id: Text
    profiler: Text
    provenance: Text
    duration_s: Amount | None
    kernels: Count
    key: Key
    families: Annotated[list[Family], Field(max_length=4096)]
    phases: Annotated[list[dict[str, Any]], Field(max_length=8)]
    targets: Annotated[list[dict[str, Any]], Field(max_length=5)]
    integrity: dict[str, Any]
    serving: dict[str, Any]
    analysis_path: Text


def read(folder: Path) -> Mapping[str, Any]:
    """Read and check the result in ``folder``, which holds :data:`FILES` and nothing else.

    Raises :class:`InputError` where it is not what a child of ours makes.
    """
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208  # names alone
        if names != sorted(FILES):
            raise InputError(f"a result of other files than {', '.join(FILES)}", "")
        for name in names:
            found = (folder / name).lstat()
            if not stat.S_ISREG(found.st_mode):
                raise InputError(f"{name} of the result is no file", "")
        descriptor = os.open(folder / RESULT, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise InputError("the result is too large", "")
        return Result.model_validate_json(raw).model_dump()
    except OSError as error:
        raise InputError(f"the result cannot be read: {error.strerror}", "") from error
    except (ValidationError, ValueError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"the result is not as it should be: {where} {first['msg']}", "") from error
