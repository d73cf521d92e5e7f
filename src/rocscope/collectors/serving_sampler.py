"""Samples of a server's ``/metrics``: a thread that asks once a second and never holds up the run."""

from __future__ import annotations

import datetime
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rocscope import serving_names as ours
from rocscope.collectors.sampling import MAX_ROWS, STOP_DEADLINE_S, Readings
from rocscope.collectors.serving import MAX_BYTES, Snapshot
from rocscope.errors import InputError
from rocscope.launch.clocks import now_ns
from rocscope.launch.readiness import Address

if TYPE_CHECKING:
    import httpx

    from rocscope.collectors.live_outcome import Outcome
    from rocscope.config import ProfileOptions

HZ: Final = 1.0
TIMEOUT_S: Final = 2.0  # of connecting, and of each piece of the answer
ANSWER_S: Final = 5.0  # of the whole answer
MARK_S: Final = 2.0  # that the run waits for a scrape at the beginning or end of its window
PATH: Final = "/metrics"
REDIRECTS: Final = (301, 302, 307, 308)  # to the same with a slash: older versions mount it so


class _Mark:
    """A scrape that somebody waits for."""

    def __init__(self, name: str) -> None:
        self.name, self.tried, self.kept = name, threading.Event(), False


class ServingSampler:
    """Scrapes a server from its making until it is stopped; :meth:`mark` scrapes at once and keeps the text.

    A scrape's time is the middle between question and answer. What fails is counted and said at the end; a
    server that does not answer costs scrapes, never the run.
    """

    name = "serving sampler"

    def __init__(self, address: Address, folder: Path, hz: float = HZ) -> None:
        self._address, self._folder, self._period_s = address, folder, 1 / hz
        self.readings = Readings()
        self.notices: list[tuple[str, str]] = []
        self._path = PATH
        self._tried = self._failed = self._bad_lines = 0
        self._why = ""
        self._last: dict[str, float] = {}
        self._marks: list[_Mark] = []
        self._wake, self._ending = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._told = False
        self._thread = threading.Thread(target=self._run, name="serving-sampler", daemon=True)
        self._thread.start()

    def mark(self, name: str, wait_s: float = MARK_S) -> bool:
        """Scrape now, keep the text as ``NAME.metrics.txt``; tell whether that was done in ``wait_s``."""
        mark = _Mark(name)
        with self._lock:
            self._marks.append(mark)
        self._wake.set()
        return self._thread.is_alive() and mark.tried.wait(wait_s) and mark.kept

    def stop(self) -> bool:
        """End sampling; tell whether the thread ended before the deadline."""
        self._ending.set()
        self._wake.set()
        self._thread.join(STOP_DEADLINE_S)
        if not self._told:
            self._told = True
            self._tell()
        return not self._thread.is_alive()

    def _run(self) -> None:
        with self._address.client(TIMEOUT_S) as client:
            due = time.monotonic()
            while not self._ending.is_set() and len(self.readings) < MAX_ROWS:
                with self._lock:
                    marks, self._marks = self._marks, []
                    self._wake.clear()
                text = self._scrape(client)
                for mark in marks:
                    mark.kept = text is not None and self._keep(mark.name, text)
                    mark.tried.set()
                due = max(due + self._period_s, time.monotonic())  # late ticks are skipped, not made up for
                if not self._ending.is_set():
                    self._wake.wait(max(0.0, due - time.monotonic()))

    def _scrape(self, client: httpx.Client) -> str | None:
        """Ask once; return the text, ``None`` where there is none or it is not vLLM's."""
        import httpx

        self._tried += 1
        try:
            asked = now_ns()
            text = self._ask(client)
            answered = now_ns()
            snapshot = Snapshot.parse(text)
        except (httpx.HTTPError, InputError) as error:
            self._failed += 1
            self._why = self._why or str(error) or type(error).__name__
            return None
        self._bad_lines += snapshot.bad_lines
        moment = (asked + answered) // 2
        for metric, value in snapshot.values.items():
            self.readings.add(moment, ours.SOURCE, ours.LIVE, metric, value)
        self.readings.add(moment, ours.SOURCE, "rocscope", "scrape_s", (answered - asked) * 1e-9)
        self._compare(snapshot.values)
        return text

    def _ask(self, client: httpx.Client) -> str:
        """Return the text. Raises ``httpx.HTTPError`` and :class:`InputError`."""
        deadline = time.monotonic() + ANSWER_S
        with client.stream("GET", self._path) as answer:
            if answer.status_code in REDIRECTS and not self._path.endswith("/"):
                self._path += "/"
                return self._ask(client)
            if answer.status_code != 200:
                raise InputError(f"HTTP {answer.status_code} for {self._path}")
            body = bytearray()
            for piece in answer.iter_bytes():
                body += piece
                if len(body) > MAX_BYTES:
                    raise InputError(f"{self._path} answers more than {MAX_BYTES >> 20} MiB")
                if time.monotonic() > deadline:
                    raise InputError(f"{self._path} takes more than {ANSWER_S:g} s")
        return body.decode("utf-8", "replace")

    def _compare(self, values: dict[str, float]) -> None:
        """Notice a server that was started anew: its totals begin again."""
        before, self._last = self._last, values
        began, begins = before.get(ours.STARTED), values.get(ours.STARTED)
        other = began is not None and begins is not None and abs(begins - began) > 1.0
        if other or any(values.get(name, 0.0) < before.get(name, 0.0) for name in ours.TOTALS):
            text = "the server started anew while it was sampled: its totals are counted from then on"
            if ("server-restarted", text) not in self.notices:
                self.notices.append(("server-restarted", text))

    def _keep(self, name: str, text: str) -> bool:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{name}.metrics.txt"
            path.write_text(f"# scraped by rocscope at {now}\n{text}", encoding="utf-8", errors="replace")
        except OSError as error:
            self.notices.append(("metrics-not-kept", f"the text of /metrics could not be kept: {error}"))
            return False
        return True

    def _tell(self) -> None:
        if self._failed:
            text = f"{self._failed} of {self._tried} scrapes of {self._address}{PATH} failed: {self._why}"
            self.notices.append(("serving-scrapes-failed", text))
        if self._bad_lines:
            text = f"{self._bad_lines} lines of {PATH} were no samples and are left out"
            self.notices.append(("metrics-lines-dropped", text))


class Watch:
    """The sampler of a live run, which there may not be."""

    def __init__(self) -> None:
        self._sampler: ServingSampler | None = None

    def start(self, address: Address, outcome: Outcome, options: ProfileOptions) -> None:
        """Begin, unless nothing is to be sampled; texts go into ``raw/serving``."""
        if options.sample_hz:
            self._sampler = ServingSampler(address, outcome.run.request.raw / "serving")
            outcome.samplers.append(self._sampler)

    def mark(self, name: str) -> None:
        """Scrape now: the window begins or ends."""
        if self._sampler is not None:
            self._sampler.mark(name)

    def stop(self) -> None:
        """End it: a server that is ending answers no more."""
        if self._sampler is not None:
            self._sampler.stop()
