"""How many tokens, sequences and cached tokens the engine step of each kernel had, from step annotations.

vLLM's detailed annotations give exact sums. The plain ones give requests and new tokens only; what lies in
the cache then follows from the recording where nothing else fits: a request enters with a prefill, grows by
a token in each step it generates in, and leaves when there is one request fewer. Where more than one story
fits, the context is unknown. What plain annotations cannot show (tokens from a prefix cache, chunks of a
prompt computed before the recording began) only adds to it, so that such a context is the least there was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rocscope import columns, intervals, steps
from rocscope.capture import Capture
from rocscope.metrics import SHAPE, timing

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: Final = (  # mean over the dispatches of a row; NaN, None where not known
    "step_tokens",  # new tokens of the step
    "step_sequences",
    "step_context_tokens",  # sum over sequences of all their tokens, the new ones included
    "step_attended_pairs",  # sum over new tokens of the tokens that each attends to
    "step_phase",  # prefill | decode | mixed, None where dispatches differ
    "step_context_source",  # which annotations say so
    "step_rows_limit",  # rows that a product of the step can have, with padding and other ranks' tokens
)
_QUANTITIES: Final = COLUMNS[:4]
_PADDING: Final = 16  # vLLM captures graphs for multiples of 8 tokens, above 256 of 16
_ENOUGH_FRAC: Final = 0.9  # of a row's dispatches must be known for their mean to stand for all
_CLOSE_FRAC: Final = 0.02  # lengths that differ by less are as good as equal
_DETAILED: Final = "vLLM's detailed step annotations"
_PLAIN: Final = "vLLM's step annotations; tokens found in a prefix cache would add to it"

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Placed = Mapping[str, tuple[Ints, NDArray[Any]]]


def add(kernels: pd.DataFrame, capture: Capture, placed: Placed | None = None) -> pd.DataFrame:
    """Return ``kernels`` (rows of :func:`rocscope.metrics.group`, given ``placed``) with :data:`COLUMNS`.

    A dispatch belongs to the step in whose interval on the GPU it starts or, where annotations were recorded
    on the host only, to the one in which the call that launched it was made.
    """
    import pandas as pd

    found = described(capture)
    empty: dict[str, Any] = dict.fromkeys(_QUANTITIES, np.nan)
    if found.empty or kernels.empty:
        none = pd.Series([None] * len(kernels), kernels.index, dtype=object)
        return kernels.assign(**empty, step_phase=none, step_context_source=none, step_rows_limit=np.nan)
    table = timing(capture).rows.unify_dictionaries()
    keys, ids = _groups(table, placed or {})
    size = len(keys)
    index = step_of(table, found, capture)
    inside = index >= 0
    for name in _QUANTITIES:
        keys[name] = _mean(ids, np.where(inside, found[name].to_numpy(float)[index], np.nan), size)
    for name, values in (("step_phase", found["phase"]), ("step_context_source", found["source"])):
        codes, distinct = pd.factorize(values)
        told = np.where(inside, codes[index], -1)
        keys[name] = columns.sole(
            (told, np.asarray(distinct, object)), ids, size, columns.first_rows(ids, size)
        )
    padding = np.where(keys["step_tokens"] > 256, _PADDING, _PADDING // 2)
    ranks = max(capture.manifest.world_size or 1, len(pc.unique(table["gpu"])))
    keys["step_rows_limit"] = np.ceil(keys["step_tokens"] / padding) * padding * ranks
    on = [name for name in keys.columns if name not in COLUMNS]
    joined = kernels[on].merge(keys, on=on, how="left", sort=False).set_axis(kernels.index)
    texts = {
        name: pd.Series([value if isinstance(value, str) else None for value in joined[name]], dtype=object)
        for name in ("step_phase", "step_context_source")
    }
    return kernels.assign(
        **{name: joined[name].astype(float) for name in (*_QUANTITIES, "step_rows_limit")},
        **{name: values.set_axis(kernels.index) for name, values in texts.items()},
    )


def _groups(table: pa.Table, placed: Placed) -> tuple[pd.DataFrame, Ints]:
    """Number the rows as ``metrics.group`` does, and return what names each group."""
    import pandas as pd

    texts = {name: columns.text(table[name]) for name in ("kind", "kernel", "operator_shapes")}
    numbers = {name: columns.ints(table[name]) for name in ("gpu", *SHAPE)}
    coded = (*texts.values(), *placed.values())
    ids, size = columns.identify([*numbers.values(), *(codes for codes, _ in coded)])
    first = columns.first_rows(ids, size)
    keys: dict[str, Any] = {"gpu": numbers["gpu"][first]}
    for name, renamed in (("kind", "kind"), ("kernel", "raw_name"), ("operator_shapes", "operator_shapes")):
        keys[renamed] = pd.Series(columns.lookup(texts[name], first), dtype=object)
    for name in SHAPE:
        keys[name] = columns.known(table[name], ids, size)
    for name, told in placed.items():
        keys[name] = pd.Series(columns.lookup(told, first), dtype=object)
    return pd.DataFrame(keys), ids


def _mean(ids: Ints, values: Floats, size: int) -> Floats:
    """Return means of the known values of groups of which nearly all values are known."""
    known = ~np.isnan(values)
    count = np.bincount(ids[known], minlength=size)
    total = np.bincount(ids[known], weights=values[known], minlength=size)
    enough = count >= np.maximum(1, _ENOUGH_FRAC * np.bincount(ids, minlength=size))
    return np.where(enough, total / np.maximum(count, 1), np.nan)


def step_of(table: pa.Table, found: pd.DataFrame, capture: Capture) -> Ints:
    """Return the row of ``found`` that each dispatch belongs to, -1 where none.

    ``found`` are steps as :func:`rocscope.steps.annotated` gives them.
    """
    index = np.full(table.num_rows, -1, np.int64)
    gpu = columns.ints(table["gpu"])
    on_gpu = bool(found["on_gpu"].iloc[0])
    start = columns.ints(table["start_ns"]) if on_gpu else _launched_ns(table, capture)
    for each in found["gpu"].unique():
        mine = np.flatnonzero((found["gpu"] == each).to_numpy())
        rows = np.flatnonzero((gpu == each) & (start >= 0))
        begin, end = (found[name].to_numpy(np.int64)[mine] for name in ("start_ns", "end_ns"))
        at = intervals.inside(start[rows], begin, end)
        index[rows] = np.where(at >= 0, mine[at], -1)
    return index


def _launched_ns(table: pa.Table, capture: Capture) -> Ints:
    """Return when the call was made that launched each dispatch, -1 where not recorded."""
    import pandas as pd

    spans = capture.spans
    calls = columns.holds(spans["kind"], lambda kind: kind == "api")
    calls = spans.filter(pc.and_(calls, spans["correlation_id"].is_valid()))
    names = ["process", "correlation_id", "start_ns"]
    frame = pd.DataFrame({name: columns.ints(calls[name]) for name in names}).drop_duplicates(names[:2])
    wanted = pd.DataFrame({name: columns.ints(table[name]) for name in names[:2]})
    joined = wanted.merge(frame, on=names[:2], how="left", sort=False)
    launched: Ints = joined["start_ns"].fillna(-1).to_numpy(np.int64)
    return launched


def described(capture: Capture) -> pd.DataFrame:
    """Return the annotated steps of vLLM (:func:`rocscope.steps.annotated`) with what is known of each.

    Further columns: ``step_tokens``, ``step_sequences``, ``step_context_tokens``, ``step_attended_pairs``,
    NaN where not known, and ``source``.
    """
    frame = steps.annotated(capture)
    frame = frame[frame["phase"] != "step"].reset_index(drop=True)
    if frame.empty:
        return frame
    detailed = frame["attended_tokens"].notna()
    context = frame["attended_tokens"].astype(float).to_numpy(copy=True)
    pairs = frame["attended_pairs"].astype(float).to_numpy(copy=True)
    counts = ["context_requests", "context_tokens", "generation_requests", "generation_tokens"]
    numbers = frame[counts].to_numpy(np.int64)
    for gpu in frame["gpu"].unique():
        running = Running()
        for row in np.flatnonzero(((frame["gpu"] == gpu) & ~detailed).to_numpy()):
            context[row], pairs[row] = running.step(*(int(number) for number in numbers[row]))
    return frame.assign(
        step_tokens=frame["context_tokens"].astype(float) + frame["generation_tokens"].astype(float),
        step_sequences=frame["context_requests"].astype(float) + frame["generation_requests"].astype(float),
        step_context_tokens=context,
        step_attended_pairs=pairs,
        source=np.where(detailed, _DETAILED, _PLAIN),
    )


@dataclass
class Running:
    """The requests that generate, as far as plain annotations tell their lengths.

    ``cohorts`` are (requests, all their tokens): those that were prefilled in one step, of which only the
    sum is known. ``None`` where the story is lost, until no request is left.
    """

    cohorts: list[tuple[int, float]] | None = field(default=None)
    prefilled: bool = False  # the step before had a prefill, maybe not the prompt's last chunk

    def step(self, requests: int, tokens: int, running: int, made: int) -> tuple[float, float]:
        """Follow one step: ``requests`` prefill ``tokens``, ``running`` generate ``made``.

        Returns the sums over all requests of tokens in the cache after the step, and of attended pairs.
        """
        self._settle(running, made)
        generated = np.nan
        if self.cohorts is not None:
            self.cohorts = [(count, total + count) for count, total in self.cohorts]
            generated = float(sum(total for _, total in self.cohorts))
        context = generated + tokens
        pairs = generated + tokens * (tokens + 1) / 2 if requests <= 1 else np.nan
        if requests and self.cohorts is not None:
            self.cohorts.append((requests, float(tokens)))
        self.prefilled = requests > 0
        return context, pairs

    def _settle(self, running: int, made: int) -> None:
        """Let those go that generate no more."""
        if not running and not self.prefilled:
            self.cohorts = []  # all have ended, or none has been seen yet
            return
        if self.cohorts is None:
            return
        before = sum(count for count, _ in self.cohorts)
        if made != running or running > before or (running < before and self.prefilled):
            self.cohorts = None  # speculation, resumption, or a prompt of which only a chunk is done
        elif running < before:
            self.cohorts = _remaining(self.cohorts, running)


def _remaining(cohorts: list[tuple[int, float]], left: int) -> list[tuple[int, float]] | None:
    """Return what is left when it is not known who ended: known only if all are about as long."""
    lengths = sorted(total for count, total in cohorts if count == 1)
    if len(lengths) != len(cohorts) or (lengths[-1] - lengths[0]) > _CLOSE_FRAC * lengths[-1]:
        return None
    return [(left, left * float(np.mean(lengths)))]
