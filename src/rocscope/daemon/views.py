"""What the daemon shows of itself: one place for the status command, the API, the page and the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from rocscope.daemon import store_findings, store_windows
from rocscope.daemon.budget import DAY_S, HOUR_S

if TYPE_CHECKING:
    from rocscope.daemon.context import Context
    from rocscope.daemon.windows import Windows

RECENT_EVENTS = 20
RECENT_WINDOWS = 10


class _View(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PartView(_View):
    """A part of the daemon and how it does."""

    name: str
    state: str
    reason: str


class StoreView(_View):
    """The store: bytes on disk, of those allowed."""

    state: str
    reason: str
    bytes: int | None
    limit_bytes: int
    free_bytes: int | None


class EngineView(_View):
    """A vLLM server; rates over the last 30 s, null where not known."""

    url: str
    name: str
    model: str
    up: bool
    reason: str
    requests_running: float | None
    requests_waiting: float | None
    tokens_per_s: float | None
    kv_cache_used_frac: float | None


class OpenWindow(_View):
    """The window that is under way."""

    id: str
    engine: str
    trigger: str
    reason: str
    moment: str
    window_s: float


class WindowView(_View):
    """A window of the ledger; times in Unix seconds."""

    id: str
    trigger: str
    reason: str
    engine: str | None
    profile: str | None
    way: str | None
    state: str
    requested_at: float
    started_at: float | None
    ended_at: float | None
    window_s: float | None
    bytes: int | None
    refusal: str | None
    abort: str | None
    overhead: dict[str, Any] | None


class WindowsView(_View):
    """Windows and their budget."""

    enabled: bool
    paused: bool
    breaker_open: bool
    open: OpenWindow | None
    next_in_s: float | None
    duty_hour_frac: float
    duty_day_frac: float
    max_duty_frac: float
    recent: list[WindowView]


class EventView(_View):
    """Something that happened."""

    at: float
    kind: str
    text: str


class Status(_View):
    """All of it, at a glance."""

    version: str
    node: str
    pid: int
    at: float
    uptime_s: float
    parts: list[PartView]
    store: StoreView
    engines: list[EngineView]
    windows: WindowsView | None
    open_findings: int | None
    events: list[EventView]


def status(context: Context) -> Status:
    """Return the present state; what the store does not tell now is null."""
    clock, facts = context.clock, context.facts
    windows, findings = _windows_and_findings(context)
    return Status(
        version=facts.version,
        node=facts.node,
        pid=facts.pid,
        at=clock.wall_s(),
        uptime_s=clock.monotonic_s() - facts.started_monotonic_s,
        parts=[_part(name, part) for name, part in context.parts.items()],
        store=store(context),
        engines=engines(context),
        windows=windows,
        open_findings=findings,
        events=[EventView(at=each.at_s, kind=each.kind, text=each.text) for each in events(context)],
    )


def _part(name: str, part: Any) -> PartView:
    found = part.health()
    return PartView(name=name, state=found.state, reason=found.reason)


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


def window(row: store_windows.WindowRow) -> WindowView:
    """Return a row of the ledger as it is shown."""
    overhead = dict(row.overhead) if row.overhead is not None else None
    names = set(WindowView.model_fields) - {"overhead"}
    return WindowView(overhead=overhead, **{name: getattr(row, name) for name in names})


def _windows_and_findings(context: Context) -> tuple[WindowsView | None, int | None]:
    rows: list[store_windows.WindowRow] = []
    findings: int | None = None
    try:
        with context.store.read() as connection:
            rows = store_windows.listing(connection, RECENT_WINDOWS)
            findings = store_findings.counts(connection).get("open", 0)
    except Exception:  # noqa: BLE001  # the store says itself what is wrong with it
        rows = []
    part: Windows | None = context.part("windows")
    if part is None:
        return None, findings
    given, current = context.settings.windows, part.current
    due = part.schedule.due_s - context.clock.monotonic_s()
    return (
        WindowsView(
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
            recent=[window(row) for row in rows],
        ),
        findings,
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
