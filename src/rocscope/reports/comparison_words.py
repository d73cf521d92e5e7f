"""A comparison in words and cells, the same for every report of it."""

from __future__ import annotations

from typing import Any, Final

from rocscope.comparison.result import Comparison, Difference, Forecast, Tier
from rocscope.reports import figures
from rocscope.reports.summary import heading

METRICS: Final = {
    "period_s": "period",
    "output_tokens_per_s": "tokens a second",
    "tpot_s": "time a token",
    "ttft_s": "time to the first token",
    "itl_s": "time between tokens",
    "latency_s": "time of a request",
}
GLOSSARY: Final = (
    ("Change", "New against base, of the base: +10 % of a time is slower, of a throughput faster."),
    ("Interval", "Where the true change lies; all intervals here hold at once with the stated chance."),
    ("Better, worse", "The whole interval lies on one side of zero."),
    ("No difference shown", "The recordings do not tell the two apart; it is no proof that they are equal."),
    ("Noise floor", "The smallest change that these recordings would have shown."),
    ("Of a base step", "A part's change in time over the time of a whole base step: its effect on the step."),
    ("Renamed", "Another kernel that does the same thing at the same place of a step."),
    ("Forecast", "The gain that a target of the base recording promised; a hit if what came lies in it."),
)
IDLE: Final = "idle"
PARTS: Final = {IDLE: "no kernel runs", "overlap": "kernels that run at once"}
_MORE: Final = {"period_s": ("longer", "shorter"), "output_tokens_per_s": ("more", "fewer")}


def headline(comparison: Comparison) -> str:
    """Return the verdict in one sentence: of a single figure with its change, of several where each holds."""
    if not comparison.comparable:
        return "These recordings cannot be compared."
    tiers = comparison.tiers
    if not tiers:
        return "No verdict: the recordings have no steps and no load in common."
    if len(tiers) == 1:
        return _alone(tiers[0])
    verdicts: dict[str, list[str]] = {}
    for name in dict.fromkeys(tier.tier for tier in tiers):
        said = {tier.verdict for tier in tiers if tier.tier == name}
        verdict = said.pop() if len(said) == 1 else _mixed([tier for tier in tiers if tier.tier == name])
        verdicts.setdefault(verdict, []).append(name)
    order = ["better", "worse", "better and worse", "no difference shown"]
    told = [f"{verdict} {_listed(verdicts[verdict])}" for verdict in order if verdict in verdicts]
    text = "; ".join(told)
    return f"{text[:1].upper()}{text[1:]}."


def banner(comparison: Comparison) -> str:
    """Return the first line of a report where a device side was not recorded, else ``""``."""
    sides = [("Base", comparison.base), *(("New", each.new) for each in (comparison, *comparison.more))]
    odd = [
        f"{name} is {about['provenance']}, not recorded."
        for name, about in sides
        if about.get("provenance") not in (None, "recorded")
    ]
    return " ".join(dict.fromkeys(odd))


def _mixed(tiers: list[Tier]) -> str:
    """Name a verdict that figures of one tier do not share."""
    clear = sorted({tier.verdict for tier in tiers} - {"no difference shown"})
    return clear[0] if len(clear) == 1 else "better and worse"


def _listed(names: list[str]) -> str:
    """Name tiers in a sentence: ``at concurrency 1``, ``in the step``, ``in steps of 4 sequences``."""
    told = [
        f"in steps of {name.removeprefix('step, ')}"
        if name.startswith("step, ")
        else "in the step"
        if name == "step"
        else f"at {name}"
        for name in names[:4]
    ]
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(told) + more


def _alone(tier: Tier) -> str:
    if tier.verdict == "no difference shown":
        return f"No difference is shown in {_of(tier)}."
    longer, shorter = _MORE.get(tier.metric, ("more", "less"))
    much = f"{figures.percent(abs(tier.change_frac))} {longer if tier.change_frac > 0 else shorter}"
    if tier.metric == "period_s":
        return f"New is {tier.verdict}: a {tier.tier} takes {much}."
    return f"New is {tier.verdict}: {much} {_of(tier)}."


def _of(tier: Tier) -> str:
    """Name a figure in a sentence: ``the period of a step``, ``tokens a second at concurrency 16``."""
    if tier.metric == "period_s":
        return f"the period of a {tier.tier}"
    return f"{metric(tier)} at {tier.tier}"


def metric(tier: Tier) -> str:
    """Name what a tier measures."""
    name, _, quantile = tier.metric.partition("_p9")
    if quantile:
        whole = METRICS.get(f"{name}_s", name.replace("_", " "))
        return f"{whole}, 9{quantile.removesuffix('_s')}th percentile"
    return METRICS.get(tier.metric, tier.metric.removesuffix("_s").replace("_", " "))


