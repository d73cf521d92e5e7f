"""The ledger of forecasts: what each promised and what came of it, in one SQLite file a user.

A row is one target of one pair of recordings, so that comparing them again replaces it. Writers take turns; a
write is whole or not there, whatever ends the process.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rocscope.errors import DamagedInput, InputError, NotFound, PermissionMissing, UsageError
from rocscope.findings import Bound, Limiter, Regained

VARIABLE: Final = "ROCSCOPE_FORECASTS"
WAIT_S: Final = 5.0  # for another process that writes
KIND: Final = "rocscope-forecasts"  # of the JSON form
MOST_BYTES: Final = 64 << 20  # of the JSON form
_HEADER: Final = b"SQLite format 3\x00"
_APPLICATION: Final = 0x726F6366  # marks the file as ours: "rocf"
_MAKE: Final = (  # one entry a version of the schema: what brings the file to it from the version before
    """
    CREATE TABLE forecast (
      base TEXT NOT NULL, new TEXT NOT NULL, target TEXT NOT NULL,
      recorded_at TEXT NOT NULL, entry TEXT NOT NULL,
      PRIMARY KEY (base, new, target)
    ) WITHOUT ROWID;
    """,
)
_AWAY: Final = "move it away; a new one is made"
_PUT: Final = (
    "INSERT INTO forecast VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "recorded_at = excluded.recorded_at, entry = excluded.entry"
)
_WHERE_NEWER: Final = " WHERE excluded.recorded_at > forecast.recorded_at"
_Share = Annotated[float, Field(ge=-1e6, le=1.0, allow_inf_nan=False)]
_Text = Annotated[str, Field(max_length=4000)]


class Entry(BaseModel):
    """One forecast that was scored. Shares are of the window of the recording that it was made from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: Annotated[str, Field(min_length=1, max_length=4000)]  # the recordings that it was made from
    new: Annotated[str, Field(min_length=1, max_length=4000)]  # and those after the change
    target: Annotated[str, Field(min_length=1, max_length=400)]
    problem: _Text = ""
    scope: _Text = ""
    family: _Text | None = None
    kernel: _Text | None = None
    bound: Bound | None = None
    limiter: Limiter | None = None
    regains: Regained | None = None
    shares_of: _Text | None = None
    gpu: _Text | None = None  # its model
    before_frac: _Share | None = None
    least_frac: _Share | None = None
    low_frac: _Share
    mid_frac: _Share
    high_frac: _Share
    actual_frac: _Share
    total_frac: _Share | None = None
    hit: bool
    tried_by: Literal["seen", "said"]
    realised_share_frac: Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)] | None = None
    replaced_by: tuple[_Text, ...] = ()
    other_work: _Text | None = None  # why it was not of what is done now
    basis: _Text = ""
    provenance: Literal["recorded", "replayed", "synthetic"]  # of both recordings, the weaker of the two
    recorded_at: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)$")]
    rocscope_version: _Text

    @property
    def counts(self) -> bool:
        """Whether it says how good forecasts are: not of what is synthetic, nor where other work is done."""
        return self.provenance != "synthetic" and self.other_work is None

    @property
    def id(self) -> str:
        """A short name, the same for the same target of the same two recordings."""
        whole = "\x00".join((self.base, self.new, self.target))
        return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:10]


def place(environment: Mapping[str, str]) -> Path:
    """Return where the ledger is: ``$ROCSCOPE_FORECASTS``, else in the user's data folder."""
    if named := environment.get(VARIABLE):
        return Path(named)
    data = environment.get("XDG_DATA_HOME", "")
    home = Path(environment.get("HOME") or Path.home())
    return (Path(data) if data.startswith("/") else home / ".local/share") / "rocscope" / "forecasts.sqlite"


def read(path: Path) -> list[Entry]:
    """Return the entries of a ledger, or of its JSON form, newest first.

    Raises :class:`NotFound`, and :class:`InputError` with what is wrong with the file.
    """
    _check_file(path)
    if not path.exists():
        raise NotFound(f"{path}: no such ledger", "`rocscope compare` makes one when it scores a forecast")
    with path.open("rb") as stream:
        head = stream.read(len(_HEADER))
    if head and head != _HEADER:
        return _newest_first(_from_json(path))
    with _told(path), closing(_open_to_read(path)) as ledger:
        if _version(ledger, path) == 0:
            return []
        texts = [str(text) for (text,) in ledger.execute("SELECT entry FROM forecast")]
    try:
        rows = [json.loads(text) for text in texts]
    except (ValueError, RecursionError) as error:
        raise DamagedInput(f"{path}: holds what is no forecast ({error})", _AWAY) from error
    return _newest_first([_entry(each, str(path)) for each in rows])


def write(path: Path, entries: Sequence[Entry], *, keep_newer: bool = False) -> int:
    """Enter ``entries``, in place of earlier ones of the same; return how many were entered.

    With ``keep_newer`` what was recorded later than an entry stays. Raises as :func:`read`, and
    :class:`PermissionMissing` where the ledger cannot be written.
    """
    with _writing(path) as ledger:
        before = ledger.total_changes
        ledger.executemany(
            _PUT + _WHERE_NEWER if keep_newer else _PUT,
            [(e.base, e.new, e.target, e.recorded_at, e.model_dump_json()) for e in entries],
        )
        return ledger.total_changes - before


