"""All checks of one trial, or of the run without a profiler."""

from __future__ import annotations

from collections.abc import Iterator

from rocscope.capture import Capture
from rocscope.counter_plan import NONE
from rocscope.validation import checks_counters, checks_launches, checks_power, checks_times
from rocscope.validation.seen import Seen, read
from rocscope.validation.trials import PLAIN, Trial
from rocscope.validation.truth import Truth
from rocscope.validation.verdict import Verdict, judge, not_run

_TROUBLE = {  # notices of a recording that is not whole
    "data-lost": "a process that used the GPU left no data",
    "no-device-data": "the profiler left no data",
    "unreadable": "what the profiler left cannot be read",
    "pass-failed": "a pass under counters failed",
    "passes-cut": "it was ended before its last pass",
    "killed": "it had to be killed",
}


def plain(capture: Capture, truth: Truth) -> list[Verdict]:
    """Judge the run without a profiler: results, how steady the events are, power."""
    verdicts = [*_left_out(truth, PLAIN), *checks_times.results(truth, PLAIN)]
    verdicts += checks_times.spread(truth.kernels, PLAIN)
    return [*verdicts, *checks_power.power(capture, truth, PLAIN)]


def trial(which: Trial, capture: Capture, truths: dict[int, Truth], plain_truth: Truth) -> list[Verdict]:
    """Judge what one profiler read of the known kernels."""
    verdicts = [_recorded(which, capture)]
    own = _truth(capture, truths)
    if own is None:
        why = "the program did not end in order under it, so what it launched is not known"
        return [*verdicts, not_run("launches", which.name, why)]
    verdicts += _left_out(own, which.name, plain_truth)
    if not capture.dispatches.num_rows:
        return [*verdicts, not_run("launches", which.name, "no dispatch was recorded")]
    seen = read(which.name, own, capture)
    verdicts += checks_launches.launches(seen)
    verdicts += checks_times.order(seen)
    verdicts += checks_times.times(seen, plain_truth)
    verdicts += checks_times.rates(seen)
    if which.level == NONE and not capture.counters.num_rows:
        return verdicts
    verdicts += checks_launches.passes_agree(seen)
    return [*verdicts, *_counters(which, seen)]


def _counters(which: Trial, seen: Seen) -> Iterator[Verdict]:
    yield from checks_counters.sane(seen, which.counters)
    yield from checks_counters.waves(seen)
    yield from checks_counters.traffic(seen)
    yield from checks_counters.instructions(seen)
    yield from checks_counters.occupancy(seen)
    yield from checks_counters.cycles(seen)


def _recorded(which: Trial, capture: Capture) -> Verdict:
    troubles = [each for each in capture.manifest.notices if each.code in _TROUBLE]
    code = capture.manifest.exit_code
    why = [_TROUBLE[each.code] for each in troubles]
    why += [f"the program ended with code {code}"] if code else []
    return judge(
        not why,
        "recorded",
        which.name,
        expected=f"{which.launches} launches of the program, whole"
        if which.launches > 1
        else "the whole program",
        why="; ".join(dict.fromkeys(why)),
        detail="; ".join(each.message for each in troubles)[:600],
    )


def _truth(capture: Capture, truths: dict[int, Truth]) -> Truth | None:
    """Return what the process said whose times count; any run says the same but for its events."""
    from rocscope import metrics

    by_index = {each.process: each.pid for each in capture.manifest.processes}
    used = {by_index.get(each) for each in metrics.timing(capture).rows["process"].unique().to_pylist()}
    own = [truth for pid, truth in truths.items() if pid in used]
    first = sorted(truths.values(), key=lambda each: each.start_boottime_ns)
    return next(iter([*own, *first]), None)


def _left_out(truth: Truth, name: str, other: Truth | None = None) -> Iterator[Verdict]:
    """Say which kernels could not be run; one that ran without the profiler and not under it is a failure."""
    for case, reason in truth.left_out.items():
        if other is not None and other.kernel(case) is not None:
            why = "it ran without a profiler, and not under this one"
            yield judge(False, "kernel", name, kernel=case, why=why, detail=reason)
        else:
            yield not_run("kernel", name, "it does not run here", kernel=case, detail=reason)
