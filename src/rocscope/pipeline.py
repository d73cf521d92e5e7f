"""From recordings to findings, in one direction: load, classify, measure, analyse, rank, report."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from rocscope import assembly, report_files, served_choice
from rocscope.capture import Capture
from rocscope.config import AnalyzeOptions, ProfileOptions
from rocscope.errors import InputError, UsageError
from rocscope.findings import Analysis, Warned
from rocscope.study import Study

if TYPE_CHECKING:
    from rocscope.comparison import Comparison, Side
    from rocscope.comparison.measured_alone import Alone
    from rocscope.reports.report import Report

__all__ = [
    "Comparison",
    "Profiled",
    "analyze",
    "analyze_capture",
    "compare",
    "load",
    "load_table",
    "profile",
    "studied",
    "write_reports",
]

Progress = Callable[[str], None]
_WORTH_TABLES_S: Final = 5.0  # of a run without a profiler
write_reports = report_files.write_reports
_Place = str | os.PathLike[str]
_Recorded = _Place | Capture | Sequence[_Place | Capture]  # a recording, or repeats of one thing
_Options = TypeVar("_Options", AnalyzeOptions, ProfileOptions)


@dataclass
class Profiled:
    """What :func:`profile` made."""

    capture: Capture
    analysis: Analysis
    exit_code: int  # the command's own; 0 where we ended a server, 11 where a GPU process left no data
    paths: dict[str, Path] = field(default_factory=dict)  # reports, capture and logs by name
    lost: list[str] = field(default_factory=list)  # GPU processes without output


def profile(
    command: Sequence[str],
    options: ProfileOptions | None = None,
    *,
    progress: Progress | None = None,
    say: Progress | None = None,
    **chosen: Any,
) -> Profiled:
    """Launch ``command`` under a profiler, gather what all its processes left, analyse it, write reports.

    ``chosen`` are fields of :class:`ProfileOptions` (``out=Path("run1")``, ``duration_s=30``) and override
    ``options``. ``progress`` is told what is being done, ``say`` what a user has to see at once (lost data,
    processes that had to be killed). Raises :class:`rocscope.errors.RocscopeError` where nothing ran.
    """
    from rocscope.collectors import live_attach, live_passes

    options = _checked(ProfileOptions, options, chosen)
    taken = ("gpu", "model", "tp", "context", "forecasts")
    wanted = AnalyzeOptions(**{name: getattr(options, name) for name in taken})
    _check_before(wanted)
    if options.attach is not None:
        recorded = live_attach.record(options, progress=progress, say=say)
    else:
        recorded = live_passes.record(command, options, progress=progress, say=say)
    capture = recorded.capture
    _drop_unusable_model(capture, wanted)
    (progress or (lambda _: None))("analysing")
    folder = options.out / "capture"
    try:
        if capture.manifest.profiler == "none":
            analysis = _without_kernels(capture, wanted)
            paths = write_reports(analysis, capture, options.out, chosen=_plain_reports(options))
        else:
            analysis = analyze_capture(capture, wanted, progress)
            paths = write_reports(analysis, capture, options.out)
    except Exception:
        if not folder.exists():  # what was recorded may have taken hours: it is kept whatever comes of it
            capture.save(folder)
        raise
    paths |= {path.name: path for path in recorded.logs}
    return Profiled(capture, analysis, recorded.exit_code, paths, recorded.lost)


def _without_kernels(capture: Capture, options: AnalyzeOptions) -> Analysis:
    """Analyse a run that no profiler watched: its sensors and its host.

    What takes a moment itself is not kept waiting for the libraries that tables need.
    """
    analysis = assembly.without_kernels(capture, options)
    if not capture.samples.num_rows or (capture.manifest.duration_s or 0.0) < _WORTH_TABLES_S:
        return analysis
    from rocscope.analyzers import gpu_samples, host

    if gpu_samples.Telemetry.read(capture).gpus:
        return analyze_capture(capture, options)
    if found := host.summary(capture):
        analysis.telemetry["host"] = found
    return analysis


def _check_before(options: AnalyzeOptions) -> None:
    """Find out now, not after hours of profiling, that a GPU is unknown or a named file unusable."""
    from rocscope import forecast_choice

    forecast_choice.check(options.forecasts)
    if options.gpu:
        from rocscope import hardware

        hardware.by_name(options.gpu)
    if options.model:
        from rocscope.models.served import ServedModel

        ServedModel.load(options.model, options.tp or 1)


def _drop_unusable_model(capture: Capture, options: AnalyzeOptions) -> None:
    """Leave out a config that was merely found beside the model, where we cannot use it."""
    if capture.manifest.model is None or options.model:
        return
    from rocscope.models.served import ServedModel

    try:
        ServedModel.load(capture.manifest.model, 1)
    except InputError as error:
        capture.manifest.model = None
        capture.notice("model-unusable", f"the served model's config gives no shapes: {error.message}")


def __getattr__(name: str) -> Any:  # a class, imported when asked for
    if name == "Comparison":
        from rocscope.comparison import Comparison

        return Comparison
    raise AttributeError(f"module 'rocscope.pipeline' has no attribute {name!r}")


def load(*paths: _Place, progress: Progress | None = None, companions: bool = True) -> Capture:
    """Read recordings, or one saved capture, into a capture.

    What lies beside one that is named alone and is of its run is read too, unless ``companions`` is false.
    Raises :class:`rocscope.errors.InputError` where nothing can be used.
    """
    from rocscope.collectors import discovery

    return discovery.load([Path(path) for path in paths], progress=progress, companions=companions)


def load_table(path: _Place) -> Capture:
    """Read a CSV of kernels measured elsewhere, one row a kernel and launch shape, into a capture.

    See :mod:`rocscope.collectors.table` for its columns. Raises :class:`rocscope.errors.InputError`.
    """
    from rocscope.collectors import table

    return table.load(Path(path))


def analyze(
    *recording: _Place | Capture,
    options: AnalyzeOptions | None = None,
    progress: Progress | None = None,
    **chosen: Any,
) -> Analysis:
    """Label and rank the kernels of a recording: one capture, or paths that :func:`load` takes.

    ``chosen`` are fields of :class:`AnalyzeOptions` (``gpu="MI100"``, ``model=Path("config.json")``) and
    override ``options``. Raises :class:`rocscope.errors.RocscopeError`; a recording without GPU kernels is
    no error.
    """
    wanted = _checked(AnalyzeOptions, options, chosen)
    return analyze_capture(_capture(recording, wanted, progress), wanted, progress)


def analyze_capture(
    capture: Capture, options: AnalyzeOptions | None = None, progress: Progress | None = None
) -> Analysis:
    """Run everything from *classify* on over a capture. See :func:`analyze`."""
    return studied(capture, options or AnalyzeOptions(), progress)[1]


def studied(
    capture: Capture, options: AnalyzeOptions, progress: Progress | None = None
) -> tuple[Study, Analysis]:
    """Return the workspace of an analysis, and what it says. Raises as :func:`analyze`."""
    from rocscope import (
        ceilings_choice,
        forecast_choice,
        gpu_choice,
        metrics,
        ranking,
        selection,
        step_context,
        taxonomy,
    )
    from rocscope.analyzers import runner
    from rocscope.models import apply, given_context, sequence

    say = progress or (lambda _: None)
    capture = selection.select(capture, options)

    say("classifying kernels")
    names = taxonomy.classify(metrics.kernel_names(capture))

    say("measuring")
    specs, doubts = ceilings_choice.apply(
        capture.manifest, gpu_choice.specs(capture, options), options.ceilings
    )
    served, unused = served_choice.served(capture, options)
    kernels, placed = metrics.group(capture, names), None
    if reason := apply.contradiction(kernels, served):
        served = None
        text = f"the model is not the one of this recording, or split otherwise (--tp): {reason}"
        unused = Warned(code="model-mismatch", message=f"{text}; its shapes are not used")
    elif served and (placed := sequence.place(metrics.timing(capture).rows, names, served)):
        kernels = metrics.group(capture, names, placed)
    kernels = given_context.fill(step_context.add(kernels, capture, placed), options.context)
    kernels = apply.apply(kernels, specs, served)

    say("analysing")
    gains, unread = forecast_choice.apply(capture.manifest, options.forecasts)
    study = Study(capture, options, kernels, specs, served=served, placed=placed, gains=gains)
    doubts += [*unread, *([unused] if unused else []), *gpu_choice.overridden(capture, specs)]
    for each in doubts:
        study.warn(each.code, each.message)
    runner.run(study)

    say("ranking")
    targets, not_evaluated = ranking.rank(study.kernels, study.targets, study.gains)
    return study, assembly.analysis(study, targets, not_evaluated)


def compare(
    base: _Recorded,
    new: _Recorded,
    *more: _Recorded,
    options: AnalyzeOptions | None = None,
    across: Sequence[str] = (),
    level: float = 0.95,
    tried: Sequence[str] = (),
    tables: Sequence[_Place] = (),
    keep: bool = False,
    progress: Progress | None = None,
    **chosen: Any,
) -> Comparison:
    """Say what changed from ``base`` to ``new``, and to each of ``more``; ``options`` apply to all.

    Each is a recording, or several of one thing: a folder of them, or a list. ``across`` names what was
    changed on purpose (``"mode"``, ``"gpu"``, ``"dtype"``, ``"tp"``, ``"model"``), ``level`` the chance with
    which all intervals hold at once. ``tried`` holds ids of base's targets that were worked on, or how they
    start: their forecasts are scored also where no change is seen. ``tables`` of kernels measured alone, as
    :func:`load_table` takes them, are evidence for reasons. With ``keep`` the forecasts that were scored are
    entered in this user's ledger. Raises as :func:`analyze`.
    """
    from rocscope import __version__, comparison, track_record

    wanted = _checked(AnalyzeOptions, options, chosen)
    if not 0.5 <= level < 1:
        raise UsageError(f"--level {level:g}: not a level of confidence", "write for example 0.95 or 95%")
    given = comparison.comparable.check(across)
    sides = [_side(each, wanted, progress) for each in (base, new, *more)]
    if isinstance(base, str | os.PathLike | Capture):
        sides[0].forecast = track_record.stored(base, sides[0].capture, wanted)
    for each in sides:
        each.alone = [_alone(path, each, wanted) for path in tables]
    (progress or (lambda _: None))("comparing")
    found = comparison.compare_all(sides, tried, across=given, level=level)
    if keep:
        found.notes.extend(track_record.keep(found, *sides[:2], options=wanted, version=__version__))
    return found


def _side(recorded: _Recorded, options: AnalyzeOptions, progress: Progress | None) -> Side:
    """Return one side of a comparison, with its repeats. Raises :class:`InputError` where those are none."""
    from rocscope.collectors import repeats
    from rocscope.comparison import comparable

    captures: list[Capture] = []
    for each in recorded if isinstance(recorded, Sequence) and not isinstance(recorded, str) else [recorded]:
        if isinstance(each, Capture):
            captures.append(each)
        else:
            captures += repeats.load(Path(each), progress=progress, companions=options.companions)
    if not captures:
        raise UsageError("no recording named", "name at least one on either side")
    sides = [side(each, options, progress) for each in captures]
    for number, other in enumerate(sides[1:], 2):
        if why := comparable.likeness(sides[0], other).why_not:
            raise InputError(
                f"repeat {number} is of something else than repeat 1: {'; '.join(why)}",
                "keep recordings of one setting in a folder, and name the others with BASE, NEW or MORE",
            )
    return sides[0].model_copy(update={"repeats": sides}) if len(sides) > 1 else sides[0]


def _alone(path: _Place, beside: Side, options: AnalyzeOptions) -> Alone:
    """Analyse a table of kernels measured alone with what is known of one side of a comparison."""
    from rocscope.comparison.measured_alone import Alone

    gpu = options.gpu or next((gpu.model for gpu in beside.analysis.gpus), None)
    if gpu is None:
        raise UsageError(
            f"{path}: on which GPU it was measured is not told", "name it, for example --gpu MI100"
        )
    capture = load_table(path)
    capture.manifest.model = beside.model
    return Alone(Path(path).name, studied(capture, options.model_copy(update={"gpu": gpu}))[0].kernels)


def side(capture: Capture, options: AnalyzeOptions | None = None, progress: Progress | None = None) -> Side:
    """Analyse a recording and return it as one side of a comparison. Raises as :func:`analyze`."""
    from rocscope.comparison import Side

    options = options or AnalyzeOptions()
    study, found = studied(capture, options, progress)
    served = served_choice.served(capture, options)[0]
    return Side(
        capture=study.capture,
        analysis=found,
        model=capture.manifest.model,
        tp=options.tp or capture.manifest.model_tp or (served.tp if served else None),
        kernels=study.kernels,
        placed=study.placed,
        served=study.served,
    )


def _plain_reports(options: ProfileOptions) -> tuple[Report[Analysis], ...] | None:
    """Where no device data was asked for and no folder named, the reports that need no charts."""
    if options.every_report:
        return None
    from rocscope.reports import contract, markdown

    return (contract.REPORT, markdown.REPORT)


def _capture(
    recording: tuple[_Place | Capture, ...], options: AnalyzeOptions, progress: Progress | None = None
) -> Capture:
    paths = [each for each in recording if not isinstance(each, Capture)]
    if len(paths) < len(recording) > 1:
        raise UsageError("one capture or several paths, not both", "analyse them one by one")
    found = [each for each in recording if isinstance(each, Capture)]
    return found[0] if found else load(*paths, progress=progress, companions=options.companions)


def _checked(kind: type[_Options], options: _Options | None, chosen: dict[str, Any]) -> _Options:
    from pydantic import ValidationError

    try:
        return kind.model_validate({**(options.model_dump() if options else {}), **chosen})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where}: {first['msg']}", f"see rocscope.config.{kind.__name__}") from error