def amount(value: float | None, unit: str) -> str:
    """Write a tier's figure with its unit."""
    if unit == "s":
        return figures.seconds(value)
    if value is None:
        return figures.UNKNOWN
    return f"{figures.significant(value, 4)}{figures.NBSP}{unit}".rstrip()


def interval(low_frac: float | None, high_frac: float | None) -> str:
    """Write an interval of a change, or a dash."""
    if low_frac is None or high_frac is None:
        return figures.UNKNOWN
    return f"{figures.change(low_frac)} to {figures.change(high_frac)}"


def how_sure(comparison: Comparison) -> str:
    """Return what verdicts rest on: chance, noise floor, repeats."""
    told = []
    found = comparison.statistics
    if found is not None:
        base, new = (figures.count(each) for each in found.units)
        told.append(
            f"all intervals hold at once with {figures.percent(found.level)} chance, over {base} and {new} "
            f"{found.unit}s and {figures.count(found.comparisons)} comparisons"
        )
    if comparison.noise_floor_frac is not None:
        floor, first = figures.percent(comparison.noise_floor_frac), comparison.tiers[:1]
        of = f" in {_of(first[0])}" if first else ""
        told.append(f"a change of less than {floor}{of} would not show")
    return "".join(f"{text[:1].upper()}{text[1:]}. " for text in told).strip()


def sides(comparison: Comparison) -> list[tuple[str, str]]:
    """Return the two recordings in words, base first."""
    return [("Base", side(comparison.base)), ("New", side(comparison.new))]


def side(about: dict[str, Any]) -> str:
    """Name a recording: its files, GPUs, how often it was repeated."""
    sources = [str(each) for each in about.get("sources") or () if each]
    gpus = [str(each) for each in about.get("gpus") or () if each]
    parts = [", ".join(sources[:3]) + (f" and {len(sources) - 3} more" if len(sources) > 3 else "")]
    if gpus:
        parts.append(f"{len(gpus)} × {', '.join(sorted(set(gpus)))}")
    if (about.get("repeats") or 1) > 1:
        parts.append(f"{about['repeats']} repeats")
    if about.get("provenance") not in (None, "recorded"):
        parts.append(str(about["provenance"]))
    if warned := len(about.get("warnings") or ()):
        parts.append(f"{warned} integrity warning{'' if warned == 1 else 's'}")
    return " · ".join(part for part in parts if part) or str(about.get("id") or figures.UNKNOWN)


def parts(comparison: Comparison) -> list[Difference]:
    """Return the families with the rest of a step, what changed the step most first."""
    rows = [*comparison.families, *comparison.gaps]
    if comparison.times_of == "step":
        return sorted(rows, key=lambda row: -abs(row.step_frac or 0.0))
    return rows


def weight(row: Difference) -> float:
    """Return how much a row did: its part in the change of a step, else of the recording, s."""
    if row.step_frac is not None:
        return abs(row.step_frac)
    return abs((row.new_s or 0.0) - (row.base_s or 0.0))


def part(row: Difference) -> str:
    """Name a part of a step: a family, or what is left between kernels."""
    return PARTS.get(row.name, row.name) if row.family is None else row.name


def went(row: Difference) -> str:
    """Say of a row that has no counterpart where it is."""
    return {"base only": "only in base", "new only": "only in new"}.get(row.match or "", "")


def own_shape(row: Difference) -> str:
    """Write the shape that tells a kernel from others of its name; ``""`` of one that was renamed."""
    known = None if row.match == "renamed" else row.problem_shape or row.launch_shape
    told = shape(known) if known else figures.UNKNOWN
    return "" if told == figures.UNKNOWN else told


def shape(found: dict[str, Any]) -> str:
    """Write a launch or problem shape, both where the sides differ."""
    if set(found) <= {"base", "new"}:
        return "; ".join(
            f"{side}: {shape(each) if each else figures.UNKNOWN}" for side, each in found.items()
        )
    told = []
    for key, value in found.items():
        if value is None:
            continue
        shown = figures.extent(value) if isinstance(value, list) else figures.size(value)
        told.append(f"{key} {shown}" if isinstance(value, list) else f"{key}={shown}")
    return " ".join(told) or figures.UNKNOWN


def promised(forecast: Forecast) -> str:
    """Name a forecast: what the target said was wrong, else its kernel or id as it is."""
    if forecast.problem:
        return heading(forecast.problem, forecast.kernel)
    return forecast.kernel or forecast.target_id


def forecast_verdict(forecast: Forecast) -> str:
    """Say in a word what came of a forecast."""
    if forecast.hit is None:
        return "not tried" if forecast.tried is False else "not known"
    return hit_or_miss(forecast.hit)


def hit_or_miss(hit: bool) -> str:
    """Say in a word whether what came lay in what was forecast."""
    return "hit" if hit else "miss"
