"""Runs the known kernels alone, then under every profiler and counter plan, and judges each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rocscope.capture import Capture
from rocscope.collectors import live_passes
from rocscope.collectors.live_outcome import Recorded
from rocscope.config import ProfileOptions
from rocscope.errors import ProfilerMissing, RocscopeError, TargetError
from rocscope.hardware import GpuSpec
from rocscope.launch.ask import ask
from rocscope.launch.interrupts import Interrupts
from rocscope.validation import examine
from rocscope.validation.trials import PLAIN, Options, Trial, Trials, command
from rocscope.validation.truth import PROGRAM, Truth, collect, parse
from rocscope.validation.verdict import Status, Verdict, judge, not_run

PROBE_S: Final = 180.0  # torch on a cold disk
TELEMETRY_HZ: Final = 5.0
LIMIT_S: Final = 900.0  # for one launch of the program, which takes less than a minute
_ENDED: Final = "you ended it before"

Say = Callable[[str], None]


@dataclass
class Outcome:
    """What was tried and what came of it."""

    truth: Truth | None = None  # of the run without a profiler
    verdicts: list[Verdict] = field(default_factory=list)
    captures: dict[str, Capture] = field(default_factory=dict)  # by the folder name of the trial
    truths: dict[str, list[Truth]] = field(default_factory=dict)
    interrupted: bool = False
    took_s: float = 0.0


def probe(python: str, device: int, environment: Mapping[str, str]) -> Truth:
    """Ask which GPU and which torch and Triton there are.

    Raises :class:`ProfilerMissing` without a torch that sees a GPU, and :class:`TargetError` where it hangs.
    """
    words = [python, str(PROGRAM), "--device", str(device), "--probe"]
    need = (
        "name a Python whose torch sees the GPU, for example that of vLLM: --python /path/to/venv/bin/python "
        "(on AMD: pip install torch --index-url of pytorch.org for your ROCm; it brings Triton)"
    )
    try:
        answer = ask(words, environment=environment, timeout_s=PROBE_S)
    except OSError as error:
        raise ProfilerMissing(f"{python}: {error.strerror}", need) from error
    if answer is None:
        raise TargetError(
            f"{python}: torch did not answer within {PROBE_S:g} s",
            "see whether the GPU answers at all: rocminfo, or rocm-smi",
        )
    if answer.exit_code:
        last = (answer.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ProfilerMissing(f"known kernels cannot be run with {python}: {last}", need)
    return parse(answer.stdout[answer.stdout.find("{") :], f"{python} {PROGRAM.name} --probe")


def run(
    trials: Trials,
    work: Path,
    device: Truth,
    *,
    progress: Say | None = None,
    say: Say | None = None,
) -> Outcome:
    """Run everything below ``work``, which is the user's own and not for sending.

    Whatever fails is a verdict and the rest goes on; Ctrl-C ends what is running in order, and what comes
    after is not run. Raises where not even the run without a profiler can be launched.
    """
    tell, loud = progress or (lambda _: None), say or (lambda _: None)
    outcome = Outcome(verdicts=list(trials.verdicts))
    began = time.monotonic()
    total = 1 + len(trials.trials)
    bench = _Bench(trials.options, work, device.device.spec(), outcome, loud)
    with Interrupts(loud) as interrupts:
        tell(f"1 of {total}: known kernels without a profiler")
        bench.plain(_labelled(tell, f"1 of {total}: no profiler"))
        for number, trial in enumerate(trials.trials, 2):
            if interrupts.requested or outcome.interrupted:
                outcome.interrupted = True
                outcome.verdicts.append(not_run("recorded", trial.name, f"{_ENDED} it"))
            elif outcome.truth is None:
                why = "the known kernels do not run without a profiler"
                outcome.verdicts.append(not_run("recorded", trial.name, why))
            else:
                left = sum(each.estimated_s for each in trials.trials[number - 2 :])
                label = f"{number} of {total}: {trial.name}"
                tell(f"{label} (about {max(1, round(left / 60))} min left in all)")
                bench.trial(trial, _labelled(tell, label))
        outcome.interrupted = outcome.interrupted or interrupts.requested
    outcome.took_s = time.monotonic() - began
    return outcome


def _labelled(tell: Say, label: str) -> Say:
    return lambda text: tell(f"{label}: {text}")


@dataclass
class _Bench:
    """Where trials are run, and what they add to."""

    options: Options
    work: Path
    spec: GpuSpec | None
    outcome: Outcome
    loud: Say

    def plain(self, tell: Say) -> None:
        """Run the known kernels without a profiler, with the card's sensors watched."""
        outcome = self.outcome
        folder = self.work / "no-profiler"
        recorded = self._record(folder, None, tell)
        outcome.interrupted = recorded.interrupted
        truths = self._collect(folder, PLAIN)
        if recorded.exit_code or not truths:
            code = recorded.exit_code
            why = f"{_ENDED} its end" if recorded.interrupted else f"the program ended with code {code}"
            status: Status = "not run" if recorded.interrupted else "fail"
            outcome.verdicts.append(Verdict(check="kernel", trial=PLAIN, status=status, why=why))
            return
        outcome.truth = next(iter(truths.values()))
        outcome.captures[folder.name] = recorded.capture
        outcome.verdicts += _judged(
            PLAIN, lambda truth: examine.plain(recorded.capture, truth), outcome.truth
        )

    def trial(self, which: Trial, tell: Say) -> None:
        """Run the known kernels under a profiler, and judge what it read."""
        outcome = self.outcome
        folder = self.work / which.folder
        try:
            recorded = self._record(folder, which, tell)
            outcome.interrupted = recorded.interrupted
            truths = self._collect(folder, which.name)
            outcome.captures[which.folder] = recorded.capture
            assert outcome.truth is not None  # noqa: S101  # seen to by the caller
            outcome.verdicts += _judged(
                which.name,
                lambda truth: examine.trial(which, recorded.capture, truths, truth),
                outcome.truth,
            )
            if recorded.interrupted:
                outcome.verdicts = _cut(outcome.verdicts, which.name)
        except RocscopeError as error:
            why, detail = "it could not be run to its end", f"{error.message} ({error.hint})"
            outcome.verdicts.append(judge(False, "recorded", which.name, why=why, detail=detail))
            self.loud(f"{which.name}: {error.message}")

    def _record(self, folder: Path, which: Trial | None, tell: Say) -> Recorded:
        launches = which.launches if which and which.profiler == "rocprof-compute" else 1
        return live_passes.record(
            command(self.options, folder / "truth", plain=which is None),
            ProfileOptions(
                profiler=which.profiler if which else "none",
                counters=which.level if which else "none",
                out=folder / "run",
                gpu=self.spec.name if self.spec else None,
                sample_hz=0,
                telemetry="none" if which else "auto",
                telemetry_hz=TELEMETRY_HZ,
                duration_s=LIMIT_S * launches,
                output_to_stderr=True,
            ),
            progress=tell,
            say=self.loud,
        )

    def _collect(self, folder: Path, trial: str) -> dict[int, Truth]:
        try:
            truths = collect(folder / "truth")
        except RocscopeError as error:
            why = "what the program wrote cannot be read"
            self.outcome.verdicts.append(judge(False, "kernel", trial, why=why, detail=error.message))
            return {}
        self.outcome.truths[folder.name] = list(truths.values())
        return truths


def _judged(trial: str, examined: Callable[[Truth], list[Verdict]], truth: Truth) -> list[Verdict]:
    """Return the verdicts; a check that cannot cope with what was read must not cost what else was."""
    try:
        return examined(truth)
    except Exception as error:  # noqa: BLE001  # whatever a strange recording makes a check do is told
        why = "the checks themselves failed on what was read"
        return [judge(False, "checks", trial, why=why, detail=f"{type(error).__name__}: {error}"[:300])]


def _cut(verdicts: list[Verdict], trial: str) -> list[Verdict]:
    """Turn failures of a trial that the user ended into what they are."""
    why = f"{_ENDED} its end"
    return [
        each.model_copy(update={"status": "not run", "why": why})
        if each.trial == trial and each.status == "fail"
        else each
        for each in verdicts
    ]
