"""What an operator may set, as TOML, checked at the door; without a file the defaults run.

A caller of the running daemon chooses among the named profiles of this file, and nothing else: no command,
path, variable or argument comes from a request.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rocscope.errors import InputError, NotFound, UsageError

MAX_BYTES: Final = 1 << 20
DEFAULT_PORT: Final = 9814
KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

Seconds = Annotated[float, Field(gt=0, le=366 * 86_400, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Bytes = Annotated[int, Field(gt=0, le=1 << 50)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Node(_Section):
    """Which node this is."""

    name: str = Field(default="", max_length=253)  # "": the host's name
    gpu: str = ""  # name in the GPU table, where the driver does not tell


class State(_Section):
    """Where the daemon keeps what it knows, and how much of it."""

    folder: Path = Path("/var/lib/rocscope")
    max_bytes: Bytes = 2 * GIB
    min_free_bytes: Bytes = 1 * GIB  # of the file system: below it no window opens and nothing is kept
    keep_10s_samples_s: Seconds = 6 * 3600
    keep_60s_samples_s: Seconds = 14 * 86_400
    keep_windows_s: Seconds = 90 * 86_400  # aggregates and findings
    keep_captures: int = Field(default=20, ge=0, le=10_000)  # newest; those a finding points to are kept too
    keep_events: int = Field(default=5_000, ge=100, le=1_000_000)


class Http(_Section):
    """The HTTP side: metrics, API and live page. Beyond loopback it needs TLS and a token or a client CA."""

    listen: str = f"127.0.0.1:{DEFAULT_PORT}"
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    token_file: Path | None = None  # at least 128 bits, mode 0600 or 0640; systemd: LoadCredential=
    allowed_hosts: tuple[str, ...] = ()  # of the Host header, beside loopback's names and the address itself
    max_connections: int = Field(default=16, ge=1, le=1024)
    read_timeout_s: Seconds = 10.0
    max_body_bytes: Bytes = 64 * KIB
    requests_per_minute: int = Field(default=600, ge=1, le=1_000_000)  # of one address

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to bind."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        host = self.address[0]
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not colon or not host or not port.isdigit() or not 0 <= int(port) <= 65_535:
            raise ValueError(f"{value!r} is no address: write for example 127.0.0.1:{DEFAULT_PORT}")
        return value

    @model_validator(mode="after")
    def _safe(self) -> Http:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        if self.client_ca is not None and self.tls_certificate is None:
            raise ValueError("client_ca needs tls_certificate and tls_key")
        if self.loopback:
            return self
        if self.tls_certificate is None:
            raise ValueError(f"{self.listen} is not loopback: tls_certificate and tls_key are needed")
        if self.token_file is None and self.client_ca is None:
            raise ValueError(f"{self.listen} is not loopback: a token_file or a client_ca is needed")
        return self


class Control(_Section):
    """The socket by which the operator's commands reach the daemon."""

    socket: Path | None = None  # None: control.sock in the state's folder
    group: str = "rocscope"  # that may use it beside the daemon's own user and root; where it exists


class Sampling(_Section):
    """What is read all the time."""

    hz: float = Field(default=1.0, ge=0.1, le=2.0, allow_inf_nan=False)
    telemetry: Literal["auto", "amdsmi", "sysfs", "nvml", "none"] = "auto"
    host: bool = True
    max_cpu_frac: Share = (
        0.01  # of one core, over ten minutes; beyond it the rate is halved, and that is said
    )


class Engine(_Section):
    """A vLLM server that is watched whether or not it can be found by its process."""

    url: str = Field(pattern=r"^https?://[A-Za-z0-9.:\[\]-]{1,255}$")
    name: Name | None = None
    model: Path | None = None  # its config.json or folder, where it cannot be seen from its command
    traces: Path | None = None  # where its profiler writes, as seen from here


class Engines(_Section):
    """Which servers are watched."""

    discover: bool = True  # vLLM servers of this node, by their processes
    known: tuple[Engine, ...] = ()
    scrape_timeout_s: Seconds = 1.5


