"""A comparison as a gate: does it show a regression, and could it have shown one?

A regression is a tier whose verdict is ``worse`` (its whole interval lies on that side of no change) and
whose measured change is at least the limit. A gate that cannot see is not passed: where no tier was judged,
or none would have shown a change as large as the limit, that is an error of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from rocscope.comparison.result import Comparison, Tier
from rocscope.errors import NotJudged, RegressionFound, UsageError
from rocscope.wording import change, percent


@dataclass(frozen=True)
class Gate:
    """The largest change for the worse that is let through, as a share."""

    limit_frac: float

    def check(self, comparison: Comparison) -> list[str]:
        """Return what a user should know where no regression is shown: tiers that would not have shown it.

        Raises :class:`RegressionFound`, or :class:`NotJudged` where nothing could be told.
        """
        whole = [comparison, *comparison.more]
        found = [
            (index, tier) for index, each in enumerate(whole) for tier in regressions(each, self.limit_frac)
        ]
        if found:
            raise RegressionFound(
                f"{len(found)} figure{'s are' if len(found) > 1 else ' is'} worse by "
                f"{percent(self.limit_frac)} or more: "
                + "; ".join(_told(tier, index if len(whole) > 1 else None) for index, tier in found),
                "see which kernels changed with it, above or in --out",
            )
        for index, each in enumerate(whole):
            _judged(each, f" (new {index + 1})" if len(whole) > 1 else "", self.limit_frac)
        return [
            f"a regression of {percent(self.limit_frac)} would not have been shown in {tier.tier} "
            f"{tier.metric} (it would from {percent(least)} on)"
            for each in whole
            for tier in each.tiers
            if (least := least_shown(tier)) is not None and least > self.limit_frac
        ]


def regressions(comparison: Comparison, limit_frac: float) -> list[Tier]:
    """Return the tiers that are shown to be worse, by ``limit_frac`` or more as measured."""
    return [
        tier
        for tier in comparison.tiers
        if comparison.comparable and tier.verdict == "worse" and abs(tier.change_frac) >= limit_frac
    ]


def least_shown(tier: Tier) -> float | None:
    """Return the smallest change of a tier that would have been shown; ``None`` where none was judged."""
    if tier.noise_floor_frac is not None:
        return tier.noise_floor_frac
    if tier.low_frac is None or tier.high_frac is None:
        return None
    return max(tier.change_frac - tier.low_frac, tier.high_frac - tier.change_frac)


def _judged(comparison: Comparison, which: str, limit_frac: float) -> None:
    if not comparison.comparable:
        raise NotJudged(
            f"the recordings{which} cannot be compared: {'; '.join(comparison.why_not)}",
            "compare recordings of one setting, or name with --across what was changed on purpose",
        )
    least = [found for tier in comparison.tiers if (found := least_shown(tier)) is not None]
    if not least:
        raise NotJudged(
            f"nothing{which} could be judged: no step and no load in common, or too few steps",
            "record at least ten steps, better a few hundred, of the same load on both sides",
        )
    if min(least) > limit_frac:
        raise NotJudged(
            f"a regression of {percent(limit_frac)} would not have been shown{which}: the smallest change "
            f"that would is {percent(min(least))}",
            "record more steps, or repeats of either side; or allow more",
        )


def _told(tier: Tier, index: int | None) -> str:
    which = "" if index is None else f"new {index + 1}, "
    return f"{which}{tier.tier} {tier.metric} {change(tier.change_frac)}"


def share(option: str, text: str) -> float:
    """Read ``3%``, ``3 %`` or ``0.03`` as 0.03. Raises :class:`UsageError`."""
    plain = text.strip()
    percents = plain.endswith("%")
    try:
        value = float(plain.rstrip("%").strip()) / (100 if percents else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        more = f", or {plain}% for per cent" if value >= 1 and not percents else ""
        raise UsageError(f"{option} {text}: not a share", f"write for example 3% or 0.03{more}")
    return value
