"""Decode attention whose context no annotation tells, by the mean context that the user gives.

How many sequences a dispatch has is said by the step's annotation or by the grid of kernels that only decode:
the recorded decoder's and examples/triton_decoder's (sequences, key-value heads[, segments]); vLLM's
csrc/attention/attention_kernels.cuh (heads, sequences, partitions) and csrc/rocm/attention.cu (sequences,
partitions, key-value heads), whose reductions have (heads, sequences). vLLM pads its graphs, but for one and
two sequences: its own kernels' grids are believed up to there, and larger ones leave the context unknown.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from rocscope.kernel_names import short_name

if TYPE_CHECKING:
    import pandas as pd

SOURCE: Final = "given by --context"
_ANY: Final = 1 << 31
_GRIDS: Final = (  # names, the axis of the sequences, and how many at most are no padding
    (re.compile(r"^paged_attention_decode_(split_|reduce_)?kernel$"), "x", _ANY),
    (re.compile(r"^paged_attention_v(1|2|2_reduce)_kernel$"), "y", 2),
    (re.compile(r"^paged_attention_ll4mi_QKV_\w+_kernel$"), "x", 2),
    (re.compile(r"^paged_attention_ll4mi_reduce_kernel$"), "y", 2),
)


def fill(kernels: pd.DataFrame, context: float | None) -> pd.DataFrame:
    """Return ``kernels`` (with :data:`rocscope.step_context.COLUMNS`) with ``context`` where none is known.

    ``context`` is the mean of all tokens of a running request, the new one included. Rows of attention
    that decode get it, times their sequences; what annotations tell stays, and so does what is not certain
    to decode.
    """
    if context is None or kernels.empty:
        return kernels
    attends = (kernels["family"] == "attention") & kernels["step_context_tokens"].isna()
    decodes = attends & (kernels["step_phase"] == "decode") & kernels["step_sequences"].notna()
    launched = kernels["step_sequences"].where(decodes)
    for row in kernels.index[attends & kernels["step_phase"].isna()]:
        launched[row] = _sequences(kernels.loc[row])
    known = launched.notna()
    tokens = kernels["step_tokens"].where(decodes, launched)
    # with drafted tokens, each attends to fewer than the last one
    pairs = (launched * context).where(tokens == launched)
    told = zip(kernels["step_context_source"], decodes, known, strict=True)
    sources = [_source(source, annotated=annotated) if given else source for source, annotated, given in told]
    phases = ["decode" if given else phase for phase, given in zip(kernels["step_phase"], known, strict=True)]
    return kernels.assign(
        step_tokens=tokens.where(known, kernels["step_tokens"]),
        step_sequences=launched.where(known, kernels["step_sequences"]),
        step_context_tokens=(launched * context).where(known, kernels["step_context_tokens"]),
        step_attended_pairs=pairs.where(known, kernels["step_attended_pairs"]),
        step_phase=_texts(phases, kernels),
        step_context_source=_texts(sources, kernels),
    )


def _sequences(row: pd.Series) -> float:
    """Return the sequences that the launch of a kernel that only decodes tells; NaN where it does not."""
    name = short_name(row["raw_name"])
    for pattern, axis, most in _GRIDS:
        items, size = row[f"grid_{axis}"], row[f"workgroup_{axis}"]
        if pattern.match(name) and items > 0 and size > 0 and items % size == 0 and items // size <= most:
            return float(items // size)
    return float("nan")


def _source(annotated_by: str | None, *, annotated: bool) -> str:
    return f"{SOURCE}, sequences by {annotated_by}" if annotated and annotated_by else SOURCE


def _texts(values: list[str | None], kernels: pd.DataFrame) -> pd.Series:
    """Return texts with ``None`` where there is none, which pandas would take for NaN."""
    import pandas as pd

    column = np.empty(len(values), dtype=object)
    column[:] = [value if isinstance(value, str) else None for value in values]
    return pd.Series(column, kernels.index, dtype=object)