class Abort(_Section):
    """What ends a window at once."""

    p99_factor: float = Field(default=1.5, gt=1, le=100)  # TPOT's 99th percentile against the minute before
    waiting_factor: float = Field(default=3.0, gt=1, le=1000)  # requests waiting, likewise, and at least:
    waiting_least: int = Field(default=8, ge=1)
    throttled: bool = True
    ecc: bool = True
    min_available_memory_bytes: Bytes = 2 * GIB


class Profile(_Section):
    """A named kind of window that callers may choose."""

    way: Literal["auto", "engine", "rocprofv3"] = "auto"  # auto: the engine's own profiler, else attach
    window_s: Seconds = 2.0
    keep_capture: bool = False


class Windows(_Section):
    """Short profiles and their budget, which no request passes by (but root's own ``--force``)."""

    enabled: bool = True
    every_s: Seconds = 900.0
    jitter_frac: Share = 0.2
    max_window_s: Seconds = 10.0
    max_duty_frac: Share = 0.005  # of the time, over a day and over an hour
    min_gap_s: Seconds = 120.0
    max_window_bytes: Bytes = 512 * MIB
    max_day_bytes: Bytes = 8 * GIB
    max_nodes: int = Field(default=0, ge=0)  # of the fleet at a time; 0: no limit
    fleet: tuple[str, ...] = Field(default=(), max_length=100_000)  # names of the nodes that share that limit
    gather_timeout_s: Seconds = 120.0  # from the end of a window until its files are whole
    failures_to_open: int = Field(default=3, ge=1)  # in a row; then no window for:
    breaker_s: Seconds = 3600.0
    profiles: Mapping[Name, Profile] = {"kernel-trace": Profile()}
    abort: Abort = Abort()

    @model_validator(mode="after")
    def _whole(self) -> Windows:
        if "kernel-trace" not in self.profiles:
            raise ValueError("profiles must have kernel-trace, which the schedule uses")
        for name, profile in self.profiles.items():
            if profile.window_s > self.max_window_s:
                raise ValueError(f"profiles.{name}.window_s is longer than max_window_s")
        if self.max_nodes and not self.fleet:
            raise ValueError("max_nodes needs the names of the nodes that share it in fleet")
        return self


class Trigger(_Section):
    """A window where one of our own samples says that something is amiss."""

    name: Name
    subject: str = Field(default="", max_length=128)  # glob, "": any
    metric: str = Field(pattern=r"^[a-z0-9_]{1,64}$")
    below: float | None = Field(default=None, allow_inf_nan=False)
    above: float | None = Field(default=None, allow_inf_nan=False)
    while_metric: str = Field(default="", pattern=r"^[a-z0-9_]{0,64}$")  # of any subject; "": always
    while_above: float = Field(default=0.0, allow_inf_nan=False)
    for_s: Seconds = 60.0
    cooldown_s: Seconds = 3600.0
    profile: Name = "kernel-trace"

    @model_validator(mode="after")
    def _one_side(self) -> Trigger:
        if (self.below is None) == (self.above is None):
            raise ValueError("give exactly one of below and above")
        return self


class Spool(_Section):
    """The folder into which profiler outputs and captures are dropped."""

    enabled: bool = True
    folder: Path | None = None  # None: spool in the state's folder
    settle_s: Seconds = 3.0  # without a change before a file is taken
    scan_s: Seconds = 60.0  # between full scans, for what the watcher missed
    max_file_bytes: Bytes = 2 * GIB
    max_unpacked_bytes: Bytes = 8 * GIB
    max_unpacked_ratio: float = Field(default=200.0, gt=1, le=10_000)
    analysis_memory_bytes: Bytes = 4 * GIB
    analysis_cpu_s: Seconds = 300.0
    analysis_wall_s: Seconds = 900.0
    quarantine_max_bytes: Bytes = 512 * MIB


class Regressions(_Section):
    """How a window is held against its own past."""

    enabled: bool = True
    least_windows: int = Field(default=6, ge=3, le=1000)  # comparable ones before anything is said
    history_s: Seconds = 14 * 86_400
    least_change_frac: Share = 0.05
    false_alarms_per_week: float = Field(default=1.0, gt=0, le=1000)


