"""What the daemon shows of itself: one place for the status command, the API, the page and the terminal."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from rocscope.daemon import store_findings, store_samples, store_windows
from rocscope.daemon.budget import DAY_S, HOUR_S
from rocscope.daemon.view_models import (
    EngineView,
    EventView,
    FamilyShare,
    FamilyView,
    FindingView,
    GpuView,
    OpenWindow,
    PartView,
    Points,
    Ready,
    SeriesName,
    Status,
    StoreView,
    WindowDetail,
    WindowsView,
    WindowView,
)
from rocscope.untrusted import visible

if TYPE_CHECKING:
    from rocscope.daemon.context import Context
    from rocscope.daemon.windows import Windows

RECENT_EVENTS = 20
RECENT_WINDOWS = 10
SENSORS = ("edge", "hotspot", "memory")


def status(context: Context) -> Status:
    """Return the present state; what the store does not tell now is null."""
    clock, facts = context.clock, context.facts
    return Status(
        version=facts.version,
        node=facts.node,
        pid=facts.pid,
        at=clock.wall_s(),
        uptime_s=clock.monotonic_s() - facts.started_monotonic_s,
        parts=_parts(context),
        store=store(context),
        engines=engines(context),
        gpus=gpus(context),
        windows=windows(context),
        open_findings=open_findings(context),
        events=[EventView(at=each.at_s, kind=each.kind, text=each.text) for each in events(context)],
    )


def _parts(context: Context) -> list[PartView]:
    found = [(name, part.health()) for name, part in context.parts.items()]
    return [PartView(name=name, state=each.state, reason=each.reason) for name, each in found]


def events(context: Context) -> list[Any]:
    """Return the latest events, newest first."""
    return list(context.events.recent)[-RECENT_EVENTS:][::-1]


def store(context: Context) -> StoreView:
    """Return how the store does."""
    health = getattr(context.store, "health", None)
    return StoreView(
        state=getattr(health, "state", "unknown"),
        reason=getattr(health, "reason", ""),
        bytes=getattr(health, "bytes", None),
        limit_bytes=context.settings.state.max_bytes,
        free_bytes=_whole(context.history.latest("host", "disk_free_bytes", 60.0)),
    )


def engines(context: Context) -> list[EngineView]:
    """Return the servers that are watched."""
    part, history = context.part("engines"), context.history
    found = []
    for state in [] if part is None else part.states.values():
        subject = state.engine.subject
        found.append(
            EngineView(
                url=state.engine.url,
                name=state.engine.name,
                model=state.engine.model,
                up=state.ok,
                reason=state.reason,
                requests_running=history.latest(subject, "requests_running"),
                requests_waiting=history.latest(subject, "requests_waiting"),
                tokens_per_s=history.rate(subject, "generation_tokens", 30.0),
                kv_cache_used_frac=history.latest(subject, "kv_cache_used_frac"),
            )
        )
    return found


def gpus(context: Context) -> list[GpuView]:
    """Return the GPUs whose sensors are read."""
    telemetry, history = context.part("telemetry"), context.history
    found = []
    for index, device in enumerate(telemetry.devices if telemetry is not None else []):

        def now(metric: str, bdf: str = device.bdf) -> float | None:
            return history.latest(f"gpu:{bdf}", metric)

        heat = [value for name in SENSORS if (value := now(f"temperature_{name}_c")) is not None]
        throttled = now("throttled")
        found.append(
            GpuView(
                gpu=index,
                bdf=device.bdf,
                model=visible(device.name),
                arch=device.arch,
                power_w=now("power_w"),
                clock_hz=now("clock_hz"),
                temperature_c=max(heat, default=None),
                busy_frac=now("busy_frac"),
                memory_busy_frac=now("memory_busy_frac"),
                memory_used_bytes=now("vram_used_bytes"),
                throttled=None if throttled is None else bool(throttled),
            )
        )
    return found


def windows(context: Context) -> WindowsView | None:
    """Return windows and their budget, ``None`` where that part does not run."""
    part: Windows | None = context.part("windows")
    if part is None:
        return None
    rows: list[store_windows.WindowRow] = []
    with contextlib.suppress(Exception), context.store.read() as connection:
        rows = store_windows.listing(connection, RECENT_WINDOWS)
    given, current = context.settings.windows, part.current
    due = part.schedule.due_s - context.clock.monotonic_s()
    return WindowsView(
        enabled=given.enabled,
        paused=part.budget.paused,
        breaker_open=part.budget.broken,
        open=None
        if current is None
        else OpenWindow(
            id=current.id,
            engine=current.engine.url,
            trigger=current.request.trigger,
            reason=current.request.reason,
            moment=current.moment,
            window_s=current.window_s,
        ),
        next_in_s=max(0.0, due) if given.enabled else None,
        duty_hour_frac=part.budget.duty_frac(HOUR_S),
        duty_day_frac=part.budget.duty_frac(DAY_S),
        max_duty_frac=given.max_duty_frac,
        recent=[WindowView.model_validate(row) for row in rows],
    )


def open_findings(context: Context) -> int | None:
    """Return how many findings are open; ``None`` where the store does not tell."""
    with contextlib.suppress(Exception), context.store.read() as connection:
        return store_findings.counts(connection).get("open", 0)
    return None


def ready(context: Context) -> Ready:
    """Return whether the store takes what is written and no part fails."""
    faults = [f"{each.name}: {each.reason}" for each in _parts(context) if each.state == "failing"]
    kept = store(context)
    if kept.state not in ("ok", "unknown"):
        faults.insert(0, f"the store is {kept.state}: {kept.reason}")
    return Ready(ready=not faults, reason="; ".join(faults))


def window_list(context: Context, limit: int, before_s: float | None = None) -> list[WindowView]:
    """Return windows, newest first. Raises :class:`rocscope.errors.StoreError`."""
    with context.store.read() as connection:
        return [
            WindowView.model_validate(row)
            for row in store_windows.listing(connection, limit, before_s=before_s)
        ]


def window_detail(context: Context, window_id: str) -> WindowDetail | None:
    """Return one window. Raises :class:`rocscope.errors.StoreError`."""
    with context.store.read() as connection:
        row = store_windows.get(connection, window_id)
        if row is None:
            return None
        found = store_windows.families(connection, window_id)
    return WindowDetail(
        window=WindowView.model_validate(row),
        families=[FamilyView.model_validate(each) for each in found],
        key=dict(row.key) if row.key is not None else None,
        summary=dict(row.summary) if row.summary is not None else None,
    )


def findings(context: Context, limit: int) -> list[FindingView]:
    """Return findings, newest first. Raises :class:`rocscope.errors.StoreError`."""
    with context.store.read() as connection:
        rows = store_findings.latest(connection, limit)
    return [FindingView.model_validate(row) for row in rows]


def families(context: Context, over_s: float) -> list[FamilyShare]:
    """Return busy time by family of the windows of a time. Raises :class:`rocscope.errors.StoreError`."""
    now = context.clock.wall_s()
    with context.store.read() as connection:
        rows = store_windows.families_over_time(connection, now - over_s, now + 1)
    return [FamilyShare(window_id=a, at=b, family=c, busy_s=d) for a, b, c, d in rows]


def series(context: Context) -> list[SeriesName]:
    """Return what is kept in the store. Raises :class:`rocscope.errors.StoreError`."""
    with context.store.read() as connection:
        rows = store_samples.series(connection)
    return [SeriesName(source=row.source, subject=row.subject, metric=row.metric) for row in rows]


def points(context: Context, subject: str, metric: str, over_s: float, most: int) -> Points:
    """Return a series over time. Raises :class:`rocscope.errors.StoreError`."""
    now = context.clock.wall_s()
    with context.store.read() as connection:
        drawn = store_samples.draw(connection, subject, metric, now - over_s, now, most=most)
    return Points(
        subject=subject,
        metric=metric,
        step_s=drawn.step_s,
        at=[each.ts for each in drawn.points],
        mean=[each.mean for each in drawn.points],
        low=[each.low for each in drawn.points],
        high=[each.high for each in drawn.points],
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
