"""What the daemon saw beside a window: load, tokens, clocks, power; it goes to the analysis with the capture.

Written beside the capture at once, since the history that it is made of lasts for minutes and an analysis may
have to be done again after a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rocscope.daemon import comparable
from rocscope.untrusted import visible

if TYPE_CHECKING:
    from rocscope.daemon.context import Context
    from rocscope.daemon.engines import Engine
    from rocscope.daemon.store_windows import WindowRow

FILE: Final = "observed.json"
MAX_BYTES: Final = 256 << 10
VERSION_S: Final = 2.0  # for an answer
VERSION_BYTES: Final = 4096
_PAD_S: Final = 1.5  # samples come once a second; totals need one on either side
_MEANS: Final = ("requests_running", "requests_waiting", "kv_cache_used_frac")
_GPU_MEANS: Final = ("clock_hz", "memory_clock_hz", "power_w", "power_cap_w", "activity_frac", "throttled")
_TOTALS: Final = ("prompt_tokens", "generation_tokens")
_MOST_GPUS: Final = 64


async def look(context: Context, row: WindowRow) -> dict[str, Any]:
    """Return what was seen of a window's engine and of the node's GPUs; what was not is ``None``."""
    found: dict[str, Any] = {"engine": comparable.hidden(row.engine)}
    state = _state(context, row)
    if state is not None:
        engine: Engine = state.engine
        name = os.path.basename(engine.model.rstrip("/")) if engine.model else None  # noqa: PTH119  # text
        found["model_name"] = comparable.hidden(name)
        found["engine_version"] = await version(engine)
    if row.started_at is None or row.ended_at is None or row.engine is None:
        return found
    behind_s = context.clock.wall_s() - context.clock.monotonic_s()
    return found | between(
        context, f"engine:{row.engine}", row.started_at - behind_s, row.ended_at - behind_s
    )


def between(context: Context, subject: str, began_s: float, ended_s: float) -> dict[str, Any]:
    """Return means and totals between two moments of the history's clock."""
    history = context.history
    found: dict[str, Any] = {
        name: history.mean(subject, name, began_s - _PAD_S, ended_s + _PAD_S) for name in _MEANS
    }
    seconds = ended_s - began_s
    for name in _TOTALS:
        rate = history.rate(subject, name, seconds + 2 * _PAD_S, ended_s + _PAD_S)
        found[f"{name}_per_s"] = rate
        found[name] = None if rate is None else rate * seconds
    prompt, made = found["prompt_tokens"], found["generation_tokens"]
    found["prompt_share"] = (
        prompt / (prompt + made) if prompt is not None and made and prompt + made else None
    )
    found["context_tokens"] = _context(context, subject, found)
    gpus = sorted({name for _, name, _ in history.series() if name.startswith("gpu:")})[:_MOST_GPUS]
    found["gpus"] = {
        gpu.removeprefix("gpu:"): {
            name: history.mean(gpu, name, began_s - _PAD_S, ended_s + _PAD_S) for name in _GPU_MEANS
        }
        for gpu in gpus
    }
    each = list(found["gpus"].values())
    found["clock_hz"] = _mean([gpu["clock_hz"] for gpu in each])
    caps = {gpu["power_cap_w"] for gpu in each}
    found["power_cap_w"] = round(next(iter(caps)), 1) if len(caps) == 1 and None not in caps else None
    return found


def _context(context: Context, subject: str, found: Mapping[str, Any]) -> float | None:
    """Return the mean tokens that a running request has in the cache."""
    capacity = context.history.latest(subject, "kv_cache_capacity_tokens", 60.0)
    used, running = found["kv_cache_used_frac"], found["requests_running"]
    return used * capacity / running if capacity and used and running else None


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _state(context: Context, row: WindowRow) -> Any:
    engines = context.part("engines")
    return None if engines is None or row.engine is None else engines.states.get(row.engine)


async def version(engine: Engine) -> str | None:
    """Ask a server for its version; ``None`` where it does not tell in time."""
    import httpx

    if engine.socket_path:
        return None
    with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError, ValueError):
        async with (
            asyncio.timeout(VERSION_S),
            httpx.AsyncClient(timeout=VERSION_S, trust_env=False) as client,
            client.stream("GET", f"{engine.url}/version") as answer,
        ):
            if answer.status_code != 200:
                return None
            text = b""
            async for part in answer.aiter_raw():
                text += part
                if len(text) > VERSION_BYTES:
                    return None
            told = json.loads(text)
            if isinstance(told, dict) and isinstance(told.get("version"), str):
                return visible(str(told["version"]))[:64]
    return None


def keep(found: Mapping[str, Any], folder: Path) -> None:
    """Write it into the window's own folder."""
    temporary = folder / f".{FILE}.tmp"
    temporary.write_text(json.dumps(found), encoding="utf-8")
    temporary.replace(folder / FILE)


def kept(folder: Path) -> dict[str, Any]:
    """Read what :func:`keep` wrote; nothing where it did not come so far."""
    with contextlib.suppress(OSError, ValueError), (folder / FILE).open("rb") as stream:
        found = json.loads(stream.read(MAX_BYTES))
        if isinstance(found, dict):
            return found
    return {}