class Reports(_Section):
    """Reports on a schedule."""

    daily_at: str | None = "06:00"  # local time; None: no reports
    folder: Path | None = None  # None: reports in the state's folder
    keep: int = Field(default=30, ge=1, le=10_000)

    @field_validator("daily_at")
    @classmethod
    def _time(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
            raise ValueError(f"{value!r} is no time of day: write for example 06:00")
        return value


class Settings(_Section):
    """The whole file."""

    node: Node = Node()
    state: State = State()
    http: Http = Http()
    control: Control = Control()
    sampling: Sampling = Sampling()
    engines: Engines = Engines()
    windows: Windows = Windows()
    triggers: tuple[Trigger, ...] = ()
    spool: Spool = Spool()
    regressions: Regressions = Regressions()
    reports: Reports = Reports()

    @model_validator(mode="after")
    def _profiles(self) -> Settings:
        for each in self.triggers:
            if each.profile not in self.windows.profiles:
                raise ValueError(f"triggers: {each.name} names no profile of windows.profiles")
        names = [each.name for each in self.triggers]
        if len(set(names)) != len(names):
            raise ValueError("triggers: two have one name")
        return self

    @property
    def control_socket(self) -> Path:
        """Where the control socket lies."""
        return self.control.socket or self.state.folder / "control.sock"

    @property
    def spool_folder(self) -> Path:
        """Where files are dropped."""
        return self.spool.folder or self.state.folder / "spool"

    @property
    def reports_folder(self) -> Path:
        """Where daily reports go."""
        return self.reports.folder or self.state.folder / "reports"


def load(path: Path | None, *, state: Path | None = None, listen: str | None = None) -> Settings:
    """Read a file, or take the defaults; ``state`` and ``listen`` override either.

    Without ``state`` in either, a user who is not root gets a folder of their own; under systemd the control
    socket lies in the unit's ``RuntimeDirectory``. Raises
    :class:`InputError` that names file and field, and :class:`UsageError` for the overrides.
    """
    raw: dict[str, Any] = {} if path is None else _read(path)
    if state is not None:
        raw = {**raw, "state": {**_table(raw, "state", path), "folder": state.absolute()}}
    elif "folder" not in _table(raw, "state", path) and os.geteuid() != 0:
        raw = {**raw, "state": {**_table(raw, "state", path), "folder": _own_folder()}}
    runtime = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]  # systemd.exec(5)
    if runtime.startswith("/") and "socket" not in _table(raw, "control", path):
        socket = Path(runtime) / "control.sock"
        raw = {**raw, "control": {**_table(raw, "control", path), "socket": socket}}
    if listen is not None:
        raw = {**raw, "http": {**_table(raw, "http", path), "listen": listen}}
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        raise _told(error, path, listen) from error


def _own_folder() -> Path:
    data = os.environ.get("XDG_STATE_HOME", "")
    base = Path(data) if data.startswith("/") else Path.home() / ".local/state"
    return base / "rocscope"


def _table(raw: Mapping[str, Any], name: str, path: Path | None) -> dict[str, Any]:
    found = raw.get(name, {})
    if not isinstance(found, dict):
        raise InputError(f"{path}: {name} is no table", f"write it as [{name}]")
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():
            raise NotFound(f"{path}: no such file", "see `rocscope daemon --print-config`")
        with path.open("rb") as stream:
            text = stream.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise InputError(f"{path}: too large for a file of settings", "name another file")
        return tomllib.loads(text.decode("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", "check its permissions") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}", "see `rocscope daemon --print-config` for the form") from error


def _told(error: ValidationError, path: Path | None, listen: str | None) -> InputError | UsageError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    text = first["msg"].removeprefix("Value error, ")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if listen is not None and where.startswith("http"):
        return UsageError(f"--listen {listen}: {text}", "listen on 127.0.0.1, or set TLS and a token")
    hint = "see `rocscope daemon --print-config` for all fields and defaults"
    return InputError(
        f"{path or 'settings'}: {where}: {text}{more}" if where else f"{path}: {text}{more}", hint
    )
