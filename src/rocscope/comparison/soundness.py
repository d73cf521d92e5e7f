"""What weakens a comparison on either side: a recording that is cut off, damaged or lacks a part."""

from __future__ import annotations

from typing import Final

from rocscope.comparison.side import Side

# Warnings of an analysis after which less was compared than was run; what else it warns of is in its report.
_LACKS: Final = frozenset(
    {
        *("truncated-file", "malformed-json", "malformed-rows", "bad-cell", "bad-cells", "dropped-rows"),
        *("unreadable", "unreadable-file", "unreadable-folder", "data-lost", "partial-recording"),
        *("dropped-dispatches", "launches-without-kernels", "negative-durations", "untimed-dispatches"),
        "ranks-missing",
    }
)
_MOST: Final = 3  # of a side


def notes(base: Side, new: Side) -> list[str]:
    """Say what either side lacks, base first."""
    told = []
    for name, side in (("base", base), ("new", new)):
        found = [
            warned.message
            for run in side.runs
            for warned in run.analysis.integrity.warnings
            if warned.code in _LACKS
        ]
        found = list(dict.fromkeys(found))
        told += [f"{name}: {message}" for message in found[:_MOST]]
        if len(found) > _MOST:
            told.append(f"{name}: {len(found) - _MOST} more warnings of what it lacks, in its own report")
    return told


def codes(side: Side) -> list[str]:
    """Return the codes of all warnings of a side's integrity."""
    return sorted({warned.code for run in side.runs for warned in run.analysis.integrity.warnings})