def remove(path: Path, entries: Sequence[Entry]) -> int:
    """Take entries out; return how many were there. Raises as :func:`write`."""
    _check_file(path)
    if not path.exists():
        return 0
    with _writing(path) as ledger:
        before = ledger.total_changes
        ledger.executemany(
            "DELETE FROM forecast WHERE base = ? AND new = ? AND target = ?",
            [(each.base, each.new, each.target) for each in entries],
        )
        return ledger.total_changes - before


def to_json(entries: Sequence[Entry]) -> str:
    """Return entries as JSON, which :func:`read` reads back."""
    told = {
        "kind": KIND,
        "schema_version": "1",
        "forecasts": [{"id": each.id, **each.model_dump(mode="json")} for each in entries],
    }
    return json.dumps(told, indent=1) + "\n"


def _newest_first(entries: list[Entry]) -> list[Entry]:
    return sorted(
        entries, key=lambda each: (each.recorded_at, each.base, each.new, each.target), reverse=True
    )


def _from_json(path: Path) -> list[Entry]:
    hint = "name a ledger, or what `rocscope forecasts export` wrote"
    with path.open("rb") as stream:
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise InputError(f"{path}: too large for forecasts", hint)
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedInput(
            f"{path}: neither a ledger of forecasts nor its JSON form ({error})", hint
        ) from error
    if not isinstance(raw, dict) or raw.get("kind") != KIND or not isinstance(raw.get("forecasts"), list):
        raise InputError(f"{path}: holds no forecasts", hint)
    if raw.get("schema_version") != "1":
        raise InputError(
            f"{path}: schema_version {raw.get('schema_version')} is not ours", "upgrade rocscope"
        )
    return [_entry(each, f"{path}: forecasts.{at}") for at, each in enumerate(raw["forecasts"])]


def _entry(raw: Any, where: str) -> Entry:
    try:
        return Entry.model_validate(
            {k: v for k, v in raw.items() if k != "id"} if isinstance(raw, dict) else raw
        )
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise DamagedInput(f"{where}: {field}: {first['msg']}", _AWAY) from error


def _check_file(path: Path) -> None:
    try:
        if path.exists() and not path.is_file():  # a pipe of that name would be waited for
            raise UsageError(f"{path} is no file", "name a ledger of forecasts")
    except OSError as error:
        raise PermissionMissing(f"{path}: {error.strerror}", f"name another with {VARIABLE}") from error


def _open_to_read(path: Path) -> sqlite3.Connection:
    """Open without the wish to write; a folder that cannot be written has no room for SQLite's own files."""
    uri = path.absolute().as_uri()
    ledger = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=WAIT_S, isolation_level=None)
    try:
        ledger.execute("PRAGMA schema_version").fetchone()
    except sqlite3.OperationalError:
        ledger.close()
        if path.with_name(path.name + "-wal").exists():
            raise
        return sqlite3.connect(f"{uri}?immutable=1", uri=True, isolation_level=None)
    return ledger


@contextmanager
def _writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Give the ledger within a transaction, made or brought up to date first."""
    _check_file(path)
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)) as ledger:
            _version(ledger, path)
            _log_ahead(ledger)
            ledger.execute("BEGIN IMMEDIATE")
            try:
                _bring_up_to_date(ledger, path)
                yield ledger
                ledger.execute("COMMIT")
            finally:
                if ledger.in_transaction:
                    ledger.execute("ROLLBACK")


def _log_ahead(ledger: sqlite3.Connection) -> None:
    """Let readers read while one writes. Where another process just now sees to that, it is left to it."""
    if ledger.execute("PRAGMA journal_mode").fetchone() == ("wal",):
        return
    try:
        ledger.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise


def _bring_up_to_date(ledger: sqlite3.Connection, path: Path) -> None:
    for version in range(_version(ledger, path), len(_MAKE)):
        for statement in _MAKE[version].split(";"):
            ledger.execute(statement)
        ledger.execute(f"PRAGMA user_version = {version + 1}")
        ledger.execute(f"PRAGMA application_id = {_APPLICATION}")


def _version(ledger: sqlite3.Connection, path: Path) -> int:
    """Return the version of the schema, 0 for an empty file; what is not ours or too new is refused."""
    with _one_snapshot(ledger):  # another process may be making the tables just now
        (ours,), (version,) = (
            ledger.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
        )
        tables = ledger.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    if ours != _APPLICATION and tables:
        raise InputError(f"{path}: a database, but no ledger of forecasts", "name another file")
    if version > len(_MAKE):
        raise InputError(f"{path}: written by a newer rocscope (schema {version})", "upgrade rocscope")
    return int(version)


@contextmanager
def _one_snapshot(ledger: sqlite3.Connection) -> Iterator[None]:
    """Let several reads see one state of the file; within a transaction they already do."""
    if ledger.in_transaction:
        yield
        return
    ledger.execute("BEGIN")
    try:
        yield
    finally:
        ledger.execute("ROLLBACK")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system say into errors that say what to do."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise DamagedInput(f"{path}: the ledger of forecasts is damaged ({error})", _AWAY) from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise InputError(
                f"{path}: another process has been writing the ledger of forecasts for {WAIT_S:g} s",
                "do the same again",
            ) from error
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            raise PermissionMissing(f"{path}: {error}", f"name another with {VARIABLE}") from error
        raise InputError(f"{path}: {error}", f"name another with {VARIABLE}") from error
    except OSError as error:
        raise PermissionMissing(
            f"{error.filename or path}: {error.strerror}", f"name another with {VARIABLE}"
        ) from error
