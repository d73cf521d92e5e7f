"""What views are made of, as the API's document describes them. Times are Unix seconds; unknown is null."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class _View(BaseModel):
    """Views of rows of the ledger are made of the row itself: the fields are some of its columns."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)


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


class GpuView(_View):
    """A GPU by its sensors, now."""

    gpu: int
    bdf: str
    model: str
    arch: str
    power_w: float | None
    clock_hz: float | None
    temperature_c: float | None  # the hottest of its sensors
    busy_frac: float | None
    memory_busy_frac: float | None
    memory_used_bytes: float | None
    throttled: bool | None


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


class FamilyView(_View):
    """What a kernel family did on one GPU in one window; unknown is null."""

    gpu: str
    family: str
    dispatches: int | None
    busy_s: float | None
    bytes: float | None
    bytes_basis: str | None
    flops: float | None
    flops_basis: str | None
    steps: int | None
    tokens: int | None
    bandwidth_frac: float | None


class WindowDetail(_View):
    """A window, what families did in it, and what its analysis says in short."""

    window: WindowView
    families: list[FamilyView]
    key: dict[str, Any] | None
    summary: dict[str, Any] | None


class FindingView(_View):
    """What changed against a window's own past; ``*_frac`` is the change with its interval."""

    id: str
    window_id: str | None
    at: float
    kind: str
    family: str | None
    gpu: str | None
    size_frac: float | None
    low_frac: float | None
    high_frac: float | None
    confidence: str | None
    evidence: Any
    state: str


class FamilyShare(_View):
    """Busy time of a family in one window, all GPUs."""

    window_id: str
    at: float
    family: str
    busy_s: float


class SeriesName(_View):
    """A series that is kept."""

    source: str
    subject: str
    metric: str


class Points(_View):
    """A series over time, each point the mean of its step with lowest and highest value."""

    subject: str
    metric: str
    step_s: float
    at: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


class Ready(_View):
    """Whether all parts do their work, and if not, which do not."""

    ready: bool
    reason: str


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
    gpus: list[GpuView]
    windows: WindowsView | None
    open_findings: int | None
    events: list[EventView]
