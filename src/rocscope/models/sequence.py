"""Which layer of the served model each matrix product is, from its place in the order of each step.

One kernel and launch shape may serve several layers, and a graph replay carries no operators. But a
transformer runs its layers in one order: query-key-value product, attention, output product, gate-up product,
activation, down product, and the head once a step. A stream of dispatches is read as that order only if all
of it fits: as many layers a step as the model has, in every step (cut off only at either end of the
recording), and every launch consistent with the layer that it is placed at. One violation, and nothing of
that stream is placed.

Rows of a product (tokens of a step) are those that the step's activations were launched for, a workgroup a
row, which counts the padding of a graph too; without activations, and with experts, those of its fused norms;
without launches, as in graph replays on ROCm, those that fused GPTQ products have in their names. Where
two of these disagree, M is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rocscope import columns
from rocscope.kernel_names import short_name
from rocscope.models import fits, gemm, gptq
from rocscope.models.model import Dispatch
from rocscope.models.served import ServedModel
from rocscope.models.shapes import workgroups

if TYPE_CHECKING:
    import pandas as pd

Ints = NDArray[np.int64]
Tags = dict[str, tuple[Ints, NDArray[Any]]]

_SHAPE: Final = ("grid_x", "grid_y", "grid_z", "workgroup_x", "workgroup_y", "workgroup_z")
_PRODUCTS: Final = ("gemm", "gptq_gemm", "awq_gemm", "bnb_gemm")
_NO_PRODUCT: Final = ("gptq_load_shuffle",)
_AFTER: Final = re.compile(r"^splitKreduce|PostGSU|^reduce_1Block")
"""Kernels that add up what the product before them left in parts."""
_BEFORE: Final = re.compile(
    rf"^reconstruct_|^awq_dequantize_kernel$|^dequantize_weights$|^kDequantizeBlockwise|{gemm.CLEARS.pattern}"
)
"""Kernels that write out the weights of the product after them, or clear its output."""
_EXPERTS: Final = ("fused_moe_triton", "fused_moe_wna16", "triton_kernels_matmul_ogs")
_TOKENS: Final = {"act_and_mul_kernel": 0, "silu_and_mul_kernel": 0, "fused_add_rms_norm_kernel": 1}
"""Kernels with a row of workgroups a token along x, and in which order they are asked."""
_BATCHED: Final = "aten::bmm"  # attention written as products
_CLASH: Final = -2  # two kinds of kernels that count tokens do not agree
_BY_ROWS: Final = 2  # asked last: fused GPTQ products of fewer than eight rows, whose name tells them

_DENSE: Final = (
    ("PAPPSP", ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")),
    ("PPPAPPPSP", ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")),
    ("PPPAPPSP", ("q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj")),
    ("PAPPPSP", ("qkv_proj", "o_proj", "gate_proj", "up_proj", "down_proj")),
)
_SPARSE: Final = (
    ("PAPPESE", ("qkv_proj", "o_proj", "router", "experts_gate_up", "experts_down")),
    ("PAPPEE", ("qkv_proj", "o_proj", "router", "experts_gate_up", "experts_down")),
)


@dataclass(frozen=True)
class _Group:
    """Dispatches of one kernel, launch and operator: what they are in the order of a step."""

    letter: str  # P product, E experts, A attention, S activation, D before, R after, "" no part of the order
    dispatch: Dispatch
    tokens: int | None  # rows, of a kernel that has a workgroup a row
    asked: int  # which of those kernels is believed first
    full: tuple[Any, ...] | None  # launch of a fused GPTQ product of eight rows a workgroup
    rest: tuple[Any, ...] | None  # of its remainder


def place(rows: pa.Table, names: pd.DataFrame, served: ServedModel) -> Tags | None:
    """Return for each of ``rows`` (of ``metrics.timing``) its layer, its rows M and its parts; or ``None``.

    Columns as :func:`rocscope.columns.text` gives them, code -1 where unknown: ``layer`` (names of layers
    of one shape, with "/" between), ``layer_m``, ``layer_parts`` (of split-K). ``names`` is what
    ``taxonomy.classify`` says. ``None`` where nothing was placed.
    """
    if not served.linears_complete or not rows.num_rows:
        return None
    table = rows.unify_dictionaries()
    texts = {name: columns.text(table[name]) for name in ("kernel", "operator", "operator_shapes")}
    numbers = [columns.ints(table[name]) for name in _SHAPE]
    ids, size = columns.identify([*(codes for codes, _ in texts.values()), *numbers])
    groups = _groups(texts, numbers, columns.first_rows(ids, size), names)
    start = columns.ints(table["start_ns"])
    stream = columns.ints(pc.coalesce(table["stream"], table["queue"]))
    streams, count = columns.identify([columns.ints(table["process"]), columns.ints(table["gpu"]), stream])
    letters = np.array([ord(each.letter or ".") for each in groups], np.uint8)
    usable = (start >= 0) & (columns.ints(table["count"]) == 1)
    relevant = usable & ((letters != ord(".")) | np.array([g.tokens is not None for g in groups]))[ids]
    found = np.full((3, table.num_rows), -1, np.int64)
    order = np.flatnonzero(relevant)
    order = order[np.lexsort((start[order], streams[order]))]
    labels: list[str] = []
    edges = np.searchsorted(streams[order], np.arange(count + 1))
    for begin, end in pairwise(edges.tolist()):
        _Stream(order[begin:end], ids, groups, letters, served, labels).place(found)
    if not labels:
        return None
    m, m_values = _factorised(found[1])
    parts, part_values = _factorised(found[2])
    return {
        "layer": (found[0], np.array(labels, object)),
        "layer_m": (m, m_values),
        "layer_parts": (parts, part_values),
    }


def _factorised(values: Ints) -> tuple[Ints, NDArray[Any]]:
    """Return codes, -1 for what is below 1, and the distinct values they stand for."""
    distinct, codes = np.unique(np.maximum(values, 0), return_inverse=True)
    if len(distinct) and distinct[0] == 0:
        distinct, codes = distinct[1:], codes - 1
    return codes.astype(np.int64), np.array(distinct.tolist(), object)


def _groups(
    texts: dict[str, tuple[Ints, NDArray[Any]]], numbers: list[Ints], first: Ints, names: pd.DataFrame
) -> list[_Group]:
    from rocscope.models.apply import operands

    known = names.drop_duplicates("raw_name").set_index("raw_name")[["family", "subfamily"]].to_dict("index")
    raw, operators, shapes = (columns.lookup(texts[name], first) for name in texts)
    found = []
    for index, row in enumerate(first):
        name = raw[index] or ""
        family, subfamily = (known.get(name, {}).get(key) for key in ("family", "subfamily"))
        x, y, z, *group = (int(values[row]) for values in numbers)
        dispatch = Dispatch(
            raw_name=name,
            family=family or "other",
            subfamily=subfamily if isinstance(subfamily, str) else "",
            kind="kernel",
            grid=(x, y, z) if min(x, y, z) > 0 else None,
            grid_items=None,
            workgroup=(group[0], group[1], group[2]) if min(group) > 0 else None,
            operator=operators[index],
            operands=operands(shapes[index]),
            copied_bytes=None,
            lds_bytes=None,
            gpu=None,
        )
        found.append(_group(dispatch))
    return found


def _group(dispatch: Dispatch) -> _Group:
    name, grid = short_name(dispatch.raw_name), workgroups(dispatch)
    letter, family = "", dispatch.family
    if _AFTER.search(name):
        letter = "R"
    elif _BEFORE.search(name):
        letter = "D"
    elif family in _PRODUCTS and dispatch.subfamily not in _NO_PRODUCT and dispatch.operator != _BATCHED:
        letter = "P"
    elif family == "moe" and dispatch.subfamily in _EXPERTS:
        letter = "E"
    elif family in ("attention", "activation"):
        letter = "A" if family == "attention" else "S"
    launch = (name, *(grid or (0, 0, 0))[::2])
    rows = gptq.remainder(dispatch) if (grid or (1, 1))[1] == 1 else None
    full, rest = (launch if each else None for each in (gptq.full_rows(dispatch), rows))
    tokens = grid[0] if name in _TOKENS and grid else rows
    return _Group(letter, dispatch, tokens, _TOKENS.get(name, _BY_ROWS), full, rest)


def _plans(served: ServedModel) -> Iterator[tuple[bytes, list[str]]]:
    """Yield the orders in which a step may run: a letter a product, attention and activation, and layers."""
    for layer, products in _SPARSE if served.experts else _DENSE:
        for head in (True, False):
            if head and served.lm_head is None:
                continue
            step = layer * served.layers + ("P" if head else "")
            roles = iter([*products * served.layers, *(["lm_head"] if head else [])])
            yield step.encode(), [next(roles) if letter in "PE" else "" for letter in step]


@dataclass
class _Stream:
    """The dispatches of one stream that tell the order, as they ran."""

    rows: Ints  # of the table
    ids: Ints  # group of each row of the table
    groups: list[_Group]
    letters: NDArray[np.uint8]  # of each group
    served: ServedModel
    labels: list[str]

    def place(self, found: NDArray[np.int64]) -> None:
        """Set layer, rows and parts of this stream's dispatches in ``found``, if all of them fit."""
        kinds = self.letters[self.ids[self.rows]]
        tokens = np.flatnonzero(np.isin(kinds, np.frombuffer(b"PEAS", np.uint8)))
        if not (kinds == ord("A")).any() or not (kinds == ord("P")).any():
            return
        calls, starts = self._calls(kinds, tokens, repeats=False)
        matched = self._match(kinds[starts])
        if matched is None:
            calls, starts = self._calls(kinds, tokens, repeats=True)
            matched = self._match(kinds[starts])
        if matched is None:
            return
        roles, step, names = matched
        layer = np.full(len(self.rows), -1, np.int64)
        layer[tokens] = roles[calls]
        step_of = self._beside(kinds, tokens, layer, step[calls])
        if step_of is None:
            return
        m = self._needed(self._tokens(starts, step, names, layer, step_of))
        self._write(found, layer, m, names)

    def _calls(self, kinds: NDArray[np.uint8], tokens: Ints, *, repeats: bool) -> tuple[Ints, Ints]:
        """Number the entries of the order; return the number of each token and where each entry starts.

        Successive dispatches of attention, or of an activation, are one entry; so are the two dispatches of
        a fused GPTQ product. With ``repeats`` so is one launch over and over.
        """
        group = self.ids[self.rows[tokens]]
        kind = kinds[tokens]
        same = np.zeros(len(tokens), bool)
        same[1:] = (kind[1:] == kind[:-1]) & np.isin(kind[1:], np.frombuffer(b"AS", np.uint8))
        codes: dict[Any, int] = {None: -1}
        full = np.array([codes.setdefault(each.full, len(codes)) for each in self.groups])[group]
        rest = np.array([codes.setdefault(each.rest, len(codes)) for each in self.groups])[group]
        same[1:] |= (full[:-1] >= 0) & (full[:-1] == rest[1:])
        if repeats:
            same[1:] |= group[1:] == group[:-1]
        return np.cumsum(~same) - 1, tokens[~same]

    def _match(self, kinds: NDArray[np.uint8]) -> tuple[Ints, Ints, list[str]] | None:
        """Return role and step of each entry, and the roles' names; ``None`` where no order fits.

        Between the parts of steps at either end there is at least one whole step.
        """
        text = kinds.tobytes()
        for step, products in _plans(self.served):
            first = text.find(step)
            count = (len(text) - first) // len(step)
            if first < 0 or text[first : first + count * len(step)] != step * count:
                continue
            if step.endswith(text[:first]) and step.startswith(text[first + count * len(step) :]):
                names = sorted({name for name in products if name})
                codes = np.array([names.index(name) if name else -1 for name in products])
                place = np.arange(len(text)) + (len(step) - first) % len(step)
                steps = place // len(step)
                return codes[place % len(step)], steps - steps[0], names
        return None

    def _beside(self, kinds: NDArray[np.uint8], tokens: Ints, layer: Ints, step: Ints) -> Ints | None:
        """Give what comes before or after a product its layer; return the step of each row.

        ``None`` where such a kernel stands beside no product, unless the recording cuts it off from its own:
        then the order is not what it seems.
        """
        before, after = np.flatnonzero(kinds == ord("D")), np.flatnonzero(kinds == ord("R"))
        before, after = before[before < tokens[-1]], after[after > tokens[0]]
        coming = np.searchsorted(tokens, before)
        gone = np.searchsorted(tokens, after) - 1
        if not (kinds[tokens[np.concatenate([coming, gone])]] == ord("P")).all():
            return None
        layer[before], layer[after] = layer[tokens[coming]], layer[tokens[gone]]
        found = np.full(len(self.rows), -1, np.int64)
        found[tokens], found[before], found[after] = step, step[coming], step[gone]
        return found

    def _tokens(self, starts: Ints, step: Ints, names: list[str], layer: Ints, step_of: Ints) -> Ints:
        """Return M of each row, -1 where unknown: the tokens that the step's other kernels ran for."""
        count = int(step.max()) + 1
        begins = starts[np.searchsorted(step, np.arange(count))]
        group = self.ids[self.rows]
        told = np.array([-1 if each.tokens is None else each.tokens for each in self.groups])[group]
        asked = np.array([each.asked for each in self.groups])[group]
        at = np.searchsorted(begins, np.arange(len(group)), side="right") - 1
        inside = (at >= 0) & (np.arange(len(group)) <= starts[-1])
        found = np.full(count, -1, np.int64)
        # activations of experts run for each token once an expert: there only norms count tokens
        for rank in (1, 2) if self.served.experts else (0, 1, 2):
            mine = np.flatnonzero((told > 0) & (asked == rank) & inside)
            low = np.full(count, np.iinfo(np.int64).max)
            high = np.full(count, -1, np.int64)
            np.minimum.at(low, at[mine], told[mine])
            np.maximum.at(high, at[mine], told[mine])
            known = low == high
            if rank == _BY_ROWS:  # the rest of a product whose other rows are a dispatch of their own
                whole = np.array([each.full is not None for each in self.groups])[group]
                known &= np.bincount(at[whole & inside], minlength=count) == 0
            clash = known & (found != -1) & (found != high)
            found = np.where(clash, _CLASH, np.where(known & (found == -1), high, found))
        found = np.maximum(found, -1)
        m = np.where(step_of >= 0, found[step_of], -1)
        if "lm_head" in names:  # the head runs for the last token of each sequence only
            head = layer == names.index("lm_head")
            m = np.where(head & (m != 1), -1, m)
        return m

    def _needed(self, m: Ints) -> Ints:
        """Forget M where a launch tells its own rows and products of several M share it: one problem.

        Rows of a fused GPTQ dispatch of eight may be of products of 8 as of 11 tokens.
        """
        group = self.ids[self.rows]
        own = np.array(
            [bool(each.full or each.rest) and each.dispatch.grid is not None for each in self.groups]
        )
        low = np.full(len(self.groups), np.iinfo(np.int64).max)
        high = np.full(len(self.groups), -1, np.int64)
        np.minimum.at(low, group, m)
        np.maximum.at(high, group, m)
        found: Ints = np.where((own & (low != high))[group], -1, m)
        return found

    def _write(self, found: NDArray[np.int64], layer: Ints, m: Ints, names: list[str]) -> None:
        placed = np.flatnonzero(layer >= 0)
        group = self.ids[self.rows[placed]]
        pairs, count = columns.identify([group, layer[placed], m[placed]])
        first = placed[columns.first_rows(pairs, count)]
        ids = self.ids[self.rows[first]]
        parts = np.full(count, -1, np.int64)
        for index, (each, role, rows) in enumerate(
            zip(ids.tolist(), layer[first].tolist(), m[first].tolist(), strict=True)
        ):
            linear, known = self.served.layer(names[role]), rows if rows > 0 else None
            if linear is None or not fits.fits(self.groups[each].dispatch, linear, known, self.served):
                return
            parts[index] = fits.parts(self.groups[each].dispatch, linear, known) or -1
        codes = np.array([_code(self.labels, label) for label in _labels(names, self.served)])
        found[0, self.rows[placed]] = codes[layer[placed]]
        found[1, self.rows[placed]] = m[placed]
        split = parts[pairs]
        split = np.where(self._is("R", placed), np.concatenate([[-1], split[:-1]]), split)
        found[2, self.rows[placed]] = split

    def _is(self, letter: str, at: Ints) -> NDArray[np.bool_]:
        same: NDArray[np.bool_] = self.letters[self.ids[self.rows[at]]] == ord(letter)
        return same


def _labels(names: list[str], served: ServedModel) -> list[str]:
    """Return a label for each layer; layers of one shape share theirs, as they are one problem."""
    shapes = [(each.n, each.k) if (each := served.layer(name)) else None for name in names]
    return ["/".join(n for n, s in zip(names, shapes, strict=True) if s == shape) for shape in shapes]


def _code(labels: list[str], label: str) -> int:
    if label not in labels:
        labels.append(label)
    return labels.index(label)
