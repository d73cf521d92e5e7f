"""How a recording's kernels were launched: one by one, or in graphs."""

from __future__ import annotations

from typing import Final

import numpy as np

from rocscope import columns, metrics
from rocscope.comparison.side import Side

_IN_A_GRAPH: Final = 4  # dispatches of one call, from which it launched a graph
_GRAPHS_FRAC: Final = 0.25  # of dispatches in graphs: prefills are often launched one by one beside them
_EAGER_FRAC: Final = 0.01


def of(side: Side) -> str | None:
    """Return "eager" or "graphs", ``None`` where that is not certain.

    What the command and the server's log say counts first. Else calls that launched several dispatches are
    graphs. A recording without the calls' numbers tells nothing.
    """
    manifest = side.capture.manifest
    if "--enforce-eager" in manifest.command or (manifest.log_lines or {}).get("eager-mode"):
        return "eager"
    table = metrics.timing(side.capture).rows
    call, process = columns.ints(table["correlation_id"]), columns.ints(table["process"])
    known = call > 0
    if not known.any():
        return None
    ids, count = columns.identify([process[known], call[known]])
    several = np.bincount(ids, minlength=count)[ids] >= _IN_A_GRAPH
    share = float(several.mean())
    if share >= _GRAPHS_FRAC:
        return "graphs"
    return "eager" if share <= _EAGER_FRAC else None
